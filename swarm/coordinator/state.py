"""What the coordinator knows, as frozen values.

Mappings are never changed in place: a step that changes one makes a copy.  Times are monotonic
seconds.  Everything here is a view: the ledger owns tasks and leases, the supervisor owns agents;
a coordinator that starts again builds it anew from both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from swarm.coordinator.landings import Landings
from swarm.core.matching import Needs, Takes, needs_of, role_takes
from swarm.core.model import AgentState, is_outsider_id
from swarm.ledger.interface import Task
from swarm.wire.lifeline import AgentFact, RoleRules
from swarm.wire.work import TaskRef

FIRST_WAIT, WAIT_CAP = 1.0, 30.0
"""Seconds until an announcement nobody claimed is made again: 1, 2, 4 … 30."""
FIRST_RESEND = 2.0
"""Seconds until an ``ASSIGN`` nobody answered is sent again; doubles."""
START_SECONDS = 30.0
"""An assignment whose session has not started by then is taken back."""
MAX_OFFERED = 3
"""Agents named in one announcement, at most (rules, "Announcing")."""
SLOT_MS = 50
"""Milliseconds a not-offered agent's place in the spread of claims is wide, at least: as long as
the server takes to let one more message through."""
BUSY_SECONDS, ABSENT_SECONDS = 120.0, 15.0
"""How long an interrupted task waits for the agent that has its session: while it works on
something else, or has only just died."""
FORGET_SECONDS = 3600.0
"""Such a wait that is over is remembered so long, so that it is not begun again."""
ANSWER_BURST, ANSWERS_PER_SECOND = 5.0, 1.0
"""Refusals told to strangers: a flood of theirs must not become one of ours."""
DEFAULT_ROLE = "builder"
"""Of an announcement that names none."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What does not change while a coordinator lives."""

    me: str
    """Its own bare agent id."""
    lease_seconds: float = 90.0
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Every known role and the other roles' tasks it takes; its own always."""

    def takes(self, agent_role: str) -> frozenset[str]:
        """The roles of the tasks an agent of ``agent_role`` takes."""
        return frozenset((agent_role, *self.roles.get(agent_role, ())))

    def known(self, role: str) -> bool:
        """Whether any agent could ever take a task of this role."""
        return role in self.roles or any(role in taken for taken in self.roles.values())


@dataclass(frozen=True, slots=True)
class Waiting:
    """A queued task that could start."""

    id: str
    role: str
    component: str
    title: str
    priority: int
    lane: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    fence: int = 0
    """Of the last lease it had: a lease with this fence, or an older one, is over."""
    last_agent: str = ""
    """Who worked on it last: its workspace has the branch."""
    holder: str = ""
    """Agent id of who can go on with its interrupted session; empty when there is none."""

    @property
    def ref(self) -> TaskRef:
        """As the channel sees it: never with the prompt, nor with a title made from it."""
        return TaskRef(
            id=self.id,
            role=self.role,
            component=self.component,
            title=self.title,
            priority=self.priority,
            lane=self.lane,
        )

    @property
    def needs(self) -> Needs:
        """What it wants of whoever takes it."""
        return needs_of(self)


def public_title(task: Task) -> str:
    """The title somebody gave it; a prompt's first line stays private (rules, "Prompts")."""
    return task.title if task.titled or task.announced else ""


@dataclass(frozen=True, slots=True)
class Offer:
    """A task that is announced and not yet claimed."""

    task: Waiting
    to: tuple[str, ...]
    """Names of the agents that were asked to claim at once."""
    tried: frozenset[str]
    """Everyone it was ever offered to."""
    again_at: float
    wait: float = FIRST_WAIT
    public: bool = False
    """Everybody was told of it, so that others than the asked wait for their place to claim."""
    checking: bool = False
    """Its time is over, and the ledger is being asked whether the task still waits."""


@dataclass(frozen=True, slots=True)
class Patience:
    """An interrupted task waits for the one agent that can go on with its session."""

    fence: int
    since: float
    until: float
    over: bool = False
    """``until`` has come: anybody may have it."""


@dataclass(frozen=True, slots=True)
class Preparing:
    """Leased; where its commits start is being found out."""


@dataclass(frozen=True, slots=True)
class Assigning:
    """``ASSIGN`` was sent; not yet heard to have started."""

    until: float
    again_at: float
    wait: float = FIRST_RESEND


