"""``agentctl demo``: the whole story in a temporary home, played by the real program."""
