"""What the fleet can ask for: all of it data, carried out by the shell.

Every effect that starts something ends as exactly one later event: a life's ``Spawn`` as
``Spawned`` or ``SpawnFailed``, a spawned child as ``Exited``, :class:`CleanTree` as
``TreeCleaned``, :class:`Tidy` as ``Tidied``, :class:`CleanUp` as ``CleanedUp``.  A command that a
person waits for is answered by exactly one :class:`Reply` or :class:`Refuse` with its number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from swarm.core.fleet_events import Fact, Report, Session, TaskWork
from swarm.core.journal import Entry
from swarm.core.life import HastenSpawn, Signal, Spawn
from swarm.core.model import NoticeKind, Outcome

# -- effects: children ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TellLeave:
    """Ask a child to exit; a session gets ``grace`` seconds, or with ``drain`` its time."""

    name: str
    grace: float
    drain: bool = False


@dataclass(frozen=True, slots=True)
class Tune:
    """Send a daemon its live settings, or the coordinator its rules."""

    name: str


@dataclass(frozen=True, slots=True)
class Grant:
    """The session may start.  ``work`` is ``None`` for a foreign coordinator's task."""

    name: str
    task: str
    fence: int
    work: TaskWork | None


@dataclass(frozen=True, slots=True)
class Deny:
    """The gate is closed."""

    name: str
    task: str
    fence: int
    reason: str
    retry_after: float = 0.0


@dataclass(frozen=True, slots=True)
class TellEndSession:
    """End this session's whole tree; its attempt gets ``outcome``."""

    name: str
    task: str
    fence: int
    outcome: Outcome
    reason: str
    grace: float


@dataclass(frozen=True, slots=True)
class TellPrepare:
    """Make the clone now, so that the first session need not wait for it."""

    name: str
    hub: str
    clone: str


@dataclass(frozen=True, slots=True)
class TellProbe:
    """Run one small session, to see whether the runtime's quota is back; ends as ``Probed``."""

    name: str
    id: int


@dataclass(frozen=True, slots=True)
class CleanTree:
    """Kill what is left of a dead daemon's session, see it empty, read the outbox.

    ``session`` is ``None`` when the daemon died between the grant and the session's start: there
    may be a tree, known by its marker only.  Ends as :class:`TreeCleaned`.
    """

    name: str
    task: str
    fence: int
    session: Session | None


@dataclass(frozen=True, slots=True)
class Tidy:
    """Salvage and remove the workspaces of these agents.  Ends as :class:`Tidied`.

    ``rest``: every other workspace this home owns as well; the swarm is ending.
    """

    names: tuple[str, ...]
    rest: bool = False


@dataclass(frozen=True, slots=True)
class CleanUp:
    """Remove what is past its time: the disk runs low.  Ends as :class:`CleanedUp`."""


@dataclass(frozen=True, slots=True)
class EndCleanUp:
    """End the clean-up that is at work, wherever it is."""


# -- effects: the coordinator ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TellSnapshot:
    """The whole fleet, first line after the coordinator's ready."""

    facts: tuple[Fact, ...]
    reports: tuple[Report, ...]


@dataclass(frozen=True, slots=True)
class TellAgent:
    """An agent changed."""

    fact: Fact


@dataclass(frozen=True, slots=True)
class TellGone:
    """An agent takes no work any more."""

    name: str


@dataclass(frozen=True, slots=True)
class TellSlots:
    """How many promotions the gate would allow now, and why no more."""

    free: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TellRenew:
    """The holder beats."""

    task: str
    fence: int


@dataclass(frozen=True, slots=True)
class TellBegun:
    """The session of an assignment has started."""

    name: str
    task: str
    fence: int
    session: Session


@dataclass(frozen=True, slots=True)
class TellSpent:
    """What a running session used so far."""

    spent: object


@dataclass(frozen=True, slots=True)
class TellLost:
    """A holder died, its tree is empty, and there is no report of its attempt."""

    name: str
    task: str
    fence: int
    reason: str
    counts: bool


@dataclass(frozen=True, slots=True)
class TellReported:
    """A report, handed over past the chat."""

    name: str
    report: Report


@dataclass(frozen=True, slots=True)
class TellNotice:
    """Something of the fleet that people may want to be told of."""

    kind: NoticeKind
    text: str
    agent: str = ""


@dataclass(frozen=True, slots=True)
class TellPoke:
    """The ledger changed."""


# -- effects: people and the record ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reply:
    """A command was carried out; ``lines`` say it to people."""

    reply: int
    lines: tuple[str, ...] = ()
    data: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refuse:
    """A command was not carried out, and nothing changed."""

    reply: int
    error: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """One entry of the journal."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class KeepPause:
    """Remember a pause over a restart; ``until`` in Unix seconds, ``None`` until resumed."""

    scope: str
    reason: str
    until: float | None = None


@dataclass(frozen=True, slots=True)
class DropPause:
    """Forget a pause that was remembered."""

    scope: str


@dataclass(frozen=True, slots=True)
class EndQuotaWaits:
    """Let the tasks go that wait for a quota, then tell the coordinator."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The start is over: everyone is ready (``ok``), or ``problems`` say who is not and why."""

    ok: bool
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class End:
    """Nothing is left to do: every child is gone."""


Effect: TypeAlias = (
    Spawn | HastenSpawn | Signal | TellLeave | Tune | Grant | Deny | TellEndSession | TellPrepare
    | TellProbe | CleanTree | Tidy | CleanUp | EndCleanUp
    | TellSnapshot | TellAgent | TellGone | TellSlots | TellRenew | TellBegun | TellSpent
    | TellLost | TellReported | TellNotice | TellPoke
    | Reply | Refuse | Note | KeepPause | DropPause | EndQuotaWaits | Settled | End
)  # fmt: skip
