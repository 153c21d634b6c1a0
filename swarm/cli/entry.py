"""The console entry: Ctrl-C is one line from the first import on."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run ``agentctl``; reading it in takes most of a short command's time."""
    try:
        from swarm.cli.main import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("agentctl: interrupted\n")
        sys.exit(130)  # swarm.errors.Interrupted, which may not be read in yet
