"""A work folder inside a hub, for one process at a time, gone when its user is.

Its lock is the kernel's, so a killed user holds nothing; what such a one left in the folder is
removed before the next begins.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from swarm.errors import GitError
from swarm.spawner.folders import remove_tree

_LOOK_SECONDS = 0.02


@contextmanager
def work_folder(hub: str, name: str, wait: float) -> Iterator[str]:
    """The empty folder ``<hub>/<name>``, held by nobody else; removed at the end.

    Waits at most ``wait`` seconds for who holds it.  Raises :class:`~swarm.errors.GitError` when
    it is still held then, or cannot be made.
    """
    folder = os.path.join(hub, name)
    try:
        lock = os.open(f"{folder}.turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise GitError(f"{folder} cannot be locked: {error.strerror}", "make room") from None
    try:
        _take(lock, folder, wait)
        try:
            remove_tree(folder)
            os.mkdir(folder, 0o700)
        except OSError as error:
            raise GitError(f"{folder} cannot be made: {error.strerror}", "make room") from None
        try:
            yield folder
        finally:
            with suppress(OSError):  # the next one removes it first, and says what is in its way
                remove_tree(folder)
    finally:
        os.close(lock)


def _take(lock: int, folder: str, wait: float) -> None:
    end = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise GitError(f"{folder} is in use by another process", "try again") from None
            time.sleep(_LOOK_SECONDS)
        else:
            return
