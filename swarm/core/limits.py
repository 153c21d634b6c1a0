"""May a running session go on?  Its memory, its processes, and whether it still does anything.

Pure: what the supervisor measured goes in, a judgement comes out.  Wall clock and the task's own
budget are the daemon's to mind; a cgroup, where there is one, holds memory and processes in the
kernel before anything here is over.

A session is *stalled* when for ``stall_seconds`` it printed nothing **and** nothing in its whole
tree computed or read or wrote (product, "Session runs away").  What is not known is never held
against it: a beat that is late, or a look that came late, proves no silence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from swarm.core.model import Outcome

CPU_SHARE = 0.01
"""Processor time that is progress, as a share of one core.  An idle node or bun process with its
timers and collector takes 0.1 to 0.5 %; a build, a test or a search takes a hundred times that."""
MIN_CPU_SECONDS = 0.03
"""And at least this much in one look: the kernel counts in ticks of 10 ms, and one or two of them
fall to a process that only woke up."""
IO_RATE = 1024.0
"""Bytes a second, read and written together, that are progress: more than keep-alives, timers'
wake-ups and a line of log now and then; less than any download, copy or build."""
MIN_IO_BYTES = 4096
"""And at least this much in one look."""
LATE_LOOK = 3.0
"""A look that comes after this many of its intervals says nothing about the time between."""
LATE_BEAT = 2.0
"""A beat older than so many intervals says nothing about silence: the child may be unresponsive,
which has its own way (:mod:`swarm.core.verdict`)."""
OVERDUE_SECONDS = 5.0
"""A session that is still there this long after its grace was over has a daemon that does not do
what it is told: a kill and the emptying of a tree take well under a second."""


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What one session of a role may use; ``None`` is no limit."""

    memory_mb: int | None = None
    max_processes: int | None = None
    stall_seconds: float = 0.0
    """0 never ends a session for its silence."""


@dataclass(frozen=True, slots=True)
class Use:
    """One look at a session's tree.  ``None``: not looked at this time, or not to be read."""

    memory_mb: float | None = None
    processes: int | None = None
    cpu_seconds: float | None = None
    """Processor time of the whole tree since the last look that measured it."""
    io_bytes: int | None = None
    """Read and written, likewise."""
    seconds: float = 0.0
    """How long ago that last look was; 0 at the first."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What is remembered of one running session; times on the fleet's clock."""

    task: str
    fence: int
    progress_at: float
    """When its tree was last seen to do something, or might have without being seen."""
    quiet: float = 0.0
    """Seconds without output, as the daemon's last beat said."""
    beat_at: float | None = None
    """When that beat came."""
    memory_mb: float | None = None
    """At the last look."""
    end_by: float | None = None
    """It was told to end, and should be gone by then."""

    @property
    def key(self) -> tuple[str, int]:
        """Task and fence."""
        return self.task, self.fence


@dataclass(frozen=True, slots=True)
class Over:
    """End it.  ``kill``: at once, as each moment of grace costs the machine more."""

    outcome: Outcome
    reason: str
    kill: bool


def heard(watch: Watch, quiet: float, now: float) -> Watch:
    """A beat said for how long the session has printed nothing that is progress."""
    return replace(watch, quiet=quiet, beat_at=now)


def looked(watch: Watch, use: Use, look_seconds: float, now: float) -> Watch:
    """Take in one look; ``look_seconds`` is how often processor time and I/O are looked at."""
    if use.memory_mb is not None:
        watch = replace(watch, memory_mb=use.memory_mb)
    if use.cpu_seconds is None:
        return watch
    if progress(use) or use.seconds <= 0 or use.seconds > LATE_LOOK * look_seconds:
        return replace(watch, progress_at=now)
    return watch


def progress(use: Use) -> bool:
    """Whether the tree did more than wait since the last look."""
    computed = use.cpu_seconds or 0.0
    if computed >= max(MIN_CPU_SECONDS, CPU_SHARE * use.seconds):
        return True
    return (use.io_bytes or 0) >= max(MIN_IO_BYTES, IO_RATE * use.seconds)


def judge(
    watch: Watch, use: Use, limits: SessionLimits, *, beat_seconds: float, now: float
) -> Over | None:
    """What is wrong with a session after a look; ``None``: it goes on."""
    if limits.memory_mb is not None and (use.memory_mb or 0) > limits.memory_mb:
        reason = f"used more than limits.memory_mb: {limits.memory_mb} MB"
        return Over(Outcome.FAILED, reason, kill=True)
    if limits.max_processes is not None and (use.processes or 0) > limits.max_processes:
        reason = f"used more than limits.max_processes: {limits.max_processes}"
        return Over(Outcome.FAILED, reason, kill=True)
    if stalled(watch, limits, beat_seconds, now):
        minutes = limits.stall_seconds / 60
        reason = f"no output, processor time or I/O for limits.stall_minutes: {minutes:g}"
        return Over(Outcome.STALLED, reason, kill=False)
    return None


def stalled(watch: Watch, limits: SessionLimits, beat_seconds: float, now: float) -> bool:
    """Whether silence is proved: by a beat for the output, by looks for the tree.

    What was printed since the beat is not known, so only the silence before it counts.
    """
    if limits.stall_seconds <= 0 or watch.beat_at is None:
        return False
    if now - watch.beat_at > LATE_BEAT * beat_seconds:
        return False
    return min(watch.quiet, now - watch.progress_at) >= limits.stall_seconds


def overdue(watch: Watch, now: float) -> bool:
    """Whether it should be gone by now and, having been looked at, is not."""
    return watch.end_by is not None and now >= watch.end_by
