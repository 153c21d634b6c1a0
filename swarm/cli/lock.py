"""Who runs the swarm of a home, as the command line asks it; the answer is the desk's."""

from swarm.desk.lock import (
    Holder,
    find_holder,
    is_frozen,
    is_locked,
    send,
    start_time,
    wait_until_free,
)

__all__ = [
    "Holder",
    "find_holder",
    "is_frozen",
    "is_locked",
    "send",
    "start_time",
    "wait_until_free",
]
