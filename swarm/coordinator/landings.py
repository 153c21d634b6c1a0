"""The landing queue, pure: which task's commit goes to which target next.

Serial for each hub and its target, each hub for itself.  The ledger says what waits
(:func:`found`); a landing in flight ends as a verdict (:func:`ended`), and is over when the ledger
has it (:func:`settled`).  What could not land for a reason of ours is tried again after 1, 2, 4 …
60 seconds, and holds up nothing behind it.  Times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from swarm.landing.model import NotLanded, Verdict

FIRST_DELAY, DELAY_CAP = 1.0, 60.0
"""Seconds until a landing that could not be tried properly is tried again."""


@dataclass(frozen=True, slots=True)
class ToLand:
    """One task whose work may land."""

    task: str
    tip: str
    """The very commit."""
    hub: str
    """Where it lands: tasks of one hub go one after the other."""
    priority: int = 0
    seq: int = 0

    @property
    def order(self) -> tuple[int, int]:
        """Highest priority first, then the oldest."""
        return -self.priority, self.seq


@dataclass(frozen=True, slots=True)
class Flight:
    """A landing under way."""

    what: ToLand
    settling: bool = False
    """Its verdict is known; the ledger is being told."""
    stopped: bool = False
    """Nobody wants it any more; its end is awaited."""


@dataclass(frozen=True, slots=True)
class Delay:
    """It could not land, for a reason that is not the task's."""

    tip: str
    tries: int
    until: float


@dataclass(frozen=True, slots=True)
class Landings:
    """All of it."""

    waiting: tuple[ToLand, ...] = ()
    """In order; without those in flight."""
    flights: Mapping[str, Flight] = field(default_factory=dict)
    """Hub → what lands there now."""
    delays: Mapping[str, Delay] = field(default_factory=dict)
    """Task → when it is tried again."""


@dataclass(frozen=True, slots=True)
class Land:
    """Try it; ends as an event with its verdict."""

    what: ToLand


@dataclass(frozen=True, slots=True)
class StopLanding:
    """It is not wanted any more: end it, if its target has not moved yet."""

    what: ToLand


@dataclass(frozen=True, slots=True)
class SettleLanding:
    """Tell the ledger; ends as an event."""

    what: ToLand
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class AskWhether:
    """Ask git whether this commit, which nobody lands any more, has landed; ends as an event."""

    what: ToLand


@dataclass(frozen=True, slots=True)
class SettleDoubt:
    """Tell the ledger what git said; ends as an event."""

    what: ToLand
    commit: str
    """What it has landed as; empty: it has not."""


@dataclass(frozen=True, slots=True)
class NoteLanding:
    """Tell people beside the task why it has not landed yet."""

    what: ToLand
    reason: str


Do: TypeAlias = Land | StopLanding | SettleLanding | AskWhether | NoteLanding
Step: TypeAlias = tuple[Landings, tuple[Do, ...]]


def found(landings: Landings, tasks: Sequence[ToLand], now: float) -> Step:
    """The ledger's whole queue, as it is now."""
    known = {(one.task, one.tip) for one in tasks}
    flights, stop = dict(landings.flights), list[Do]()
    for hub, flight in flights.items():
        gone = (flight.what.task, flight.what.tip) not in known
        if gone and not flight.settling and not flight.stopped:
            flights[hub] = replace(flight, stopped=True)
            stop.append(StopLanding(flight.what))
    flying = {flight.what.task for flight in flights.values()}
    waiting = tuple(sorted((o for o in tasks if o.task not in flying), key=lambda o: o.order))
    delays = {k: v for k, v in landings.delays.items() if (k, v.tip) in known}
    landings, started = due(Landings(waiting, flights, delays), now)
    return landings, (*stop, *started)


def doubted(landings: Landings, doubts: Sequence[ToLand]) -> tuple[Do, ...]:
    """Commits taken out of the queue by somebody's word: git is asked about each.

    Not while one is still in flight: its own end comes first, and says it too.
    """
    flying = {(flight.what.task, flight.what.tip) for flight in landings.flights.values()}
    return tuple(AskWhether(one) for one in doubts if (one.task, one.tip) not in flying)


def due(landings: Landings, now: float) -> Step:
    """Start on each free hub the first whose time has come."""
    flights, started = dict(landings.flights), list[Do]()
    for one in landings.waiting:
        if one.hub not in flights and not _delayed(landings, one, now):
            flights[one.hub] = Flight(one)
            started.append(Land(one))
    if not started:
        return landings, ()
    flying = {flight.what for flight in flights.values()}
    waiting = tuple(one for one in landings.waiting if one not in flying)
    return replace(landings, waiting=waiting, flights=flights), tuple(started)


def ended(landings: Landings, what: ToLand, verdict: Verdict, now: float) -> Step:
    """A landing has its verdict."""
    flight = landings.flights.get(what.hub)
    if flight is None or flight.what != what or flight.settling:
        return landings, ()
    if isinstance(verdict, NotLanded) and (verdict.retry or flight.stopped):
        return _not_landed(landings, flight, verdict, now)
    # Landed although it was to be stopped: the target has moved, and the ledger must know.
    flights = {**landings.flights, what.hub: replace(flight, settling=True)}
    return replace(landings, flights=flights), (SettleLanding(what, verdict),)


def settled(landings: Landings, what: ToLand, now: float) -> Step:
    """The ledger has the verdict: the next one's turn."""
    flight = landings.flights.get(what.hub)
    if flight is None or flight.what != what:
        return landings, ()
    return due(_without(landings, what), now)


def deadline(landings: Landings) -> float | None:
    """When :func:`due` next has something to do by time alone."""
    times = [
        landings.delays[one.task].until
        for one in landings.waiting
        if one.task in landings.delays and one.hub not in landings.flights
    ]
    return min(times, default=None)


def _not_landed(landings: Landings, flight: Flight, verdict: NotLanded, now: float) -> Step:
    what = flight.what
    landings = _without(landings, what)
    if flight.stopped:
        return due(landings, now)
    before = landings.delays.get(what.task)
    tries = before.tries if before is not None and before.tip == what.tip else 0
    delay = Delay(what.tip, tries + 1, now + min(FIRST_DELAY * 2.0 ** min(tries, 10), DELAY_CAP))
    waiting = tuple(sorted((*landings.waiting, what), key=lambda one: one.order))
    delays = {**landings.delays, what.task: delay}
    landings, started = due(replace(landings, waiting=waiting, delays=delays), now)
    return landings, (NoteLanding(what, verdict.reason), *started)


def _without(landings: Landings, what: ToLand) -> Landings:
    """No longer in flight, and not waiting either until the ledger says so."""
    flights = {k: v for k, v in landings.flights.items() if v.what != what}
    delays = landings.delays
    waiting = tuple(one for one in landings.waiting if one.task != what.task)
    return Landings(waiting, flights, delays)


def _delayed(landings: Landings, one: ToLand, now: float) -> bool:
    delay = landings.delays.get(one.task)
    return delay is not None and delay.tip == one.tip and delay.until > now
