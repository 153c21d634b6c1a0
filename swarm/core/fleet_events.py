"""What can happen to the fleet: all of it data.

A command that a person waits for carries a ``reply`` number, under which it is answered.
What follows from events is in :mod:`swarm.core.fleet_effects`.

``core`` knows no message format, so what only passes through (a task's work, a report) is seen
here as little as it must be: :class:`Report`, :class:`TaskWork`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from swarm.core.budget import NOTHING, Amount, Reading
from swarm.core.fleet_settings import FleetSettings
from swarm.core.limits import Use
from swarm.core.model import AgentState, Outcome, Usage


class Report(Protocol):
    """The end of one attempt, as far as the fleet looks at it."""

    @property
    def task(self) -> str:
        """Id of the task."""

    @property
    def fence(self) -> int:
        """Fence of the lease the attempt ran under."""

    @property
    def outcome(self) -> Outcome:
        """How it ended."""

    @property
    def reason(self) -> str:
        """Why, for people."""

    @property
    def branch(self) -> str | None:
        """The branch that holds its commits."""

    @property
    def commits(self) -> int:
        """How many there are."""

    @property
    def retry_at(self) -> float | None:
        """Unix seconds at which a quota ends, when that is known."""

    @property
    def usage(self) -> Usage:
        """What it used."""

    @property
    def cost_usd(self) -> float | None:
        """And what that cost."""


class TaskWork(Protocol):
    """An assignment's work, as far as the fleet looks at it."""

    @property
    def task(self) -> str:
        """Id of the task."""

    @property
    def attempt(self) -> int:
        """Which attempt it is, from 1."""

    @property
    def token_budget(self) -> int | None:
        """What its task may still use, where that is limited."""

    @property
    def usd_budget(self) -> float | None:
        """The same in dollars."""


@dataclass(frozen=True, slots=True)
class Session:
    """The running session of an active agent."""

    pid: int
    tree_pid: int
    tree_start: int
    containment: str
    started_at: float
    """Unix seconds."""
    cgroup: str = ""
    """Directory of its own cgroup; empty: its limits are kept by sampling."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One agent as the coordinator needs it; ``since`` in Unix seconds."""

    name: str
    agent_id: str
    role: str
    state: AgentState
    since: float
    warm: bool = False
    task: str = ""
    fence: int = 0
    closed: str = ""
    """Why it may start nothing now though it is idle: see ``wire.lifeline.AgentFact``."""
    spent_up: bool = False
    """For its own budget: nobody need wait for it."""


# -- events: children -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Up:
    """Bring the services and then the daemons up.

    ``taken`` holds the workspace names that are somebody else's; ours are used again.
    """

    taken: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Spawned:
    """The child asked for lives."""

    name: str
    pid: int


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """The child asked for does not."""

    name: str
    error: str


@dataclass(frozen=True, slots=True)
class Exited:
    """The child is gone, reaped, and all it ever said was delivered before.

    ``status`` is the exit status, or the negative number of the signal that ended it.
    """

    name: str
    status: int


@dataclass(frozen=True, slots=True)
class ChildReady:
    """The child does its work."""

    name: str
    agent_id: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class ChildBeat:
    """A heartbeat; with the task it holds, if any."""

    name: str
    task: str = ""
    fence: int = 0
    quiet: float = 0.0
    """Seconds since its session last printed something that is progress."""


@dataclass(frozen=True, slots=True)
class ChildFailing:
    """The child says why it will exit."""

    name: str
    error: str


@dataclass(frozen=True, slots=True)
class ChildTrouble:
    """Something a person should see beside it; empty text clears it."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class ChatIs:
    """A daemon's chat connection came, went, or failed ``attempts`` times in a row."""

    name: str
    connected: bool
    attempts: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ChildGarbled:
    """The child says what no child of ours says: it is ended and counts as crashed."""

    name: str
    what: str


@dataclass(frozen=True, slots=True)
class PromotionAsked:
    """The daemon holds an ``ASSIGN`` of ``coordinator`` and asks to start its session."""

    name: str
    task: str
    fence: int
    coordinator: str
    free_memory_mb: float | None = None
    """Free memory of the machine now; ``None`` when it is not known."""
    load: float | None = None
    """Load average a processor now; likewise."""
    free_disk_mb: float | None = None
    """Free disk below the home and the workspaces, the lower; likewise."""


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """The session's process runs."""

    name: str
    task: str
    fence: int
    session: Session


@dataclass(frozen=True, slots=True)
class SessionSpent:
    """What the running session used so far: a running total; ``spent`` is passed on as it is."""

    name: str
    task: str
    fence: int
    spent: object
    amount: Amount = NOTHING


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """The session is over, its tree is empty, its report is on the disk."""

    name: str
    report: Report


@dataclass(frozen=True, slots=True)
class DaemonIdle:
    """The daemon waits for work."""

    name: str
    warm: bool = False


