"""One child's life, daemon or service: ``(life, event, now, jitter) -> (life, effects)``.

The rules are those of "Lives": an exit nobody asked for, whatever its status, a spawn that
fails, a missed readiness deadline and missed heartbeats are crashes and pass the restart policy;
an exit that was asked for never is one.  What is under way cannot be recalled, only undone: a
stop that arrives during a spawn is a state of its own (:class:`Spawning` with ``wanted`` false).

Effects and their answers: :class:`Spawn` ends as exactly one :class:`Spawned` or
:class:`SpawnFailed`; a spawned process ends as exactly one :class:`Exited`.  The shell may
deliver them as late as it likes; two processes never live for one child.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TypeAlias, assert_never

from swarm.core.life_events import (
    Effect,
    Event,
    Exited,
    Forgiven,
    HastenSpawn,
    PolicyChanged,
    Postponed,
    Ready,
    RestartRequested,
    Shared,
    Signal,
    Spawn,
    Spawned,
    SpawnFailed,
    StartRequested,
    StopRequested,
    Tick,
    Unresponsive,
)
from swarm.core.model import ChildState
from swarm.core.restart import (
    UNREADY_SECONDS,
    Again,
    GiveUp,
    History,
    RestartPolicy,
    Terms,
    forgive,
    judge,
)

__all__ = [
    "Backoff",
    "Degraded",
    "Effect",
    "Event",
    "Exited",
    "Forgiven",
    "HastenSpawn",
    "Life",
    "Phase",
    "PolicyChanged",
    "Postponed",
    "Ready",
    "RestartRequested",
    "Running",
    "Shared",
    "Signal",
    "Spawn",
    "SpawnFailed",
    "Spawned",
    "Spawning",
    "StartRequested",
    "Starting",
    "Step",
    "StopRequested",
    "Stopped",
    "Stopping",
    "Terms",
    "Then",
    "Tick",
    "Unresponsive",
    "deadline",
    "describe_status",
    "step",
]

KILL_AGAIN_SECONDS = 1.0
"""A process that outlives its KILL (uninterruptible sleep) is killed again this often."""


# -- phases: each holds exactly what is true in it ----------------------------------------------


@dataclass(frozen=True, slots=True)
class Stopped:
    """No process, and none wanted."""


@dataclass(frozen=True, slots=True)
class Spawning:
    """A spawn is outstanding; there may or may not be a process yet."""

    overdue_at: float
    wanted: bool = True
    """False once a stop arrived: the process will be ended as soon as it is known."""
    grace: float | None = None
    """The stop's own grace; ``None`` is the terms'."""


@dataclass(frozen=True, slots=True)
class Starting:
    """The process exists and has not said ``Ready``."""

    pid: int
    ready_by: float


@dataclass(frozen=True, slots=True)
class Running:
    """Ready.  Its heartbeats are watched by :mod:`swarm.core.verdict`."""

    pid: int
    since: float


class Then(Enum):
    """What follows the exit that a :class:`Stopping` waits for."""

    STOP = "stop"
    """Nothing: it was asked to stop."""
    START = "start"
    """It was asked to start again: at once, uncharged."""
    CRASH = "crash"
    """It was ended because it failed: the restart policy decides."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """Told to exit; killed at ``kill_at``."""

    pid: int
    kill_at: float
    then: Then
    ran: float | None = None
    """Seconds it had been running when it failed, for the policy; ``None``: never ready."""
    reason: str = ""
    """What it is ended for."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Crashed; runs again at ``until``."""

    until: float


@dataclass(frozen=True, slots=True)
class Degraded:
    """Crashed too often; left down until a person asks for a restart."""


Phase: TypeAlias = Stopped | Spawning | Starting | Running | Stopping | Backoff | Degraded

_STATES: dict[type, ChildState] = {
    Stopped: ChildState.STOPPED,
    Spawning: ChildState.SPAWNING,
    Starting: ChildState.STARTING,
    Running: ChildState.RUNNING,
    Stopping: ChildState.STOPPING,
    Backoff: ChildState.BACKOFF,
    Degraded: ChildState.DEGRADED,
}


@dataclass(frozen=True, slots=True)
class Life:
    """One child: what it is doing, and what the policy remembers of it."""

    name: str
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    terms: Terms = field(default_factory=Terms)
    phase: Phase = Stopped()
    history: History = field(default_factory=History)
    since: float = 0.0
    """When the phase was entered."""
    reason: str = "never started"
    """Why it is in this phase, for people; empty when all is well."""
    last_crash: str = ""
    """Why it last crashed; kept while it runs again."""

    @property
    def state(self) -> ChildState:
        """The phase's name."""
        if isinstance(self.phase, Spawning) and not self.phase.wanted:
            return ChildState.STOPPING
        return _STATES[type(self.phase)]

    @property
    def pid(self) -> int | None:
        """The process, when there is one that is known."""
        match self.phase:
            case Starting(pid=pid) | Running(pid=pid) | Stopping(pid=pid):
                return pid
            case _:
                return None

    @property
    def next_restart_at(self) -> float | None:
        """When it runs again, while it waits."""
        return self.phase.until if isinstance(self.phase, Backoff) else None

    @property
    def restarts(self) -> int:
        """Restarts after crashes since it was last started by request."""
        return self.history.total

    @property
    def down(self) -> bool:
        """Whether there is no process and none is outstanding."""
        return isinstance(self.phase, Stopped | Backoff | Degraded)

    @property
    def deadline(self) -> float | None:
        """When it wants a :class:`Tick`."""
        return deadline(self.phase)


