"""Memory and processor use of whole process trees.

Cheap enough for a thousand idle daemons: one pass over ``/proc`` serves every tree, and the costly
proportional memory (PSS, by psutil) of forked daemons is taken in rotation, a few at each sample.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import psutil

from swarm.health.processes import TICK, Process, Table

PSS_A_SAMPLE = 20
"""Roots whose proportional memory is measured at one sample: about 0.3 ms each."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One tree at one moment."""

    memory_mb: float
    """A lone daemon: proportional set size.  With a session: that plus the resident memory of
    every process below it, which may count shared pages twice but never too little."""
    cpu_percent: float
    """Of one core, since the sample before; 0 at the first."""
    processes: int
    """Members of the tree, its root included."""


class Sampler:
    """Remembers what it needs between samples; processes that are gone are forgotten."""

    def __init__(self) -> None:
        self._spent = Spent()
        self._pss: dict[tuple[int, int], float] = {}
        self._turn = 0

    def sample(self, roots: Mapping[str, int], table: Table | None = None) -> dict[str, Sample]:
        """Measure the tree below each named pid.  A root that is gone is left out."""
        table = table or Table.now()
        now = time.monotonic()
        turn = self._pss_turn(list(roots))
        samples: dict[str, Sample] = {}
        pss: dict[tuple[int, int], float] = {}
        self._spent.begin()
        for name, pid in roots.items():
            tree = table.tree(pid)
            if not tree:
                continue
            root = tree[0]
            known = self._pss.get(root.key)
            fresh = name in turn or known is None
            pss[root.key] = _proportional_mb(root) if fresh or known is None else known
            memory = pss[root.key] + sum(one.rss_mb for one in tree[1:])
            seconds, since = self._spent.of(name, tree, now)
            percent = 100.0 * seconds / since if since > 0 else 0.0
            samples[name] = Sample(round(memory, 2), round(percent, 2), len(tree))
        self._spent.forget_others()
        self._pss = pss
        return samples

    def _pss_turn(self, names: list[str]) -> set[str]:
        """Whose proportional memory is measured this time; everyone's while they are few."""
        if len(names) <= PSS_A_SAMPLE:
            return set(names)
        start = self._turn % len(names)
        self._turn = start + PSS_A_SAMPLE
        return set((names + names)[start : start + PSS_A_SAMPLE])


@dataclass(frozen=True, slots=True)
class _Before:
    """A tree at its last look."""

    root: tuple[int, int]
    ticks: Mapping[tuple[int, int], int]
    """Of each member, its own."""
    total: int
    """With those of reaped children."""
    at: float


class Spent:
    """Processor time of trees between two looks, that of processes which came and went included.

    A process that ends is added to its parent's account when it is waited for, so the sum over a
    tree of what members used and what their reaped children used grows by all that was computed.
    Where nobody waits (``SIGCHLD`` ignored) that account is lost; then what the living members
    used is the better number.  The larger of the two is taken.
    """

    __slots__ = ("_before", "_now")

    def __init__(self) -> None:
        self._before: dict[Hashable, _Before] = {}
        self._now: dict[Hashable, _Before] = {}

    def begin(self) -> None:
        """A new round of looks."""
        self._now = {}

    def of(self, name: Hashable, tree: list[Process], now: float) -> tuple[float, float]:
        """Seconds of processor time since the last look, and how long ago that was (0: never)."""
        ticks = {one.key: one.cpu_ticks for one in tree}
        total = sum(one.cpu_ticks + one.reaped_ticks for one in tree)
        before = self._before.get(name)
        self._now[name] = _Before(tree[0].key, ticks, total, now)
        if before is None or before.root != tree[0].key:
            return 0.0, 0.0
        living = sum(max(0, used - before.ticks.get(key, 0)) for key, used in ticks.items())
        return max(total - before.total, living, 0) * TICK, now - before.at

    def forget_others(self) -> None:
        """The round is over: what was not looked at is gone."""
        self._before, self._now = self._now, {}


def _proportional_mb(root: Process) -> float:
    """PSS, else resident memory: the process may be gone, or not ours to read."""
    try:
        return float(psutil.Process(root.pid).memory_full_info().pss) / 1048576
    except psutil.Error:
        return root.rss_mb
