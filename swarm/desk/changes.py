"""Waiting for a change of the ledger without looking again and again.

Whoever commits writes to the ledger's ``-wal`` file, and inotify(7) says so.  The write comes an
instant before others can see what it says, so a waiter then looks at SQLite's own number of
changes until that has moved.  A slow look besides makes up for whatever inotify cannot say.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from asyncinotify import Inotify, Mask

from swarm.errors import LedgerError
from swarm.ledger import Ledger, open_ledger

T = TypeVar("T")

LOOK_SECONDS = 1.0
"""How often the number of changes is read all the same: some 20 µs each."""
DEAF_SECONDS = 0.05
"""The same where the kernel gives us no inotify (inotify(7), ENOSPC: the user's limit)."""
PACE_SECONDS = 0.05
"""Between two looks while others write without pause; the first one after a silence is at once."""
REST = 20
"""A look that took so long is followed by a rest so many times as long."""
SETTLING = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128)
"""Seconds between the looks after a write: a commit is seen within some µs, a busy machine's
later, one that was rolled back never."""


class Changes:
    """Wakes whoever waits for a change of the ledger at ``path``; belongs to one event loop.

    Any number may wait at once.  While nobody does it does nothing.  Raises
    :class:`~swarm.errors.LedgerError` when the ledger cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._ledger: Ledger = open_ledger(path)  # of its own: it sees what our others commit
        self._seen = self._ledger.data_version()
        self._inotify = _listen(path)
        self._changed = asyncio.Event()
        self._waiters = 0
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Changes:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Wake nobody any more, and let go of the ledger."""
        await self._rest()
        if self._inotify is not None:
            self._inotify.close()
        self._ledger.close()

    async def until(
        self,
        look: Callable[[], T | None],
        seconds: float | None = None,
        every: float | None = None,
    ) -> T | None:
        """What ``look`` finds, asked now and after each change; ``None`` after ``seconds``.

        ``every`` so many seconds it is asked besides.  What it raises ends the wait.
        """
        loop = asyncio.get_running_loop()
        end = None if seconds is None else loop.time() + seconds
        self._begin()
        try:
            while True:
                changed, began = self._changed, loop.time()
                if (found := look()) is not None:
                    return found
                rest = REST * (loop.time() - began)
                left = None if end is None else end - loop.time()
                if left is not None and left <= 0:
                    return None
                if rest > PACE_SECONDS:  # a look at many tasks takes its time
                    await asyncio.sleep(rest if left is None else min(rest, left))
                waits = [one for one in (left, every) if one is not None]
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(waits, default=None)):
                        await changed.wait()
        finally:
            self._waiters -= 1
            if not self._waiters and self._watching is not None:
                self._watching.cancel()

    def _begin(self) -> None:
        self._waiters += 1
        if self._watching is None or self._watching.cancelling() or self._watching.done():
            self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def _rest(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
            self._watching = None

    async def _watch(self) -> None:
        """Ring for each change; who waits asks by himself what it was."""
        while True:
            await self._next()
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()
            await asyncio.sleep(PACE_SECONDS)

    async def _next(self) -> None:
        while not self._moved():
            if self._inotify is None:
                await asyncio.sleep(DEAF_SECONDS)
            elif await _written(self._inotify):
                for pause in SETTLING:
                    if self._moved():
                        return
                    await asyncio.sleep(pause)

    def _moved(self) -> bool:
        """Whether anything was committed since this was last asked."""
        try:
            now = self._ledger.data_version()
        except LedgerError:
            return True  # who looks will hear the same, and say it
        moved, self._seen = now != self._seen, now
        return moved


def _listen(path: Path) -> Inotify | None:
    try:
        inotify = Inotify()
    except OSError:
        return None
    try:
        # It is there while any connection is, and ours is (https://sqlite.org/wal.html).
        inotify.add_watch(path.with_name(path.name + "-wal"), Mask.MODIFY)
    except OSError:
        inotify.close()
        return None
    return inotify


async def _written(inotify: Inotify) -> bool:
    """Whether somebody wrote, soon."""
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            await inotify.get()
    except TimeoutError:
        return False
    return True