Step: TypeAlias = tuple[Life, tuple[Effect, ...]]


def deadline(phase: Phase) -> float | None:
    """When this phase must next be looked at, if ever."""
    match phase:
        case Stopped() | Running() | Degraded():
            return None
        case (
            Spawning(overdue_at=at)
            | Starting(ready_by=at)
            | Stopping(kill_at=at)
            | Backoff(until=at)
        ):
            return at
        case _:
            assert_never(phase)


def step(life: Life, event: Event, now: float, jitter: float = 0.0) -> Step:
    """What follows from ``event``; ``jitter`` is a random number 0..1 for the restart policy.

    Events that no longer mean anything (a ``Ready`` of a child told to stop) change nothing.
    """
    match event:
        case StartRequested():
            return _asked_to_start(life, now)
        case StopRequested():
            return _asked_to_stop(life, event, now)
        case RestartRequested(reason):
            return _asked_to_restart(life, reason, now)
        case Tick():
            return _expire(life, now)
        case PolicyChanged():
            return _adopt(life, event, now), ()
        case Forgiven(shared):
            return _forgiven(life, shared, now)
        case Postponed(until, reason):
            if not isinstance(life.phase, Backoff):
                return life, ()
            reason = f"{life.last_crash}; {reason}"
            return _to(replace(life, reason=reason), Backoff(until), now)
        case Spawned() | SpawnFailed() | Ready() | Unresponsive() | Exited():
            return _happened(life, event, now, jitter)
        case _:
            assert_never(event)


def _happened(
    life: Life,
    event: Spawned | SpawnFailed | Ready | Unresponsive | Exited,
    now: float,
    jitter: float,
) -> Step:
    """What the process, or the attempt to make one, did."""
    match life.phase, event:
        case Spawning(wanted=True), Spawned(pid):
            return _to(life, Starting(pid, now + life.terms.ready_seconds), now)
        case Spawning(wanted=False, grace=grace), Spawned(pid):
            grace = life.terms.stop_seconds if grace is None else grace
            return _end(life, pid, now, Then.STOP, life.reason, grace)
        case Spawning(wanted=False), SpawnFailed():
            return _to(life, Stopped(), now)
        case Spawning(wanted=True), SpawnFailed(error, shared):
            return _crash(life, f"could not be started: {error}", None, now, jitter, shared)
        case Starting(pid=pid), Ready():
            return _to(replace(life, reason=""), Running(pid, now), now)
        case ((Starting(pid=pid) | Running(pid=pid)), Unresponsive(reason, grace)):
            seconds = life.terms.stop_seconds if grace is None else grace
            return _end(life, pid, now, Then.CRASH, reason, seconds)
        case ((Starting() | Running()), Exited(status, note, shared)):
            reason = f"crashed, {describe_status(status)}" + (f": {note}" if note else "")
            return _crash(life, reason, _ran(life.phase, now), now, jitter, shared)
        case Stopping(then=Then.STOP), Exited():
            return _to(life, Stopped(), now)
        case Stopping(then=Then.START), Exited():
            return _start(life, now)
        case Stopping(then=Then.CRASH, ran=ran, reason=reason), Exited(shared=shared):
            return _crash(life, reason, ran, now, jitter, shared)
        case _:
            return life, ()


def _asked_to_start(life: Life, now: float) -> Step:
    match life.phase:
        case Stopped():
            return _start(replace(life, history=History(), reason=""), now)
        case Spawning(wanted=False) as spawning:
            return _to(replace(life, reason=""), replace(spawning, wanted=True), now)
        case Stopping(then=Then.STOP) as stopping:
            again = replace(life, history=History())
            return _to(again, replace(stopping, then=Then.START), now)
        case _:
            return life, ()


def _asked_to_stop(life: Life, asked: StopRequested, now: float) -> Step:
    grace = life.terms.stop_seconds if asked.grace is None else asked.grace
    life = replace(life, reason=asked.reason)
    match life.phase:
        case Starting(pid=pid) | Running(pid=pid):
            return _end(life, pid, now, Then.STOP, asked.reason, grace)
        case Spawning() as spawning:
            return _to(life, replace(spawning, wanted=False, grace=asked.grace), now)
        case Stopping(pid=pid, kill_at=kill_at) as stopping:
            hurried = replace(stopping, then=Then.STOP, reason=asked.reason)
            if grace <= 0:
                return _kill(life, hurried, now)
            return _to(life, replace(hurried, kill_at=min(kill_at, now + grace)), now)
        case Stopped() | Backoff() | Degraded():
            return _to(life, Stopped(), now)
        case _:
            assert_never(life.phase)


