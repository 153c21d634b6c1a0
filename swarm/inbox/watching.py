"""The inbox seen by inotify: every change of it as one call, and nothing while nothing happens.

``asyncinotify`` reads the kernel's queue; this module knows which drop an event is about.  A folder
that is made in the inbox is watched to its depth while it grows; one that is moved in is whole.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import asyncinotify
from asyncinotify import Event, Inotify, Mask

from swarm.inbox.settling import Seen

TOP = (
    Mask.CREATE | Mask.CLOSE_WRITE | Mask.MOVED_TO | Mask.MOVED_FROM | Mask.DELETE | Mask.ATTRIB
    | Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.ONLYDIR
)  # fmt: skip
TREE = TOP | Mask.DONT_FOLLOW
OVER = Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.UNMOUNT | Mask.IGNORED
BATCH = 500
"""Events dealt with before others of the loop have their turn."""


class Watch:
    """Watches ``inbox``, and ``aside`` (its quarantine) for what is taken out of it.

    ``saw(name, seen, inside)`` hears of each change, ``lost()`` that changes were missed or the
    folder itself has gone: then everything is to be looked at anew, with another watch in the
    latter case (:attr:`over`).  ``freed()``: something went out of ``aside``.  Raises ``OSError``
    where it cannot watch.
    """

    def __init__(
        self,
        inbox: Path,
        aside: Path,
        saw: Callable[[str, Seen, str], None],
        blind: Callable[[str], None],
        lost: Callable[[], None],
        freed: Callable[[], None],
    ) -> None:
        self._inbox = inbox
        self._saw, self._blind, self._lost, self._freed = saw, blind, lost, freed
        self.over = False
        """The folder is not the one that was watched any more."""
        self._trees: dict[int, tuple[str, str]] = {}
        """By watch descriptor: the drop, and the folder inside it (empty: itself)."""
        self._of: dict[str, list[asyncinotify.Watch]] = {}
        """The same by drop."""
        self._inotify = Inotify(cache_size=128, sync_timeout=0)
        try:
            self._top = self._inotify.add_watch(inbox, TOP).wd
            outside = Mask.DELETE | Mask.MOVED_FROM | Mask.ONLYDIR
            self._aside = self._inotify.add_watch(aside, outside).wd
            asyncio.get_running_loop().add_reader(self._inotify.fd, self._read)
        except BaseException:
            self._inotify.close()
            raise

    def close(self) -> None:
        """Watch no more."""
        asyncio.get_running_loop().remove_reader(self._inotify.fd)
        self._inotify.close()

    def _read(self) -> None:
        for _ in range(BATCH):
            event = self._inotify.sync_get()
            if event is None:
                return
            self._take(event)
            if self.over:
                asyncio.get_running_loop().remove_reader(self._inotify.fd)
                return
        loop = asyncio.get_running_loop()  # some are read from the kernel, and make no more noise
        loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        with suppress(ValueError):  # closed meanwhile
            if self._inotify.fd >= 0:
                self._read()

    def _take(self, event: Event) -> None:
        mask = event.mask
        if mask & Mask.Q_OVERFLOW:
            self._lost()
            return
        wd = event.watch.wd if event.watch is not None else -1
        if wd == self._aside:
            self._freed()
        elif wd == self._top:
            if event.name is None:
                if mask & OVER:
                    self.over = True
                    self._lost()
                return
            self._top_event(str(event.name), mask)
        elif (tree := self._trees.get(wd)) is not None:
            self._tree_event(wd, tree, event)

    def _top_event(self, name: str, mask: Mask) -> None:
        if mask & (Mask.DELETE | Mask.MOVED_FROM):
            self._saw(name, Seen.GONE, "")
            if mask & Mask.ISDIR:
                self._forget(name)
        elif mask & Mask.MOVED_TO:
            self._saw(name, Seen.ARRIVED, "")
        elif mask & Mask.CREATE and mask & Mask.ISDIR:
            self._saw(name, Seen.GROWING, "")
            self._follow(name, "")
        elif mask & Mask.CREATE:
            self._saw(name, self._created(name), "")
        elif mask & Mask.CLOSE_WRITE:
            self._saw(name, Seen.CLOSED, "")
        else:
            self._saw(name, Seen.CHANGED, "")

    def _created(self, inside: str) -> Seen:
        """A file that somebody writes, or one that is there at once: a link, a pipe."""
        try:
            status = os.lstat(self._inbox / inside)
        except OSError:
            return Seen.CREATED
        whole = not stat.S_ISREG(status.st_mode) or status.st_nlink > 1
        return Seen.ARRIVED if whole else Seen.CREATED

    def _tree_event(self, wd: int, tree: tuple[str, str], event: Event) -> None:
        name, folder = tree
        mask = event.mask
        if event.name is None:
            if mask & Mask.IGNORED:
                self._trees.pop(wd, None)
            return
        inside = os.path.join(folder, str(event.name))
        if mask & Mask.ISDIR:
            self._saw(name, Seen.CHANGED, inside)
            if mask & (Mask.CREATE | Mask.MOVED_TO):
                self._follow(name, inside)
        elif mask & Mask.CREATE:
            made = self._created(os.path.join(name, inside))
            self._saw(name, Seen.CHANGED if made is Seen.ARRIVED else made, inside)
        elif mask & (Mask.DELETE | Mask.MOVED_FROM):
            self._saw(name, Seen.GONE, inside)
        elif mask & Mask.CLOSE_WRITE:
            self._saw(name, Seen.CLOSED, inside)
        else:
            self._saw(name, Seen.CHANGED, inside)

    def _follow(self, name: str, inside: str) -> None:
        """Watch a folder of a drop and those in it; there may be some by now, unseen."""
        waiting = [inside]
        while waiting:
            here = waiting.pop()
            path = os.path.join(self._inbox, name, here)
            try:
                watch = self._inotify.add_watch(path, TREE)
                self._trees[watch.wd] = (name, here)
                self._of.setdefault(name, []).append(watch)
                with os.scandir(path) as found:
                    entries = [one for one in found if one.is_dir(follow_symlinks=False)]
            except (FileNotFoundError, NotADirectoryError):
                continue  # gone meanwhile
            except OSError:  # no more watches to be had, or a folder that cannot be read
                self._blind(name)
                return
            waiting += [os.path.join(here, entry.name) for entry in entries]

    def _forget(self, name: str) -> None:
        """It has left the inbox: what happens in it is nobody's business any more."""
        for watch in self._of.pop(name, ()):
            if self._trees.pop(watch.wd, None) is not None:
                with suppress(OSError):
                    self._inotify.rm_watch(watch)
