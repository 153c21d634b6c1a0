"""``python -m swarm.supervisor``."""

import sys

try:  # what it imports takes a moment, and Ctrl-C right after `up` is no error of ours
    from swarm.supervisor.main import main
except KeyboardInterrupt:
    sys.stderr.write("agentctl: interrupted before it was up\n")
    raise SystemExit(130) from None

raise SystemExit(main())
