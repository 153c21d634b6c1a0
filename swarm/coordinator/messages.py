"""What can happen to the coordinator, and what it can ask its shell to do: all of it data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from swarm.coordinator.landing_messages import (
    Decide,
    Decided,
    DoubtAnswered,
    DoubtSettled,
    LandingEnded,
    LandingSettled,
    LandingsFound,
    LookForLandings,
)
from swarm.coordinator.landings import (
    AskWhether,
    Land,
    NoteLanding,
    SettleDoubt,
    SettleLanding,
    StopLanding,
)
from swarm.coordinator.state import Waiting
from swarm.core.matching import Takes
from swarm.core.model import Outcome
from swarm.ledger.interface import Claimed, Holder, Settlement
from swarm.wire.lifeline import (
    AgentFact,
    Assigned,
    Finished,
    LandingRules,
    Revoke,
    RoleRules,
    Work,
)
from swarm.wire.work import TaskRef, WorkMessage

# -- events: from the supervisor ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SnapshotTaken:
    """The whole fleet, and every lease the ledger has."""

    agents: tuple[AgentFact, ...]
    reports: tuple[Finished, ...]
    holders: tuple[Holder, ...]
    retried: frozenset[str] = frozenset()
    """Tasks that were queued again, though an agent still runs an earlier attempt at them."""


@dataclass(frozen=True, slots=True)
class AgentChanged:
    """One agent as it now is."""

    fact: AgentFact


@dataclass(frozen=True, slots=True)
class AgentLeft:
    """An agent is no more of the fleet."""

    name: str


@dataclass(frozen=True, slots=True)
class SlotsAre:
    """How many promotions the gate would allow."""

    free: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Renewed:
    """A holder of our fleet beats."""

    task: str
    fence: int


@dataclass(frozen=True, slots=True)
class Started:
    """The session of an assignment runs; ``at`` in Unix seconds."""

    agent: str
    task: str
    fence: int
    at: float


@dataclass(frozen=True, slots=True)
class HolderLost:
    """A holder died and left no report."""

    agent: str
    task: str
    fence: int
    reason: str
    counts: bool


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A report that came past the chat."""

    agent: str
    finished: Finished


@dataclass(frozen=True, slots=True)
class Poked:
    """The ledger changed."""


@dataclass(frozen=True, slots=True)
class RulesAre:
    """Whom to listen to, and what the roles' budgets are; ``""`` is any other role."""

    coordinators: tuple[str, ...]
    announcers: tuple[str, ...]
    roles: Mapping[str, RoleRules] = field(default_factory=dict)
    operator: str = ""
    """Bare id of the person who approves, rejects and answers by chat; empty: nobody."""
    landing: LandingRules | None = None
    """How work lands; ``None``: not known yet, and nothing does."""


# -- events: from the channel, and the clock ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Online:
    """We are on the channel, or no more."""

    online: bool
    messages_per_second: float | None = None
    """What the server lets us say; ``None`` is unknown."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A work message; ``sender`` is the bare id the server proved."""

    sender: str
    message: WorkMessage
    msg_id: str = ""
    replay: bool = False
    at: float = 0.0
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class Garbled:
    """A message of one of our types that does not hold what the type needs."""

    sender: str
    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A deadline may have passed."""


# -- events: how an effect ended ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """What waits; ``wake`` is when the next delayed task may be looked at (monotonic)."""

    tasks: tuple[Waiting, ...]
    wake: float | None = None


@dataclass(frozen=True, slots=True)
class OffersChecked:
    """Which of the announced ``tasks`` still wait."""

    tasks: tuple[str, ...]
    waiting: frozenset[str]


@dataclass(frozen=True, slots=True)
class ClaimWon:
    """The ledger gave the lease."""

    claimed: Claimed
    agent: str
    agent_id: str


@dataclass(frozen=True, slots=True)
class ClaimLost:
    """The ledger did not; ``known`` says whether it knows the task at all.

    ``again``: it could not answer now, so the task stays announced and is offered again later.
    """

    task: TaskRef
    agent_id: str
    reason: str
    known: bool = True
    again: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything the holder needs is known."""

    work: Work
    fence: int


@dataclass(frozen=True, slots=True)
class Unprepared:
    """The repository said no."""

    task: str
    fence: int
    reason: str


@dataclass(frozen=True, slots=True)
class NotBegun:
    """A session started under a lease of ours that is over."""

    agent: str
    task: str
    fence: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the ledger made of a report."""

    task: str
    fence: int
    settlement: Settlement
    reply_to: str = ""
    """Bare id to answer; empty when nobody waits on the channel."""
    replay: bool = False


@dataclass(frozen=True, slots=True)
class GivenBack:
    """What the ledger made of an ``UNCLAIM``."""

    task: str
    fence: int
    reply_to: str
    known: bool
    stale: bool
    replay: bool = False


@dataclass(frozen=True, slots=True)
class Requeued:
    """A lease was ended without a report."""

    task: str


@dataclass(frozen=True, slots=True)
class CancelledFound:
    """Leases of tasks that were cancelled."""

    holders: tuple[Holder, ...]


@dataclass(frozen=True, slots=True)
class OutsidersFound:
    """The leases of those outside the fleet and the channel, as the ledger has them."""

    holders: tuple[Holder, ...]


@dataclass(frozen=True, slots=True)
class OutsiderExpired:
    """A term of an outsider's lease was over.  ``until``: it was renewed; ``None``: it is over."""

    task: str
    fence: int
    until: float | None