@dataclass(frozen=True, slots=True)
class Probed:
    """The probe ``id`` of a runtime's quota is over; ``retry_at`` in Unix seconds."""

    name: str
    id: int
    outcome: Outcome
    reason: str = ""
    retry_at: float | None = None


@dataclass(frozen=True, slots=True)
class TreeCleaned:
    """A dead daemon's session tree was seen empty and its outbox was read.

    ``report`` is that attempt's own report when the outbox held it; ``problem`` says what could
    not be made sure of.
    """

    name: str
    task: str
    fence: int
    report: Report | None = None
    problem: str = ""


# -- events: the coordinator ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkAssigned:
    """Our coordinator has leased a task to an agent."""

    agent: str
    fence: int
    work: TaskWork


@dataclass(frozen=True, slots=True)
class WorkRevoked:
    """A lease is over before its session ended."""

    agent: str
    task: str
    fence: int
    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class HubIsReady:
    """A hub is there, so idle daemons may make their clones."""

    hub: str
    clone: str


# -- events: people, the machine, the clock -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ScaleAsked:
    """Either ``total`` (roles keep their proportions) or counts of ``roles``.

    ``taken`` holds every workspace name that exists: those indexes are not used again.
    """

    reply: int
    total: int | None = None
    roles: Mapping[str, int] = field(default_factory=dict)
    taken: frozenset[str] = frozenset()
    settings: FleetSettings | None = None
    """With the roles that it may bring in."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """New settings are in force.

    ``roles``: counts to change, already reconciled with what ``scale`` did; ``lines`` say what
    changed, and are answered together with what the change of counts led to.
    """

    reply: int
    settings: FleetSettings
    roles: Mapping[str, int] = field(default_factory=dict)
    taken: frozenset[str] = frozenset()
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PauseAsked:
    """No promotions until resumed."""

    reply: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ResumeAsked:
    """Promotions again."""

    reply: int


@dataclass(frozen=True, slots=True)
class StopAsked:
    """End the swarm.  ``now`` skips the grace; ``drain``: seconds sessions may go on, 0 for ever.

    ``reply`` 0 asks for no answer (a signal).  A second one can only be harsher.
    """

    reply: int = 0
    now: bool = False
    drain: float | None = None


@dataclass(frozen=True, slots=True)
class ReadyAsked:
    """Answered when every agent is ready, or with why not."""

    reply: int


@dataclass(frozen=True, slots=True)
class AgentStopAsked:
    """Stop one agent; its task is queued again."""

    reply: int
    agent: str


@dataclass(frozen=True, slots=True)
class AgentRestartAsked:
    """Restart one agent, also one that is degraded or stopped."""

    reply: int
    agent: str


@dataclass(frozen=True, slots=True)
class KillSessionAsked:
    """End the session of one agent; its attempt is cancelled."""

    reply: int
    agent: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PokeAsked:
    """The ledger changed."""

    reply: int


@dataclass(frozen=True, slots=True)
class MemoryIs:
    """Free memory of the machine, sampled; load a processor and free disk where known."""

    free_mb: float
    load: float | None = None
    free_disk_mb: float | None = None
    """Below the home and the workspaces, the lower."""


@dataclass(frozen=True, slots=True)
class SessionUse:
    """One look at the tree of a running session, which exists; fields as of ``limits.Use``."""

    name: str
    task: str
    fence: int
    use: Use


@dataclass(frozen=True, slots=True)
class SpendingIs:
    """The ledger was read: what was spent in the budget's window."""

    reading: Reading


@dataclass(frozen=True, slots=True)
class Tidied:
    """The janitor is done with the workspaces it was given; ``lines`` say what it kept."""

    names: tuple[str, ...]
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CleanedUp:
    """The clean-up is over, or could not be begun; ``problem`` says what went wrong."""

    freed_mb: int = 0
    saved: tuple[str, ...] = ()
    """References that keep what only things that went had held."""
    problem: str = ""
    free_disk_mb: float | None = None
    """Free disk now; ``None`` where it cannot be read."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A deadline has passed."""


ChildEvent: TypeAlias = (
    Spawned | SpawnFailed | Exited | ChildReady | ChildBeat | ChildFailing | ChildTrouble
    | ChatIs | ChildGarbled | PromotionAsked | SessionStarted | SessionSpent | SessionEnded
    | DaemonIdle | Probed | TreeCleaned | WorkAssigned | WorkRevoked | HubIsReady
)  # fmt: skip
"""What children, dead or alive, lead to."""

OrderEvent: TypeAlias = (
    Up | ScaleAsked | Reloaded | PauseAsked | ResumeAsked | StopAsked | ReadyAsked
    | AgentStopAsked | AgentRestartAsked | KillSessionAsked | PokeAsked | MemoryIs | SessionUse
    | SpendingIs | Tidied | CleanedUp
)  # fmt: skip
"""What people, the machine and the janitor lead to."""

Event: TypeAlias = ChildEvent | OrderEvent | Tick
