"""When a drop has settled: what the watch saw and how it looks now, ``now`` an argument.  Pure.

A drop is looked at when it has been quiet for as long as it must, and taken in when that look
bears the quiet out: by the age of its youngest change, or because it looks as it did at the look
before (clocks may be put back, and a watch may have missed something).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from enum import Enum, auto

OPEN_SECONDS = 10.0
"""A file whose writer was not seen to close it is looked at after so long: a link made in place is
never closed, and the watch may have missed something."""
BUSY_SECONDS = 1.0
"""Between two looks at what somebody has open for writing; the watch mostly knows before."""
FOLDER_SECONDS = 0.05
"""Quiet that a growing folder needs even where no settle time is asked for: between two files of a
copy lies less than a millisecond."""
BLIND_SECONDS = 1.0
"""The same for what could not be watched, or was not from its beginning."""
EMPTY_SECONDS = 10.0
"""An empty file is given so long to be written to."""
MIN_WAIT = 0.005


class Seen(Enum):
    """What the watch saw of a drop."""

    CREATED = auto()
    """A file was made; whoever made it has it open for writing."""
    GROWING = auto()
    """A folder was made; its contents follow."""
    CLOSED = auto()
    """A writer closed the file."""
    ARRIVED = auto()
    """It was moved in as it is."""
    FOUND = auto()
    """It was there already."""
    CHANGED = auto()
    """Something in it changed."""
    GONE = auto()
    """It is not there any more."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a drop looks, its whole tree."""

    mark: tuple[int, ...]
    """Equal at two looks when nothing has changed between them."""
    age: float
    """Seconds since its youngest change; negative where the clock was put back."""
    empty: bool = False
    """A file without content."""
    busy: bool = False
    """Somebody has it, or a file in it, open for writing."""


@dataclass(slots=True)
class _Drop:
    since: float
    changed_at: float
    folder: bool = False
    blind: bool = False
    writing: set[str] = field(default_factory=set)
    """Files in it that somebody has open for writing; ``""`` is the drop itself."""
    mark: tuple[int, ...] | None = None
    not_before: float = 0.0
    changes: int = 0
    looking: int | None = None
    """``changes`` when a look at it began."""
    planned: float | None = None
    """When the order has it; the earliest, where it has it more than once."""


class Settling:
    """The drops that are not taken in yet.  ``settle`` is the seconds of quiet asked for.

    Feed it with :meth:`saw`; look at what :meth:`due` names and tell :meth:`looked`.
    """

    def __init__(self, settle: float) -> None:
        self._settle = settle
        self._drops: dict[str, _Drop] = {}
        self._order: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._drops)

    def saw(self, name: str, seen: Seen, now: float, inside: str = "") -> None:
        """The watch saw this of a drop; ``inside`` names the file within it that is meant."""
        if seen is Seen.GONE and not inside:
            self._drops.pop(name, None)
            return
        drop = self._drops.get(name)
        if drop is None or (not inside and seen in (Seen.GROWING, Seen.ARRIVED, Seen.FOUND)):
            drop = self._drops[name] = _Drop(now, now)
        drop.changed_at = now
        drop.not_before = 0.0
        drop.changes += 1
        match seen:
            case Seen.CREATED:
                drop.writing.add(inside)
            case Seen.GROWING if not inside:
                drop.folder = True
            case Seen.CLOSED | Seen.GONE:
                drop.writing.discard(inside)
            case Seen.FOUND:
                drop.blind = True
            case _:
                pass
        self._plan(name, drop)

    def unwatched(self, name: str) -> None:
        """Not all that happens in this folder is seen."""
        if drop := self._drops.get(name):
            drop.blind = True
            self._plan(name, drop)

    def waits(self, settle: float) -> None:
        """So many seconds of quiet from now on."""
        self._settle = settle
        for name, drop in self._drops.items():
            self._plan(name, drop)

    def deadline(self) -> float | None:
        """When something may be due; ``None`` while nothing waits."""
        while self._order:
            at, name = self._order[0]
            drop = self._drops.get(name)
            stale = drop is None or drop.planned != at
            if drop is not None and not stale and self._due_at(drop) <= at:
                return at
            heapq.heappop(self._order)
            if drop is not None and not stale:  # it has changed since it was planned
                drop.planned = None
                self._plan(name, drop)
        return None

    def due(self, now: float, most: int = 64) -> list[str]:
        """What is to be looked at now, at most so many.

        Each is one's to end by :meth:`looked` or :meth:`again`.
        """
        found: list[str] = []
        while len(found) < most and (at := self.deadline()) is not None and at <= now:
            _, name = heapq.heappop(self._order)
            drop = self._drops[name]
            drop.planned, drop.looking = None, drop.changes
            found.append(name)
        return found

    def looked(self, name: str, look: Look | None, now: float) -> bool:
        """How it looks (``None``: it is gone); true when it is to be taken in, and is forgotten."""
        drop = self._drops.get(name)
        if drop is None:
            return False
        began, drop.looking = drop.looking, None
        if look is None:
            del self._drops[name]
            return False
        quiet = self._quiet(drop)
        left = 0.0
        if look.empty:
            left = drop.since + EMPTY_SECONDS - now
        elif look.busy:
            left = max(quiet, BUSY_SECONDS)
        elif began == drop.changes and look.mark != drop.mark and look.age < quiet:
            left = min(quiet - look.age, quiet)
        if began == drop.changes and left <= 0:
            del self._drops[name]
            return True
        drop.mark = look.mark
        drop.not_before = now + max(left, MIN_WAIT)
        self._plan(name, drop)
        return False

    def again(self, name: str, at: float) -> None:
        """It could not be looked at or taken in; not before ``at``."""
        drop = self._drops.setdefault(name, _Drop(at, at, blind=True))
        drop.looking = None
        drop.not_before = at
        self._plan(name, drop)

    def _quiet(self, drop: _Drop) -> float:
        if drop.writing:
            return max(self._settle, OPEN_SECONDS)
        if drop.blind:
            return max(self._settle, BLIND_SECONDS)
        return max(self._settle, FOLDER_SECONDS) if drop.folder else self._settle

    def _due_at(self, drop: _Drop) -> float:
        return max(drop.changed_at + self._quiet(drop), drop.not_before)

    def _plan(self, name: str, drop: _Drop) -> None:
        at = self._due_at(drop)
        if drop.looking is None and (drop.planned is None or at < drop.planned):
            drop.planned = at
            heapq.heappush(self._order, (at, name))