@dataclass(frozen=True, slots=True)
class TakenIn:
    """An announcement is in the ledger as ``task``; ``fresh``: only now."""

    sender: str
    task: str
    fresh: bool


@dataclass(frozen=True, slots=True)
class Unacceptable:
    """An announcement cannot be taken in."""

    sender: str
    task: TaskRef
    reason: str
    replay: bool = False


Event: TypeAlias = (
    SnapshotTaken | AgentChanged | AgentLeft | SlotsAre | Renewed | Started | HolderLost
    | HandedOver | Poked | RulesAre | Online | Heard | Garbled | Tick
    | Found | OffersChecked | ClaimWon | ClaimLost | Prepared | Unprepared | NotBegun | Recorded
    | GivenBack | Requeued | CancelledFound | OutsidersFound | OutsiderExpired
    | TakenIn | Unacceptable | LandingsFound | LandingEnded | LandingSettled
    | DoubtAnswered | DoubtSettled | Decided
)  # fmt: skip

# -- effects --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Look:
    """See what waits (:func:`swarm.coordinator.offers.wants`); ends as :class:`Found`.

    Many of these at once are one.
    """


@dataclass(frozen=True, slots=True)
class CheckOffers:
    """See whether these tasks, announced before, still wait; ends as :class:`OffersChecked`."""

    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LookForCancelled:
    """Ends as :class:`CancelledFound`."""


@dataclass(frozen=True, slots=True)
class LookForOutsiders:
    """Ends as :class:`OutsidersFound`."""


@dataclass(frozen=True, slots=True)
class Expire:
    """End an outsider's lease unless it was renewed; ends as :class:`OutsiderExpired`."""

    task: str
    fence: int
    until: float


@dataclass(frozen=True, slots=True)
class LookForIdleQueues:
    """Note for people which queues' tasks wait though no agent takes them."""


@dataclass(frozen=True, slots=True)
class TryClaim:
    """Lease the task, or without an id the oldest of its component; ends as won or lost."""

    task: TaskRef
    agent: str
    agent_id: str
    takes: Takes | None
    """What the claimant takes; ``None``: it is not of our fleet, and we know nothing of it."""


@dataclass(frozen=True, slots=True)
class Prepare:
    """Find out where the work starts; ends as :class:`Prepared` or :class:`Unprepared`."""

    claimed: Claimed


@dataclass(frozen=True, slots=True)
class Say:
    """On the channel; a newer one with the same ``key`` takes an unsent one's place.

    ``priority`` is one of :mod:`swarm.wire.pacing`.
    """

    message: WorkMessage
    priority: int
    key: str = ""
    to: tuple[str, ...] = ()
    """Bare ids of those it concerns: on a server of ours nobody of the fleet is woken by what
    concerns others.  Empty: everybody."""


@dataclass(frozen=True, slots=True)
class Unsay:
    """What was said with this key need not be sent any more."""

    key: str


@dataclass(frozen=True, slots=True)
class Tell:
    """On the lifeline."""

    line: Assigned | Revoke


@dataclass(frozen=True, slots=True)
class Begin:
    """The attempt has begun; ends as :class:`NotBegun` when the lease is over."""

    task: str
    fence: int
    agent: str
    at: float


@dataclass(frozen=True, slots=True)
class Renew:
    """The lease has a full term again."""

    task: str
    fence: int


@dataclass(frozen=True, slots=True)
class Record:
    """Take a report in; ends as :class:`Recorded`."""

    finished: Finished
    agent: str
    agent_id: str | None
    """Who sent it, to be checked; ``None`` when the supervisor vouches for it."""
    reply_to: str = ""
    replay: bool = False


@dataclass(frozen=True, slots=True)
class Requeue:
    """End a lease without a report; ends as :class:`Requeued`."""

    task: str
    fence: int
    reason: str
    counts: bool
    outcome: Outcome = Outcome.LOST


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Queue a task again that could not start; ends as :class:`GivenBack`."""

    task: str
    fence: int
    reason: str
    retry_after: float
    reply_to: str = ""
    replay: bool = False


@dataclass(frozen=True, slots=True)
class TakeIn:
    """Submit an announcement; ends as :class:`TakenIn` or :class:`Unacceptable`."""

    sender: str
    ref: str
    task: TaskRef
    replay: bool = False
    strange: tuple[str, ...] | None = None
    """The announcers that are named, where the sender is not one of them: ``"*"`` let it in."""


@dataclass(frozen=True, slots=True)
class MindRoles:
    """These are the roles' budgets and estimates, and how work lands, from now on."""

    roles: Mapping[str, RoleRules]
    landing: LandingRules | None = None


@dataclass(frozen=True, slots=True)
class NoteGate:
    """Why nothing starts, for people; empty clears it."""

    text: str


@dataclass(frozen=True, slots=True)
class Log:
    """One entry of the coordinator's log."""

    kind: str
    task: str
    agent: str = ""
    fence: int = 0
    text: str = ""


Effect: TypeAlias = (
    Look | CheckOffers | LookForCancelled | LookForOutsiders | Expire | LookForIdleQueues
    | TryClaim | Prepare | Say | Unsay
    | Tell | Begin | Renew | Record | Requeue | GiveBack | TakeIn | NoteGate | MindRoles | Log
    | LookForLandings | Land | StopLanding | SettleLanding | NoteLanding | Decide
    | AskWhether | SettleDoubt
)  # fmt: skip
