"""How the landing queue and people's words take part in the coordinator's machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeAlias, assert_never

from swarm.coordinator import landings
from swarm.coordinator.landing_messages import (
    Decide,
    Decided,
    DoubtAnswered,
    DoubtSettled,
    LandingEnded,
    LandingSettled,
    LandingsFound,
    LookForLandings,
    News,
)
from swarm.coordinator.landings import Land, Landings, SettleDoubt
from swarm.coordinator.messages import (
    Effect,
    Heard,
    Log,
    Look,
    LookForCancelled,
    LookForIdleQueues,
    Say,
)
from swarm.coordinator.state import State
from swarm.landing.model import Landed
from swarm.wire.pacing import SETTLING, STATUS
from swarm.wire.work import (
    Answer,
    Approve,
    HasLanded,
    InReview,
    NeedsHuman,
    Reject,
    Rejected,
    Status,
    TaskRef,
    WorkMessage,
)

Step: TypeAlias = tuple[State, tuple[Effect, ...]]
_LOOKS = (LookForLandings(), LookForIdleQueues(), Look())
"""After a task has moved: the next may land, and whoever waited for it may start."""


def step(
    state: State,
    event: LandingsFound | LandingEnded | LandingSettled | DoubtAnswered | DoubtSettled | Decided,
    now: float,
) -> Step:
    """What came of looking for landings, of one of them, or of a person's word."""
    match event:
        case LandingsFound():
            return found(state, event, now)
        case LandingEnded():
            return ended(state, event, now)
        case LandingSettled():
            return settled(state, event, now)
        case DoubtAnswered(what, commit):
            return state, (SettleDoubt(what, commit),)
        case DoubtSettled():
            return state, _LOOKS
        case Decided():
            return decided(state, event)
        case _:
            assert_never(event)


def found(state: State, event: LandingsFound, now: float) -> Step:
    """The ledger's queue, the reviews that were asked for, and what the channel should hear."""
    state, effects = _with(state, landings.found(state.landings, event.tasks, now))
    effects += landings.doubted(state.landings, event.doubts)
    if event.asked:
        effects += (LookForIdleQueues(), Look())
    return state, (*effects, *(_told(state, one) for one in event.news))


def ended(state: State, event: LandingEnded, now: float) -> Step:
    """A landing has its verdict.  One that was stopped may have left a doubt, looked at then."""
    flight = state.landings.flights.get(event.what.hub)
    looks = (LookForLandings(),) if flight is not None and flight.stopped else ()
    state, effects = _with(state, landings.ended(state.landings, event.what, event.verdict, now))
    said = type(event.verdict).__name__.lower()
    text = event.verdict.commit if isinstance(event.verdict, Landed) else ""
    return state, (Log(said, event.what.task, text=text), *effects, *looks)


def settled(state: State, event: LandingSettled, now: float) -> Step:
    """The ledger has it: whoever waited for this task may start, and the next one may land."""
    state, effects = _with(state, landings.settled(state.landings, event.what, now))
    return state, (*effects, *_LOOKS)


def due(state: State, now: float) -> Step:
    """Landings whose time to be tried again has come."""
    return _with(state, landings.due(state.landings, now))


def ordered(state: State, event: Heard, order: Approve | Reject | Answer) -> Step:
    """A person's word by chat: only the operator's own, and never a replay's.

    An old answer must not answer the next question.  What lacks something is answered.
    """
    mine = bool(state.operator) and event.sender == state.operator
    if event.replay or not mine:
        return state, ()
    if lacks := _lacks(order):
        return decided(state, Decided(event.sender, order.task.id[:64], "", lacks))
    return state, (Decide(order, event.sender),)


def _lacks(order: Approve | Reject | Answer) -> str:
    """What is missing of an order, with its whole form; empty when nothing is."""
    match order:
        case Approve():
            form, text = "APPROVE <task> [commit]", "-"
        case Reject(text=text):
            form = "REJECT <task> <what is wrong>"
        case Answer(text=text):
            form = "ANSWER <task> <text>"
    if not order.task.id.strip():
        return f"no task was named: {form}"
    return "" if text.strip() else f"no text was given: {form}"


def decided(state: State, event: Decided) -> Step:
    """Tell the person what became of it, and go on with the task."""
    task = TaskRef(id=event.task)
    if event.problem:
        refused = Rejected(agentId=event.by, task=task, reason=event.problem)
        return state, (Say(refused, STATUS, f"decided:{event.task}", (event.by,)),)
    text = f"{event.task} is {event.state}"
    message = Status(agentId=event.by, task=task, phase=event.state, text=text)
    said = Say(message, STATUS, f"decided:{event.task}", (event.by,))
    looks = (LookForLandings(), LookForCancelled(), LookForIdleQueues(), Look())
    return state, (said, Log("decided", event.task, text=event.state), *looks)


def _with(state: State, step: tuple[Landings, Iterable[Effect]]) -> Step:
    after, effects = step
    started = tuple(Log("landing", one.what.task) for one in effects if isinstance(one, Land))
    return replace(state, landings=after), (*started, *effects)


def _told(state: State, news: News) -> Say:
    """For people; an agent of the fleet is not woken by it where that can be helped."""
    task = TaskRef(id=news.task)
    message: WorkMessage
    match news.kind:
        case "merged":
            message = HasLanded(task=task, commit=news.detail)
        case "review":
            message = InReview(task=task, commit=news.detail)
        case _:
            message = NeedsHuman(task=task, text=news.detail)
    to = (state.operator,) if state.operator else ()
    return Say(message, SETTLING, f"{news.kind}:{news.task}:{news.detail[:40]}", to)
