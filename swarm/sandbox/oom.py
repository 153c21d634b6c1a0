"""Who the kernel takes when the whole machine runs out of memory: a session, before any of us.

``oom_score_adj`` of proc(5): -1000 to 1000, inherited by children.  Raising it needs no privilege,
lowering it ``CAP_SYS_RESOURCE``.
"""

from __future__ import annotations

import os
from contextlib import suppress

SESSION = 500
"""Added to a session's: it is taken before daemons, services and the supervisor."""
SUPERVISOR = -500
"""The supervisor's own, where it may: all else dies with it."""
_FILE = "/proc/self/oom_score_adj"
_WORST = 1000


def score() -> int:
    """The calling process's; 0 where it cannot be read."""
    try:
        fd = os.open(_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return int(os.read(fd, 16))
    finally:
        os.close(fd)


def worsen(by: int) -> None:
    """Make this process, and all it will start, so much likelier to be taken."""
    with suppress(OSError):  # no /proc, or one that is not written: the memory limits still hold
        _set(min(_WORST, score() + by))


def protect() -> bool:
    """Make this process unlikely to be taken; whether it may.  Its children must :func:`forgo`."""
    try:
        _set(min(score(), SUPERVISOR))
    except OSError:
        return False
    return True


def may_protect() -> bool:
    """Whether :func:`protect` would work here; nothing stays changed."""
    before = score()
    if not protect():
        return False
    _set(before)
    return True


def forgo() -> None:
    """Give up what was inherited of :func:`protect`."""
    if score() < 0:
        with suppress(OSError):
            _set(0)


def _set(value: int) -> None:
    fd = os.open(_FILE, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, str(value).encode())
    finally:
        os.close(fd)
