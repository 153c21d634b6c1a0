"""Announcing: which waiting task is offered to whom, and when again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from swarm.coordinator.messages import Effect, Found, Log, Look, Say
from swarm.coordinator.state import (
    MAX_OFFERED,
    SLOT_MS,
    WAIT_CAP,
    Offer,
    State,
    Waiting,
    idle_agents,
    spare,
)
from swarm.wire.lifeline import AgentFact
from swarm.wire.pacing import CLAIMING
from swarm.wire.work import TaskAvailable


def wants(state: State) -> tuple[tuple[str, ...], int] | None:
    """Which roles' tasks to look for and how many of each; ``None`` when none could start.

    As many are asked for as could be new among those already announced.
    """
    room = spare(state)
    if not (state.ready and state.online) or room <= 0:
        return None
    roles: set[str] = set()
    for role in {fact.role for fact in idle_agents(state)}:
        roles |= state.settings.takes(role)
    return (tuple(sorted(roles)), room + len(state.offers)) if roles else None


def announce(state: State, event: Found, now: float) -> tuple[State, tuple[Effect, ...]]:
    """Offer each task to the best idle agent, in order, while slots are free.

    A task nobody can take is passed over; it never holds up the next one.
    """
    state = replace(state, wake=event.wake)
    if not (state.ready and state.online):
        return state, ()
    room, effects = spare(state), list[Effect]()
    idle, offers = idle_agents(state), dict(state.offers)
    for task in event.tasks:
        if room <= 0:
            break
        if task.id in offers or task.id in state.leases:
            continue
        matching = fitting(state, task, idle)
        if not matching:
            continue
        best = ranked(task, matching)[0]
        idle = [fact for fact in idle if fact.name != best.name]
        offer = Offer(task, (best.name,), frozenset({best.name}), now + 1.0)
        offers[task.id] = offer
        room -= 1
        effects += _said(offer, len(matching))
    return replace(state, offers=offers), tuple(effects)


def again(state: State, offer: Offer, now: float) -> tuple[State, tuple[Effect, ...]]:
    """Nobody claimed: offer it to others, up to three; withdraw it when nobody can start it."""
    task = offer.task
    matching = fitting(state, task, idle_agents(state, besides=task.id))
    if not (state.ready and state.online) or spare(state) < 0 or not matching:
        # The slot it had set aside may serve another task.
        return withdraw(state, task.id), (Look(),)
    fresh = [fact for fact in matching if fact.name not in offer.tried]
    others = [fact for fact in matching if fact.name in offer.tried]
    chosen = (ranked(task, fresh) + ranked(task, others))[:MAX_OFFERED]
    names = tuple(fact.name for fact in chosen)
    wait = min(offer.wait * 2, WAIT_CAP)
    anew = Offer(task, names, offer.tried | frozenset(names), now + wait, wait)
    return replace(state, offers={**state.offers, task.id: anew}), _said(anew, len(matching))


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
    able = {
        role
        for role in {fact.role for fact in state.agents.values()}
        if task.role in state.settings.takes(role)
    }
    return [fact for fact in agents if fact.role in able]


def ranked(task: Waiting, agents: Sequence[AgentFact]) -> list[AgentFact]:
    """Best first: of the task's own role, who had it before, with a clone, longest idle."""
    return sorted(
        agents,
        key=lambda fact: (
            fact.role != task.role,
            fact.name != task.last_agent,
            not fact.warm,
            fact.since,
            fact.name,
        ),
    )


def _said(offer: Offer, idle: int) -> tuple[Effect, ...]:
    message = TaskAvailable(task=offer.task.ref, offer=offer.to, idle=idle, slot_ms=SLOT_MS)
    return (
        Say(message, CLAIMING, f"announce:{offer.task.id}"),
        Log("announced", offer.task.id, text=" ".join(offer.to)),
    )
