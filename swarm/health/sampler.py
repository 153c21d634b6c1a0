"""Memory and processor use of whole process trees, by psutil.

Cheap enough for a thousand idle daemons: children are found by the kernel's own list below a
process, not by a scan of every process, and the costly proportional memory (PSS) of forked
daemons is taken in rotation, a few at each sample.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import psutil

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


@dataclass(slots=True)
class _Seen:
    process: psutil.Process
    cpu_seconds: float
    at: float
    pss: float = 0.0


class Sampler:
    """Remembers what it needs between samples; processes that are gone are forgotten."""

    def __init__(self) -> None:
        self._seen: dict[int, _Seen] = {}
        self._turn = 0

    def sample(self, roots: Mapping[str, int]) -> dict[str, Sample]:
        """Measure the tree below each named pid.  A root that is gone is left out."""
        turn = self._pss_turn(list(roots))
        samples: dict[str, Sample] = {}
        alive: set[int] = set()
        for name, root in roots.items():
            memory = cpu = 0.0
            count = 0
            for pid in _tree(root):
                try:
                    used, busy = self._one(pid, is_root=pid == root, pss=name in turn)
                except psutil.Error:
                    continue  # it ended between the listing and the look
                alive.add(pid)
                memory += used
                cpu += busy
                count += 1
            if count:
                samples[name] = Sample(round(memory / 1048576, 2), round(cpu, 2), count)
        for pid in self._seen.keys() - alive:
            del self._seen[pid]
        return samples

    def _pss_turn(self, names: list[str]) -> set[str]:
        """Whose proportional memory is measured this time; everyone's while they are few."""
        if len(names) <= PSS_A_SAMPLE:
            return set(names)
        start = self._turn % len(names)
        self._turn = start + PSS_A_SAMPLE
        return set((names + names)[start : start + PSS_A_SAMPLE])

    def _one(self, pid: int, *, is_root: bool, pss: bool) -> tuple[float, float]:
        now = time.monotonic()
        seen = self._seen.get(pid)
        fresh = seen is None or not seen.process.is_running()
        if fresh or seen is None:
            seen = _Seen(psutil.Process(pid), 0.0, now)
        with seen.process.oneshot():
            times = seen.process.cpu_times()
            busy = times.user + times.system
            percent = 0.0
            if not fresh and now > seen.at:
                percent = 100.0 * (busy - seen.cpu_seconds) / (now - seen.at)
            if not is_root:
                memory = float(seen.process.memory_info().rss)
            elif pss or fresh:
                memory = seen.pss = float(seen.process.memory_full_info().pss)
            else:
                memory = seen.pss
        seen.cpu_seconds, seen.at = busy, now
        self._seen[pid] = seen
        return memory, max(0.0, percent)


def _tree(root: int) -> Iterator[int]:
    waiting = [root]
    met = set()
    while waiting:
        pid = waiting.pop()
        if pid not in met:
            met.add(pid)
            yield pid
            waiting.extend(_children(pid))


def _children(pid: int) -> list[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(word) for word in file.read().split()]
    except ProcessLookupError:
        return []
    except FileNotFoundError:
        # Gone, or a kernel without CONFIG_PROC_CHILDREN: psutil knows another, slower way.
        try:
            return [child.pid for child in psutil.Process(pid).children()]
        except psutil.Error:
            return []
