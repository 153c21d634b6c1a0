"""``agentctl chaos``: a bounded storm by seed against a fleet of its own, and its verdict."""
