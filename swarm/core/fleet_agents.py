"""One agent and one service as the fleet sees them: a life, and for an agent its work.

The life (:mod:`swarm.core.life`) is about the process; the work phase is about the task its
daemon holds.  They meet in two places only: work is taken on while the life runs, and a daemon
that dies with a task is *cleaning* before its life hears of the exit, so that no new daemon
starts in a workspace where an old session may still write.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, assert_never

from swarm.core.fleet_events import (
    Fact,
    Session,
    TaskWork,
)
from swarm.core.life import Life
from swarm.core.model import AgentState, ChildState


@dataclass(frozen=True, slots=True)
class NoWork:
    """No daemon that could take any."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Idle since ``since``."""

    since: float


@dataclass(frozen=True, slots=True)
class Asking:
    """It holds an ``ASSIGN``, and our coordinator's word about the work has not come yet."""

    task: str
    fence: int
    coordinator: str
    since: float
    idle_since: float


@dataclass(frozen=True, slots=True)
class Promoting:
    """Granted; its session is about to start."""

    task: str
    fence: int
    attempt: int = 0
    """0 for a foreign coordinator's task."""
    ending: bool = False
    """It was told to end this session."""


@dataclass(frozen=True, slots=True)
class Active:
    """Its session runs."""

    task: str
    fence: int
    session: Session
    attempt: int = 0
    ending: bool = False


@dataclass(frozen=True, slots=True)
class Demoting:
    """Its session has ended and was reported; it is not idle yet."""

    task: str
    fence: int


@dataclass(frozen=True, slots=True)
class Cleaning:
    """The daemon died with this task; its tree is being emptied and its outbox read."""

    task: str
    fence: int
    begun: bool
    """Whether the session had started: only then the attempt counts."""
    status: int
    probe: bool = False
    """It held no task: it was probing its runtime's quota."""


Work: TypeAlias = NoWork | Waiting | Asking | Promoting | Active | Demoting | Cleaning


@dataclass(frozen=True, slots=True)
class Agent:
    """One slot of the fleet."""

    name: str
    role: str
    life: Life
    work: Work = NoWork()
    agent_id: str = ""
    runtime: str = ""
    """The runtime its daemon was born with."""
    warm: bool = False
    """Its clone exists."""
    leaving: bool = False
    """It goes out of the fleet for good once it has stopped."""
    beaten: bool = False
    """This process has sent a heartbeat."""
    failing: str = ""
    """What this process said before it exits."""
    trouble: str = ""
    chat_problem: str = ""
    state: AgentState = AgentState.STOPPED
    """As last shown; kept so that a change is seen."""
    since: float = 0.0
    """When ``state`` was entered."""

    @property
    def shown(self) -> AgentState:
        """What people see (product, "States")."""
        match self.life.state:
            case ChildState.STOPPED:
                return AgentState.STOPPED
            case ChildState.SPAWNING | ChildState.STARTING:
                return AgentState.STARTING
            case ChildState.STOPPING:
                return AgentState.STOPPING
            case ChildState.BACKOFF:
                return AgentState.BACKOFF
            case ChildState.DEGRADED:
                return AgentState.DEGRADED
            case ChildState.RUNNING:
                return _of_work(self.work)
            case _:
                assert_never(self.life.state)

    @property
    def ready(self) -> bool:
        """Whether it has joined its channel and sent a heartbeat."""
        return self.life.state is ChildState.RUNNING and self.beaten

    @property
    def held(self) -> tuple[str, int] | None:
        """Task and fence it runs, or was granted and is about to run."""
        match self.work:
            case Promoting(task=task, fence=fence) | Active(task=task, fence=fence):
                return task, fence
            case Cleaning(task=task, fence=fence, probe=False):
                return task, fence
            case _:
                return None

    @property
    def busy(self) -> bool:
        """Whether scaling down must leave it alone."""
        return isinstance(self.work, Asking | Promoting | Active | Demoting | Cleaning)

    @property
    def idle(self) -> bool:
        """Whether it may be offered a task."""
        return (
            isinstance(self.work, Waiting)
            and not self.leaving
            and self.life.state is ChildState.RUNNING
        )

    @property
    def reason(self) -> str:
        """Why it is as it is, for people; empty when all is well."""
        said = (self.life.reason, self.failing, self.trouble, self.chat_problem)
        return "; ".join(dict.fromkeys(text for text in said if text))

    def fact(self, epoch: float) -> Fact | None:
        """What the coordinator is told; ``None`` when it takes no work and holds none.

        ``epoch`` is the Unix time at which the fleet's clock was 0.
        """
        if self.state not in _KNOWN_TO_COORDINATOR and self.held is None:
            return None
        task, fence = self.held or ("", 0)
        if isinstance(self.work, Demoting):
            task, fence = self.work.task, self.work.fence
        state = self.state if self.state in _KNOWN_TO_COORDINATOR else AgentState.ACTIVE
        if self.leaving and state is AgentState.IDLE:
            return None
        return Fact(
            self.name, self.agent_id, self.role, state, epoch + self.since, self.warm, task, fence
        )


_KNOWN_TO_COORDINATOR = frozenset(
    {AgentState.IDLE, AgentState.PROMOTING, AgentState.ACTIVE, AgentState.DEMOTING}
)


@dataclass(frozen=True, slots=True)
class Service:
    """``chat`` or ``coordinator``."""

    name: str
    life: Life
    address: str = ""
    failing: str = ""
    trouble: str = ""

    @property
    def reason(self) -> str:
        """Why it is as it is, for people; empty when all is well."""
        said = (self.life.reason, self.failing, self.trouble)
        return "; ".join(dict.fromkeys(text for text in said if text))


@dataclass(frozen=True, slots=True)
class Assignment:
    """What our coordinator leased to an agent that has not asked for it yet."""

    agent: str
    fence: int
    work: TaskWork
    at: float


def _of_work(work: Work) -> AgentState:
    match work:
        case NoWork() | Waiting():
            return AgentState.IDLE
        case Asking() | Promoting():
            return AgentState.PROMOTING
        case Active():
            return AgentState.ACTIVE
        case Demoting():
            return AgentState.DEMOTING
        case Cleaning():
            return AgentState.BACKOFF
        case _:
            assert_never(work)
