"""``python -m swarm.supervisor``."""

from swarm.supervisor.main import main

raise SystemExit(main())
