"""When the fleet wants to be looked at again: many deadlines, one heap."""

from __future__ import annotations

import heapq
import math
from typing import TypeAlias

Key: TypeAlias = tuple[str, str]
"""What the deadline is for, and whose it is."""


class Timers:
    """One deadline a key.  Setting it anew replaces it; cost is logarithmic in their number.

    Replaced entries stay in the heap until they come to its top (or outnumber the rest): a
    thousand children change their deadlines far more often than one of them passes.
    """

    __slots__ = ("_at", "_heap")

    def __init__(self) -> None:
        self._at: dict[Key, float] = {}
        self._heap: list[tuple[float, Key]] = []

    def set(self, key: Key, at: float | None) -> None:
        """Look at ``key`` at ``at``; ``None`` or infinity: never."""
        if at is None or math.isinf(at):
            self._at.pop(key, None)
        elif self._at.get(key) != at:
            self._at[key] = at
            heapq.heappush(self._heap, (at, key))
            if len(self._heap) > 64 + 4 * len(self._at):
                self._heap = [(when, whose) for whose, when in self._at.items()]
                heapq.heapify(self._heap)

    def all(self) -> dict[Key, float]:
        """Every deadline there is."""
        return dict(self._at)

    def next(self) -> float | None:
        """The earliest deadline."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[Key]:
        """The keys whose deadline has passed, earliest first; they have none any more."""
        passed: list[Key] = []
        while (at := self.next()) is not None and at <= now:
            key = heapq.heappop(self._heap)[1]
            del self._at[key]
            passed.append(key)
        return passed
