"""Arbitration: who asked for a task, and who gets it."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

from swarm.coordinator.leases import assign_again, dropped
from swarm.coordinator.messages import (
    ClaimLost,
    ClaimWon,
    Effect,
    GiveBack,
    Log,
    Look,
    Prepare,
    Say,
    TryClaim,
)
from swarm.coordinator.offers import answered, unavailable, withdraw
from swarm.coordinator.state import (
    ANSWER_BURST,
    ANSWERS_PER_SECOND,
    Assigning,
    Lease,
    Preparing,
    State,
    Waiting,
    hopeless,
    lease_of,
    public_title,
    spare,
    takes_of,
)
from swarm.core.matching import Takes
from swarm.core.model import is_component
from swarm.wire.pacing import STATUS
from swarm.wire.work import Claim, Rejected, TaskRef

Step: TypeAlias = tuple[State, tuple[Effect, ...]]


def who(state: State, sender: str) -> str:
    """The name a channel member may hold leases under; empty for a stranger.

    Our own fleet, and agents named as announcers; ``"*"`` lets anyone announce, not claim.
    """
    if name := state.names.get(sender):
        return name
    return f"@{sender}" if sender in state.announcers and sender != state.settings.me else ""


def claimed(state: State, sender: str, claim: Claim, now: float) -> Step:
    """Somebody would take a task."""
    agent = who(state, sender)
    state, effects = answered(state, agent, claim.task.id)
    state, more = _claimed(state, sender, agent, claim.task, now)
    return state, more + effects


def _claimed(state: State, sender: str, agent: str, task: TaskRef, now: float) -> Step:
    if not agent:
        if task.id in state.offers or task.id in state.leases:
            return _turn_away(state, sender, task, now, "you are not an agent of this fleet")
        return state, ()  # perhaps another coordinator's task: no answer, and nothing kept
    held = lease_of(state, sender)
    if held is not None and task.id in ("", held.task.id):
        # It claims what it was given: the ASSIGN got lost on the way.
        if isinstance(held.phase, Assigning):
            return state, (assign_again(held, state.settings.lease_seconds),)
        return state, ()
    if held is not None:
        return state, _rejected(sender, task, f"you hold {held.task.id}")
    if other := state.leases.get(task.id):
        return state, _rejected(sender, task, f"it is given to {other.agent}")
    if not task.id and not is_component(task.component):
        return state, _rejected(sender, task, "the claim names no task and no component")
    fact = state.agents.get(agent)
    if fact is not None and fact.closed:
        # It must not be asked first for the next one either; its own word comes later.
        return unavailable(state, agent, now), _rejected(sender, task, fact.closed)
    if not agent.startswith("@") and not _room(state, task.id):
        return withdraw(state, task.id), _rejected(sender, task, "no session may start now")
    return state, (TryClaim(task, agent, sender, _takes(state, agent)),)


def won(state: State, event: ClaimWon, now: float) -> Step:
    """The ledger gave the lease: find out where the work starts, then assign it."""
    task, fence = event.claimed.task, event.claimed.fence
    offer = state.offers.get(task.id)
    # Whoever else was asked for this task is free again, and the winner for nothing else.
    state = unavailable(withdraw(state, task.id), event.agent, now)
    other = lease_of(state, event.agent_id)
    if other is not None and other.task.id != task.id:
        # Two claims crossed; one agent runs one session.
        given_back = GiveBack(task.id, fence, f"{event.agent} holds {other.task.id}", 0.0)
        return state, (given_back, *_rejected(event.agent_id, TaskRef(id=task.id), "one at a time"))
    foreign = event.agent.startswith("@")
    lease = Lease(
        task=Waiting(
            task.id,
            task.role,
            task.component,
            public_title(task),
            task.priority,
            task.lane,
            task.labels,
        ),
        fence=fence,
        agent=event.agent,
        agent_id=event.agent_id,
        phase=Preparing(),
        expires=now + state.settings.lease_seconds,
        public=offer is not None and offer.public,
        prompt=event.claimed.prompt if foreign and task.announced else "",
    )
    patience = {k: v for k, v in state.patience.items() if k != task.id}
    state = replace(state, leases={**state.leases, task.id: lease}, patience=patience)
    return state, (Log("claimed", task.id, event.agent, fence), Prepare(event.claimed), Look())


def lost(state: State, event: ClaimLost) -> Step:
    """The ledger did not give it."""
    if not event.known:
        return state, ()  # another coordinator's task (rules, "Trust")
    if event.again:
        return state, _rejected(event.agent_id, event.task, event.reason)
    state = withdraw(state, event.task.id)
    return state, (*_rejected(event.agent_id, event.task, event.reason), Look())


def unprepared(state: State, task: str, fence: int, reason: str) -> Step:
    """The repository said no: the task waits with that reason, and its claimant is free again."""
    lease = state.leases.get(task)
    if lease is None or lease.fence != fence:
        return state, ()
    state, wait = backed_off(dropped(state, task), task)
    effects = (
        GiveBack(task, fence, reason, wait),
        *_rejected(lease.agent_id, TaskRef(id=task), "its repository cannot be used now"),
        Log("unprepared", task, lease.agent, fence, reason),
    )
    return state, effects


def garbled(state: State, sender: str, reason: str, now: float) -> Step:
    """Tell one who may speak to us that a message made no sense; strangers hear nothing."""
    if not who(state, sender):
        return state, ()
    return _turn_away(state, sender, TaskRef(), now, reason)


def backed_off(state: State, task: str, at_least: float = 0.0) -> tuple[State, float]:
    """Seconds a task that could not start waits: 1, 2, 4 … 30, so that nothing spins."""
    before = state.denials.get(task, 0)
    state = replace(state, denials={**state.denials, task: before + 1})
    return state, max(at_least, min(2.0 ** min(before, 5), 30.0))


def _room(state: State, task: str) -> bool:
    """An announced task has its slot set aside; another needs one of its own."""
    offer = state.offers.get(task)
    return spare(state) >= (1 if offer is None or hopeless(state, offer) else 0)


def _takes(state: State, agent: str) -> Takes | None:
    fact = state.agents.get(agent)
    return None if fact is None else takes_of(state, fact.role)


def _turn_away(state: State, sender: str, task: TaskRef, now: float, reason: str) -> Step:
    """Answer what deserves none, but no more of it a second than the bucket holds."""
    refill = (now - state.answered_at) * ANSWERS_PER_SECOND
    answers = min(ANSWER_BURST, state.answers + max(0.0, refill))
    if answers < 1.0:
        return state, ()
    state = replace(state, answers=answers - 1.0, answered_at=now)
    return state, _rejected(sender, task, reason, public=True)


def _rejected(
    agent_id: str, task: TaskRef, reason: str, *, public: bool = False
) -> tuple[Effect, ...]:
    """The refusal of a claim; what strangers are told, everybody may hear."""
    message = Rejected(
        agentId=agent_id,
        task=TaskRef(id=task.id[:64], component=task.component[:64]),
        reason=reason,
    )
    to = () if public else (agent_id,)
    # Whoever is refused forgets its claim by itself: what others wait for goes first.
    return (Say(message, STATUS, f"reject:{agent_id}:{task.id[:64]}", to),)
