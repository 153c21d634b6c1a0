"""Announcing: which waiting task is offered to whom, and when again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from swarm.coordinator.messages import (
    CheckOffers,
    Effect,
    Found,
    Log,
    Look,
    OffersChecked,
    Say,
)
from swarm.coordinator.state import (
    ABSENT_SECONDS,
    BUSY_SECONDS,
    FIRST_WAIT,
    FORGET_SECONDS,
    MAX_OFFERED,
    WAIT_CAP,
    Offer,
    Patience,
    Revoked,
    State,
    Waiting,
    hopeless,
    idle_agents,
    spare,
    takes_of,
)
from swarm.core.matching import Takes, fits
from swarm.wire.lifeline import AgentFact
from swarm.wire.pacing import CLAIMING
from swarm.wire.work import TaskAvailable


def wants(state: State) -> tuple[tuple[Takes, ...], int] | None:
    """What idle agents take, and how many tasks to look for; ``None`` when none could start.

    As many are asked for as could be new among those already announced.
    """
    room = spare(state)
    if not (state.ready and state.online) or room <= 0:
        return None
    roles = sorted({fact.role for fact in idle_agents(state)})
    if not roles:
        return None
    # Those that wait for one agent, or for the end of their last attempt, must not hide the ones
    # behind them.
    ending = sum(isinstance(lease.phase, Revoked) for lease in state.leases.values())
    number = room + len(state.offers) + len(state.patience) + ending
    return tuple(takes_of(state, role) for role in roles), number


def announce(state: State, event: Found, now: float) -> tuple[State, tuple[Effect, ...]]:
    """Offer each task to the best idle agent, in order, while slots are free.

    A task nobody can take is passed over; it never holds up the next one.  Nor does one that waits
    for the agent that has its interrupted session (:func:`awaited`), nor one that only
    silent agents could take: it is offered to one of them, and beyond the free slots.  As soon
    as an agent that answers is there, it is offered to that one instead.
    """
    state = replace(state, wake=event.wake)
    if not (state.ready and state.online):
        return state, ()
    room, effects = spare(state), list[Effect]()
    idle, offers = idle_agents(state), dict(state.offers)
    for task in event.tasks:
        if room <= 0:
            break
        old = offers.get(task.id)
        if task.id in state.leases or (old is not None and not hopeless(state, old)):
            continue
        if (waits := awaited(state, task, idle, now)) is not None:
            state = replace(state, patience={**state.patience, task.id: waits})
            continue
        matching = fitting(state, task, idle)
        answering = [fact for fact in matching if fact.name not in state.silent]
        if not (answering or (matching and old is None)):
            continue
        best = ranked(task, answering or matching)[0]
        idle = [fact for fact in idle if fact.name != best.name]
        tried = frozenset({best.name}) | (old.tried if old is not None else frozenset())
        offer = Offer(task, (best.name,), tried, now + FIRST_WAIT, public=old is not None)
        offers[task.id] = offer
        room -= bool(answering)
        effects += _said(state, offer, len(matching))
        if old is not None:
            effects.append(Look())  # whoever was asked for it is free for what was passed over
    return replace(state, offers=offers), tuple(effects)


def overdue(state: State, now: float) -> tuple[State, tuple[Effect, ...]]:
    """Announcements whose time is over: see first whether the ledger still wants them claimed."""
    due = [
        task for task, offer in state.offers.items() if not offer.checking and offer.again_at <= now
    ]
    if not due:
        return state, ()
    asked = {task: replace(state.offers[task], checking=True) for task in due}
    return replace(state, offers={**state.offers, **asked}), (CheckOffers(tuple(due)),)


def checked(state: State, event: OffersChecked, now: float) -> tuple[State, tuple[Effect, ...]]:
    """Withdraw what waits no more (cancelled, claimed elsewhere); make the rest again when due."""
    effects: tuple[Effect, ...] = ()
    for task in event.tasks:
        offer = state.offers.get(task)
        if offer is None:
            continue
        if task not in event.waiting:
            state = withdraw(state, task)
            effects += (Log("withdrawn", task), Look())
        elif offer.checking:
            state, more = again(state, offer, now)
            effects += more
    return state, effects


def again(state: State, offer: Offer, now: float) -> tuple[State, tuple[Effect, ...]]:
    """Nobody claimed: offer it to others, up to three; withdraw it when nobody can start it.

    From now on everybody hears it: when those who are asked are stuck too, the others' places
    in the spread come.  Who was asked and said nothing is asked last, for this and all others.
    """
    task = offer.task
    state = withdraw(state, task.id)
    state = replace(state, silent=state.silent.union(offer.to))
    idle = idle_agents(state)
    matching = fitting(state, task, idle)
    waits = awaited(state, task, idle, now) is not None
    if not (state.ready and state.online) or spare(state) <= 0 or waits or not matching:
        # The slot it had set aside may serve another task.
        return state, (Look(),)
    order = sorted(
        ranked(task, matching),
        key=lambda fact: (fact.name in state.silent, fact.name in offer.tried),
    )
    names = tuple(fact.name for fact in order[:MAX_OFFERED])
    wait = min(offer.wait * 2, WAIT_CAP)
    anew = Offer(task, names, offer.tried | frozenset(names), now + wait, wait, public=True)
    state = replace(state, offers={**state.offers, task.id: anew})
    return state, (*_said(state, anew, len(matching)), Look())


def answered(state: State, name: str, task: str) -> tuple[State, tuple[Effect, ...]]:
    """A silent agent claims ``task``: what else it alone was asked for is offered afresh."""
    if name not in state.silent:
        return state, ()
    stuck = [
        other
        for other, offer in state.offers.items()
        if other != task and name in offer.to and hopeless(state, offer)
    ]
    state = replace(state, silent=state.silent - {name})
    for other in stuck:
        state = withdraw(state, other)
    return state, (Look(),)


def withdraw(state: State, task: str) -> State:
    """Forget an announcement."""
    if task not in state.offers:
        return state
    return replace(state, offers={k: v for k, v in state.offers.items() if k != task})


def unavailable(state: State, name: str, now: float) -> State:
    """An agent can no longer claim: an announcement that asked only it is due again at once."""
    for task, offer in state.offers.items():
        if name in offer.to:
            left = tuple(one for one in offer.to if one != name)
            due = offer.again_at if left else now
            changed = replace(offer, to=left, again_at=due)
            return replace(state, offers={**state.offers, task: changed})
    return state


def fitting(state: State, task: Waiting, agents: Iterable[AgentFact]) -> list[AgentFact]:
    """Those of ``agents`` whose role takes the task."""
    agents, needs = list(agents), task.needs
    able = {
        role for role in {fact.role for fact in agents} if not fits(takes_of(state, role), needs)
    }
    return [fact for fact in agents if fact.role in able]


def ranked(task: Waiting, agents: Sequence[AgentFact]) -> list[AgentFact]:
    """Best first: who has its session, of its own role, who had it before, with a clone, idle."""
    return sorted(
        agents,
        key=lambda fact: (
            not task.holder or fact.agent_id != task.holder,
            fact.role != task.role,
            fact.name != task.last_agent,
            not fact.warm,
            fact.since,
            fact.name,
        ),
    )


def awaited(state: State, task: Waiting, idle: Sequence[AgentFact], now: float) -> Patience | None:
    """How long an interrupted task still waits for the agent that has its session.

    ``None`` when it does not: that agent is among the ``idle``, its workspace was made anew, it
    is not of our fleet, has spent its own budget, or the task has waited long enough and starts
    afresh with another.
    """
    if not task.holder or task.last_agent.startswith("@"):
        return None
    name = state.names.get(task.holder, "")
    fact = state.agents.get(name)
    if fact is None and task.last_agent in state.agents:
        return None
    if fact is not None and (fact in idle or fact.spent_up):
        return None
    known = state.patience.get(task.id)
    same = known is not None and known.fence == task.fence
    if known is not None and same and known.over:
        return None
    since = known.since if known is not None and same else now
    until = since + (ABSENT_SECONDS if fact is None else BUSY_SECONDS)
    return Patience(task.fence, since, until) if until > now else None


def impatient(state: State, now: float) -> tuple[State, tuple[Effect, ...]]:
    """Tasks that have waited long enough for one agent are anybody's."""
    if not any(one.until <= now for one in state.patience.values()):
        return state, ()
    due = any(one.until <= now and not one.over for one in state.patience.values())
    patience = {
        task: replace(one, over=one.until <= now)
        for task, one in state.patience.items()
        if one.until + FORGET_SECONDS > now
    }
    return replace(state, patience=patience), ((Look(),) if due else ())


def _said(state: State, offer: Offer, idle: int) -> tuple[Effect, ...]:
    message = TaskAvailable(task=offer.task.ref, offer=offer.to, idle=idle, slot_ms=state.slot_ms)
    to = () if offer.public else tuple(state.agents[name].agent_id for name in offer.to)
    return (
        Say(message, CLAIMING, f"announce:{offer.task.id}", to),
        Log("announced", offer.task.id, text=" ".join(offer.to)),
    )
