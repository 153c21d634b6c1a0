"""What of the coordinator's events and effects is about landing, review and people's words."""

from __future__ import annotations

from dataclasses import dataclass

from swarm.coordinator.landings import ToLand
from swarm.landing.model import Verdict
from swarm.wire.work import Answer, Approve, Reject

# -- events ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class News:
    """One thing people wait for: ``kind`` is ``needs_human``, ``review`` or ``merged``."""

    kind: str
    task: str
    detail: str
    """The question, or the commit."""


@dataclass(frozen=True, slots=True)
class LandingsFound:
    """All tasks whose work may land now.  ``asked``: reviews were asked for."""

    tasks: tuple[ToLand, ...]
    asked: bool
    news: tuple[News, ...] = ()
    doubts: tuple[ToLand, ...] = ()
    """Commits of tasks that were taken out of ``landing``: they may have landed all the same."""


@dataclass(frozen=True, slots=True)
class LandingEnded:
    """A landing has its verdict."""

    what: ToLand
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class DoubtAnswered:
    """Git said what ``what`` has landed as; empty: it has not."""

    what: ToLand
    commit: str


@dataclass(frozen=True, slots=True)
class DoubtSettled:
    """The ledger has git's answer."""


@dataclass(frozen=True, slots=True)
class LandingSettled:
    """The ledger has it, or the task was moved meanwhile and nothing changed."""

    what: ToLand


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of a person's word by chat: the task's ``state``, or why not."""

    by: str
    task: str
    state: str
    problem: str = ""


# -- effects --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LookForLandings:
    """See what may land, what waits for review, what people wait for: :class:`LandingsFound`.

    Many of these at once are one.
    """


@dataclass(frozen=True, slots=True)
class Decide:
    """Do what the operator said by chat; ends as :class:`Decided`."""

    order: Approve | Reject | Answer
    by: str
