"""Agent CLIs: what each is started with, what it prints, and how its run ended.  No I/O."""
