"""``python -m swarm.cli`` is ``agentctl``."""

from swarm.cli.entry import main

if __name__ == "__main__":
    main()
