"""The control socket as the command line uses it; the client itself is the desk's."""

from __future__ import annotations

import os

from swarm.config.places import Places
from swarm.desk.control import (
    HUNG,
    MAX_SOCKET_PATH,
    PATIENCE,
    START_ONE,
    Hung,
    HungUp,
    ask,
    check_socket_path,
    not_running,
    poke,
    refuse_frozen,
)

__all__ = [
    "HUNG",
    "MAX_SOCKET_PATH",
    "PATIENCE",
    "START_ONE",
    "Hung",
    "HungUp",
    "ask",
    "check_socket_path",
    "here",
    "not_running",
    "poke",
    "refuse_frozen",
]


def here() -> Places:
    """The home this command line is about."""
    return Places.of(os.environ)