@dataclass(frozen=True, slots=True)
class Working:
    """Its session runs."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """The supervisor was told to end it; its last report is awaited."""


Phase: TypeAlias = Preparing | Assigning | Working | Revoked


@dataclass(frozen=True, slots=True)
class Lease:
    """One task in one agent's hands."""

    task: Waiting
    fence: int
    agent: str
    """Its name; ``@<id>`` for one that is not of our fleet."""
    agent_id: str
    phase: Phase
    expires: float
    seen: bool = False
    """The supervisor's free slots already take it into account."""
    public: bool = False
    """Everybody was told that the task waits, so everybody is told who has it."""
    prompt: str = ""
    """Of a task that was announced on the channel, where its prompt is no secret, and only for
    an agent that is not of our fleet: its ``ASSIGN`` carries it."""
    seconds: float = 0.0
    """Of an outsider's lease: the term it asked for; others have that of the settings."""
    until: float = 0.0
    """Of an outsider's lease: its end in the ledger, which another process renews."""

    @property
    def foreign(self) -> bool:
        """Whether it is held outside of our fleet, where no lifeline reaches."""
        return self.agent.startswith("@")

    @property
    def outsider(self) -> bool:
        """Whether its holder is not on the channel either: it works on the ledger itself."""
        return is_outsider_id(self.agent_id)

    @property
    def begun(self) -> bool:
        """Whether its session has started, as far as is known."""
        return isinstance(self.phase, Working | Revoked)


@dataclass(frozen=True, slots=True)
class State:
    """All of it."""

    settings: Settings
    ready: bool = False
    """The supervisor's snapshot has come; before it nothing is given out."""
    online: bool = False
    """We are on the channel."""
    coordinators: tuple[str, ...] = ()
    announcers: tuple[str, ...] = ()
    agents: Mapping[str, AgentFact] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    """Agent id → name, of our fleet."""
    takes: Mapping[str, Takes] = field(default_factory=dict)
    """What an agent of each role takes, as the rules in force say."""
    free: int = 0
    """Promotions the gate would allow, as the supervisor last said."""
    offers: Mapping[str, Offer] = field(default_factory=dict)
    leases: Mapping[str, Lease] = field(default_factory=dict)
    silent: frozenset[str] = frozenset()
    """Idle agents that left their last offer unanswered, or gave back what they got: they are
    asked last, until they claim or change."""
    denials: Mapping[str, int] = field(default_factory=dict)
    """How often in a row a task was given back before it began."""
    patience: Mapping[str, Patience] = field(default_factory=dict)
    """Task → how long it waits for the agent that has its session."""
    slot_ms: int = SLOT_MS
    """As the server's rate has it."""
    wake: float | None = None
    """When the next delayed task may be looked at again."""
    answers: float = ANSWER_BURST
    answered_at: float = 0.0
    landings: Landings = field(default_factory=Landings)
    operator: str = ""
    """Bare id of the person's own identity."""


def takes_of(state: State, role: str) -> Takes:
    """What an agent of this role takes; of one the rules do not name, the default lane."""
    return state.takes.get(role) or role_takes(state.settings.takes(role))


def takes_by_role(settings: Settings, rules: Mapping[str, RoleRules]) -> dict[str, Takes]:
    """What an agent of each role takes from now on."""
    anyone = RoleRules()
    named = {role: rules.get(role, anyone) for role in (*settings.roles, *rules) if role}
    return {
        role: role_takes(settings.takes(role), rule.lanes, rule.labels)
        for role, rule in named.items()
    }


def hopeless(state: State, offer: Offer) -> bool:
    """Whether only silent agents are asked: no slot is set aside for such an announcement."""
    return bool(offer.to) and state.silent.issuperset(offer.to)


def committed(state: State) -> int:
    """Slots spoken for that the supervisor does not know of yet."""
    unseen = sum(not (lease.seen or lease.foreign) for lease in state.leases.values())
    return unseen + sum(not hopeless(state, offer) for offer in state.offers.values())


def spare(state: State) -> int:
    """How many more tasks may be announced."""
    return state.free - committed(state)


def lease_of(state: State, agent_id: str) -> Lease | None:
    """What an agent holds, if anything."""
    return next((one for one in state.leases.values() if one.agent_id == agent_id), None)


def idle_agents(state: State) -> list[AgentFact]:
    """Agents that could claim now: idle, open, holding nothing, asked for nothing else."""
    busy = {name for offer in state.offers.values() for name in offer.to}
    busy.update(lease.agent for lease in state.leases.values())
    return [
        fact
        for fact in state.agents.values()
        if fact.state is AgentState.IDLE
        and not (fact.task or fact.closed)
        and fact.name not in busy
    ]
