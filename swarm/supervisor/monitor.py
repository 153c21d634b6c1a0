"""Samples of memory and processor use, and the machine's free memory: gauges, never decisions."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TypeAlias

import psutil

from swarm.core.fleet_events import MemoryIs
from swarm.core.limits import Use
from swarm.health.processes import Table
from swarm.health.sampler import Sample, Sampler
from swarm.health.sessions import Root, SessionSampler
from swarm.logs import JsonLog

Held: TypeAlias = tuple[str, str, int]
"""A running session: agent, task, fence."""


class Monitor:
    """Remembers the last sample of each child."""

    def __init__(
        self, log: JsonLog, free_disk_mb: Callable[[], float | None] = lambda: None
    ) -> None:
        self._free_disk_mb = free_disk_mb
        self._sampler = Sampler()
        self._sessions = SessionSampler()
        self._log = log
        self.samples: Mapping[str, Sample] = {}

    def sample(
        self, roots: Mapping[str, int], busy: frozenset[str], sessions: Mapping[Held, Root]
    ) -> tuple[MemoryIs, dict[Held, Use]]:
        """Measure every tree, log those that are ``busy`` and the sum; the machine and sessions.

        Idle daemons are logged as a sum only: a thousand lines each ten seconds help nobody.
        """
        table = Table.now()
        self.samples = self._sampler.sample(roots, table)
        uses = self._sessions.full(sessions, table)
        free, load = free_memory_mb(), load_per_processor()
        disk = self._free_disk_mb()
        for name in sorted(busy & self.samples.keys()):
            one = self.samples[name]
            self._log.write(
                "sample",
                child=name,
                memory_mb=one.memory_mb,
                cpu_percent=one.cpu_percent,
                processes=one.processes,
            )
        every = self.samples.values()
        self._log.write(
            "samples",
            children=len(every),
            memory_mb=round(sum(one.memory_mb for one in every), 1),
            cpu_percent=round(sum(one.cpu_percent for one in every), 1),
            free_memory_mb=round(free),
            load=None if load is None else round(load, 2),
            free_disk_mb=None if disk is None else round(disk),
        )
        return MemoryIs(free, load, disk), uses

    def look(self, sessions: Mapping[Held, Root]) -> dict[Held, Use]:
        """Memory and processes of running sessions, as cheaply as can be had."""
        found = {held: self._sessions.light(root) for held, root in sessions.items()}
        return {held: use for held, use in found.items() if use is not None}


def free_memory_mb() -> float:
    """Memory that could be had without swapping, in MB; 0 where it cannot be known just now."""
    try:
        return float(psutil.virtual_memory().available) / 1048576
    except OSError:
        return 0.0  # no file can be opened: no time to start anything


def load_per_processor() -> float | None:
    """Load average of the last minute a processor; ``None`` where the system keeps none."""
    try:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    except OSError:
        return None