def _asked_to_restart(life: Life, reason: str, now: float) -> Step:
    life = replace(life, history=History(), reason=reason)
    match life.phase:
        case Stopped() | Backoff() | Degraded():
            return _start(life, now)
        case Spawning() as spawning:
            return _to(life, replace(spawning, wanted=True), now)
        case Starting(pid=pid) | Running(pid=pid):
            return _end(life, pid, now, Then.START, reason, life.terms.stop_seconds)
        case Stopping() as stopping:
            return _to(life, replace(stopping, then=Then.START, reason=reason), now)
        case _:
            assert_never(life.phase)


def _expire(life: Life, now: float) -> Step:
    at = deadline(life.phase)
    if at is None or now < at:
        return life, ()
    match life.phase:
        case Spawning() as spawning:
            late = replace(spawning, overdue_at=now + max(life.terms.spawn_seconds, 1.0))
            said = replace(life, reason="its spawn is overdue") if spawning.wanted else life
            return _to(said, late, now, HastenSpawn(life.name))
        case Starting(pid=pid):
            reason = f"not ready within {life.terms.ready_seconds:g} s"
            return _end(life, pid, now, Then.CRASH, reason, life.terms.stop_seconds)
        case Stopping() as stopping:
            return _kill(life, stopping, now)
        case Backoff():
            history = replace(life.history, total=life.history.total + 1)
            return _start(replace(life, history=history), now)
        case _:
            return life, ()


def _adopt(life: Life, changed: PolicyChanged, now: float) -> Life:
    """Live settings.  A wait that the new cap would not allow is cut; degraded stays degraded."""
    policy = changed.policy or life.policy
    phase = life.phase
    if isinstance(phase, Backoff):
        phase = Backoff(min(phase.until, now + policy.cap_seconds))
    return replace(life, policy=policy, terms=changed.terms or life.terms, phase=phase)


def _crash(
    life: Life,
    reason: str,
    ran: float | None,
    now: float,
    jitter: float,
    shared: Shared | None = None,
) -> Step:
    """Something failed that nobody asked for: wait and run again, or give up."""
    verdict = judge(
        life.policy, life.history, now, ran=ran, jitter=jitter, shared=shared is not None
    )
    if shared is not None:
        reason = f"{reason}; {shared.reason}"
    life = replace(life, history=verdict.history, reason=reason, last_crash=reason)
    match verdict:
        case GiveUp(restarts, window):
            gave_up = f"{reason}; gave up after {restarts} restarts within {window:g} s"
            return _to(replace(life, reason=gave_up), Degraded(), now)
        case Again(delay) if shared is not None:
            return _to(life, Backoff(shared.turn_at + delay), now)
        case Again(delay) if delay > 0:
            return _to(life, Backoff(now + delay), now)
        case Again():
            history = replace(verdict.history, total=verdict.history.total + 1)
            return _start(replace(life, history=history), now)
        case _:
            assert_never(verdict)


def _forgiven(life: Life, shared: Shared, now: float) -> Step:
    """A crash that was charged was one of many: as if it had never been, but for its wait."""
    history = forgive(life.policy, life.history, now)
    if history is None or isinstance(life.phase, Stopped):
        return life, ()
    match life.phase:
        case Backoff(until=at):
            until = shared.turn_at + max(0.0, at - now)
        case Degraded():
            until = shared.turn_at + UNREADY_SECONDS
            history = replace(life.history, pardoned=history.pardoned)
        case _:
            return replace(life, history=history), ()
    reason = f"{life.last_crash}; {shared.reason}"
    life = replace(life, history=history, reason=reason, last_crash=reason)
    return _to(life, Backoff(until), now)


def _start(life: Life, now: float) -> Step:
    return _to(life, Spawning(now + life.terms.spawn_seconds), now, Spawn(life.name))


def _end(life: Life, pid: int, now: float, then: Then, reason: str, grace: float) -> Step:
    """End the process: TERM, and KILL after ``grace``; with no grace, KILL at once."""
    phase = Stopping(pid, now + grace, then, _ran(life.phase, now), reason)
    life = replace(life, reason=reason)
    if grace <= 0:
        return _kill(life, phase, now)
    return _to(life, phase, now, Signal(life.name, pid, "TERM"))


def _kill(life: Life, phase: Stopping, now: float) -> Step:
    again = replace(phase, kill_at=now + KILL_AGAIN_SECONDS)
    return _to(life, again, now, Signal(life.name, phase.pid, "KILL"))


def _ran(phase: Phase, now: float) -> float | None:
    return now - phase.since if isinstance(phase, Running) else None


def _to(life: Life, phase: Phase, now: float, *effects: Effect) -> Step:
    since = life.since if type(phase) is type(life.phase) else now
    return replace(life, phase=phase, since=since), effects


def describe_status(status: int) -> str:
    """An exit status for people: ``exit 1``, ``signal 9``."""
    return f"signal {-status}" if status < 0 else f"exit {status}"
