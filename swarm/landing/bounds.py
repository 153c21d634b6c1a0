"""A running check against its limits, as a session is: memory and processes of its whole tree.

The check's cgroup tells by itself, where it has one; everywhere its tree is looked at as well, as
the supervisor looks at sessions' (ADR 14).
"""

from __future__ import annotations

from swarm.core.limits import SessionLimits, Watch, judge
from swarm.health.sessions import Root, SessionSampler
from swarm.landing.model import Job
from swarm.sandbox.alarms import Alarm
from swarm.sandbox.launch import Tree

LOOK_SECONDS = 0.25
"""Between two looks: one tree, so it may be more often than at sessions."""
_NEW = Watch("", 0, 0.0)
"""Silence is no fault of a check: its time limit ends it."""


class Bounds:
    """What one check may use; :meth:`close` before its tree is reaped."""

    __slots__ = ("_alarm", "_limits", "_root", "_sampler", "over")

    def __init__(self, tree: Tree, job: Job) -> None:
        self.over = ""
        """Which limit was hit, for people; empty while none was."""
        self._limits = SessionLimits(job.memory_mb, job.max_processes)
        group = tree.group
        self._alarm = Alarm(group) if group is not None else None
        self._root = Root(
            tree.tree_pid,
            tree.tree_start,
            group.path if group is not None else "",
            job.memory_mb,
            job.max_processes,
        )
        self._sampler = SessionSampler()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What to poll for reading, for :meth:`alarmed`."""
        return self._alarm.descriptors if self._alarm is not None else ()

    @property
    def look_seconds(self) -> float | None:
        """How often to :meth:`look`; ``None``: there is no limit to look for."""
        limited = self._limits != SessionLimits()
        return LOOK_SECONDS if limited else None

    def alarmed(self, fd: int = -1) -> None:
        """The cgroup may have hit a limit; ``fd`` is the one of :attr:`descriptors` that spoke."""
        hit = self._alarm.look(fd) if self._alarm is not None else ""
        if hit == "memory":
            self._is_over(f"used more than limits.memory_mb: {self._limits.memory_mb} MB")
        elif hit == "processes":
            self._is_over(f"used more than limits.max_processes: {self._limits.max_processes}")

    def look(self) -> None:
        """Look at the tree itself.  Raises ``OSError`` when there is no descriptor to be had."""
        use = self._sampler.light(self._root)
        if use is None:
            return  # it is gone
        found = judge(_NEW, use, self._limits, beat_seconds=0.0, now=0.0)
        if found is not None:
            self._is_over(found.reason)

    def close(self) -> None:
        """Its tree is at its end: what its cgroup had still to tell."""
        self.alarmed()
        if self._alarm is not None:
            self._alarm.close()

    def _is_over(self, what: str) -> None:
        self.over = self.over or what
