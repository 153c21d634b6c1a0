"""The shell around ``core.fleet``: loop, inbox, clock, signals, spawn port, control server."""
