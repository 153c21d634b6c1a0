"""Identities, workspaces, clones, branches, salvage, teardown; starts no agent work."""
