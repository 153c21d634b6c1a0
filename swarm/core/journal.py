"""What the journal says: one class for each kind of entry.

The supervisor writes them (``ts`` and ``kind`` beside the fields, one JSON line each), ``view``
folds them.  The journal is append-only and read by later versions: kinds and fields may be added,
never renamed; a reader skips what it does not know (:func:`read`).  Heartbeats and samples are
gauges, not entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import ClassVar, TypeAlias


class _Entry:
    __slots__ = ()
    kind: ClassVar[str]


# -- the swarm ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SwarmStarted(_Entry):
    """A supervisor took the lock of this home."""

    kind: ClassVar[str] = "swarm_started"
    pid: int
    agents: int = 0


@dataclass(frozen=True, slots=True)
class SwarmStopped(_Entry):
    """Everything is down; the supervisor exits."""

    kind: ClassVar[str] = "swarm_stopped"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StopAsked(_Entry):
    """The whole swarm was told to stop: ``how`` is ``grace``, ``drain`` or ``now``."""

    kind: ClassVar[str] = "stop_asked"
    how: str = "grace"
    by: str = ""


@dataclass(frozen=True, slots=True)
class Scaled(_Entry):
    """The wanted number of agents of each role changed."""

    kind: ClassVar[str] = "scaled"
    before: dict[str, int]
    after: dict[str, int]
    preserved: int = 0
    """Busy agents that stay until their task is over."""


@dataclass(frozen=True, slots=True)
class Paused(_Entry):
    """No promotions any more; ``until`` is RFC 3339 or empty."""

    kind: ClassVar[str] = "paused"
    reason: str = ""
    until: str = ""


@dataclass(frozen=True, slots=True)
class Resumed(_Entry):
    """Promotions again."""

    kind: ClassVar[str] = "resumed"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class QuotaHit(_Entry):
    """A runtime is parked, or parked otherwise; ``until`` in Unix seconds, where it is known."""

    kind: ClassVar[str] = "quota_hit"
    runtime: str
    reason: str = ""
    until: float | None = None


@dataclass(frozen=True, slots=True)
class QuotaProbed(_Entry):
    """A probe of a parked runtime is over."""

    kind: ClassVar[str] = "quota_probed"
    child: str
    runtime: str
    outcome: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class QuotaLifted(_Entry):
    """A runtime is parked no more."""

    kind: ClassVar[str] = "quota_lifted"
    runtime: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class BudgetNear(_Entry):
    """``limits.warn_at`` of a budget is spent: the swarm's; of ``child`` or its task, if named."""

    kind: ClassVar[str] = "budget_near"
    text: str
    child: str = ""


@dataclass(frozen=True, slots=True)
class BudgetSpent(_Entry):
    """All of it is: nothing starts that it would pay for."""

    kind: ClassVar[str] = "budget_spent"
    text: str
    child: str = ""


@dataclass(frozen=True, slots=True)
class BudgetOpen(_Entry):
    """It was raised, or a new day has begun."""

    kind: ClassVar[str] = "budget_open"
    text: str
    child: str = ""


@dataclass(frozen=True, slots=True)
class Reloaded(_Entry):
    """The config was read again; one line a change."""

    kind: ClassVar[str] = "reloaded"
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReloadRefused(_Entry):
    """The config was read again and is bad; the old settings stay in force."""

    kind: ClassVar[str] = "reload_refused"
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ZygoteDied(_Entry):
    """The process that forks children is gone; a new one is started."""

    kind: ClassVar[str] = "zygote_died"
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Upgraded(_Entry):
    """A newly installed program runs in the supervisor's process; children and sessions go on."""

    kind: ClassVar[str] = "upgraded"
    before: str
    after: str
    generation: int = 0


@dataclass(frozen=True, slots=True)
class UpgradeRefused(_Entry):
    """The newly installed program cannot take over; the old one goes on."""

    kind: ClassVar[str] = "upgrade_refused"
    reason: str = ""


# -- one child, daemon or service: ``child`` is its name -----------------------------------------


@dataclass(frozen=True, slots=True)
class ChildSpawned(_Entry):
    """A process exists."""

    kind: ClassVar[str] = "child_spawned"
    child: str
    pid: int


@dataclass(frozen=True, slots=True)
class ChildReady(_Entry):
    """It does its work."""

    kind: ClassVar[str] = "child_ready"
    child: str
    pid: int


@dataclass(frozen=True, slots=True)
class ChildUnresponsive(_Entry):
    """It was given up on and is being ended."""

    kind: ClassVar[str] = "child_unresponsive"
    child: str
    reason: str


@dataclass(frozen=True, slots=True)
class ChildExited(_Entry):
    """Its process is gone.  ``asked``: it was told to exit, so this is no crash."""

    kind: ClassVar[str] = "child_exited"
    child: str
    pid: int
    status: int
    reason: str = ""
    asked: bool = False


@dataclass(frozen=True, slots=True)
class ChildBackoff(_Entry):
    """It crashed and runs again after ``seconds``; written too when that is 0, at once."""

    kind: ClassVar[str] = "child_backoff"
    child: str
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ChildForgiven(_Entry):
    """Its last crash is not counted after all: many died with it."""

    kind: ClassVar[str] = "child_forgiven"
    child: str
    reason: str


