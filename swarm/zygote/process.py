"""The few Linux calls around a fork that Python has no name for."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, argument: int | bytes) -> None:
    if _libc.prctl(option, argument, 0, 0, 0) != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"prctl({option}): {os.strerror(errno)}")


def become_subreaper() -> None:
    """Make this process the parent of every orphan below it (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Be killed when the parent, process ``parent``, dies; exit now when it is gone already.

    Must be armed after re-parenting: the kernel sends the signal when the *current* parent ends
    (prctl(2), PR_SET_PDEATHSIG).  It reaches a stopped process too, which end-of-file on a
    socket does not (rules, "Lives").
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def set_process_name(name: str) -> None:
    """Name this process for ``ps`` and ``top``; the kernel keeps 15 bytes."""
    _prctl(_PR_SET_NAME, name.encode()[:15])
