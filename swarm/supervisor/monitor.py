"""Samples of memory and processor use, and the machine's free memory: gauges, never decisions."""

from __future__ import annotations

from collections.abc import Mapping

import psutil

from swarm.health.sampler import Sample, Sampler
from swarm.logs import JsonLog


class Monitor:
    """Remembers the last sample of each child."""

    def __init__(self, log: JsonLog) -> None:
        self._sampler = Sampler()
        self._log = log
        self.samples: Mapping[str, Sample] = {}

    def sample(self, roots: Mapping[str, int], busy: frozenset[str]) -> float:
        """Measure every tree, log those that are ``busy`` and the sum; the free memory in MB.

        Idle daemons are logged as a sum only: a thousand lines each ten seconds help nobody.
        """
        self.samples = self._sampler.sample(roots)
        free = free_memory_mb()
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
        )
        return free


def free_memory_mb() -> float:
    """Memory that could be had without swapping, in MB."""
    return float(psutil.virtual_memory().available) / 1048576