@dataclass(frozen=True, slots=True)
class ChildDegraded(_Entry):
    """It crashed too often and is left down."""

    kind: ClassVar[str] = "child_degraded"
    child: str
    reason: str


@dataclass(frozen=True, slots=True)
class ChildStopped(_Entry):
    """It is down because that was asked for."""

    kind: ClassVar[str] = "child_stopped"
    child: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RestartAsked(_Entry):
    """A person asked for this child to run afresh."""

    kind: ClassVar[str] = "restart_asked"
    child: str
    by: str = ""


# -- one agent's work ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Promoted(_Entry):
    """The gate let its session start."""

    kind: ClassVar[str] = "promoted"
    child: str
    task: str
    fence: int


@dataclass(frozen=True, slots=True)
class PromotionDenied(_Entry):
    """The gate was closed."""

    kind: ClassVar[str] = "promotion_denied"
    child: str
    task: str
    fence: int
    reason: str


@dataclass(frozen=True, slots=True)
class SessionStarted(_Entry):
    """Its session's process runs: the attempt has begun."""

    kind: ClassVar[str] = "session_started"
    child: str
    task: str
    fence: int
    pid: int
    attempt: int = 0
    containment: str = ""


@dataclass(frozen=True, slots=True)
class SessionEnded(_Entry):
    """The attempt is over, its tree empty, its report on disk."""

    kind: ClassVar[str] = "session_ended"
    child: str
    task: str
    fence: int
    outcome: str
    reason: str = ""
    branch: str = ""
    commits: int = 0


@dataclass(frozen=True, slots=True)
class SessionKillAsked(_Entry):
    """Its session was told to end."""

    kind: ClassVar[str] = "session_kill_asked"
    child: str
    task: str
    outcome: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TaskLost(_Entry):
    """Its daemon died with this task in hand; the task goes back to the queue."""

    kind: ClassVar[str] = "task_lost"
    child: str
    task: str
    fence: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TaskReported(_Entry):
    """Its daemon died after its attempt had ended; the report was found on disk."""

    kind: ClassVar[str] = "task_reported"
    child: str
    task: str
    fence: int
    outcome: str


@dataclass(frozen=True, slots=True)
class WorkspaceAdopted(_Entry):
    """A workspace of an earlier run was taken over."""

    kind: ClassVar[str] = "workspace_adopted"
    child: str


@dataclass(frozen=True, slots=True)
class WorkspaceRemoved(_Entry):
    """Its workspace is gone; ``saved`` names the branches work was salvaged to."""

    kind: ClassVar[str] = "workspace_removed"
    child: str
    saved: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkspaceKept(_Entry):
    """Its workspace could not be removed without losing something."""

    kind: ClassVar[str] = "workspace_kept"
    child: str
    reason: str


@dataclass(frozen=True, slots=True)
class DiskLow(_Entry):
    """The disk runs low: no session starts, and what may go is removed."""

    kind: ClassVar[str] = "disk_low"
    reason: str


@dataclass(frozen=True, slots=True)
class CleanedUp(_Entry):
    """A clean-up by the swarm itself is over; ``saved`` are references that keep commits."""

    kind: ClassVar[str] = "cleaned_up"
    freed_mb: int = 0
    saved: tuple[str, ...] = ()
    problem: str = ""


Entry: TypeAlias = (
    SwarmStarted | SwarmStopped | StopAsked | Scaled | Paused | Resumed | Reloaded | ReloadRefused
    | BudgetNear | BudgetSpent | BudgetOpen
    | QuotaHit | QuotaProbed | QuotaLifted
    | ZygoteDied | Upgraded | UpgradeRefused
    | ChildSpawned | ChildReady | ChildUnresponsive | ChildExited | ChildBackoff | ChildDegraded
    | ChildForgiven | ChildStopped | RestartAsked
    | Promoted | PromotionDenied | SessionStarted | SessionEnded | SessionKillAsked | TaskLost
    | TaskReported | WorkspaceAdopted | WorkspaceRemoved | WorkspaceKept
    | DiskLow | CleanedUp
)  # fmt: skip

KINDS: dict[str, type[Entry]] = {one.kind: one for one in Entry.__args__}


def as_fields(entry: Entry) -> dict[str, object]:
    """The fields to write beside ``ts`` and ``kind``; tuples and maps are JSON data."""
    return asdict(entry)


def read(line: Mapping[str, object]) -> Entry | None:
    """The entry a journal line holds; ``None`` for an unknown kind or one that lacks a field."""
    kind = line.get("kind")
    cls = KINDS.get(kind) if isinstance(kind, str) else None
    if cls is None:
        return None
    values: dict[str, object] = {}
    for field in fields(cls):
        value = line.get(field.name, MISSING)
        if value is MISSING:
            if field.default is MISSING:
                return None
            continue
        value = tuple(value) if isinstance(value, list) else value
        if not _fits(value, str(field.type)):
            return None
        values[field.name] = value
    made: Entry = cls(**values)  # type: ignore[arg-type]  # each value was just checked
    return made


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "int | None": (int, type(None)),
    "float | None": (int, float, type(None)),
    "tuple[str, ...]": (tuple,),
    "dict[str, int]": (dict,),
}


def _fits(value: object, annotation: str) -> bool:
    """Whether a journal value is of its field's type; the file may be damaged or of a new form."""
    return isinstance(value, _TYPES[annotation])
