"""The command line: a client of the control socket and a user of the ledger."""
