"""Leases: assigning, starting, renewing, expiring, taking back."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

from swarm.coordinator.landing_messages import LookForLandings
from swarm.coordinator.messages import (
    Begin,
    CancelledFound,
    Effect,
    Expire,
    HolderLost,
    Log,
    Look,
    LookForIdleQueues,
    NotBegun,
    OutsiderExpired,
    OutsidersFound,
    Prepared,
    Renew,
    Requeue,
    Say,
    SnapshotTaken,
    Started,
    Tell,
)
from swarm.coordinator.state import (
    FIRST_RESEND,
    START_SECONDS,
    Assigning,
    Lease,
    Preparing,
    Revoked,
    State,
    Waiting,
    Working,
)
from swarm.core.model import AgentState, Outcome, TaskState, is_outsider_id
from swarm.ledger.interface import Holder
from swarm.wire.lifeline import AgentFact, Assigned, Revoke
from swarm.wire.pacing import ASSIGNING
from swarm.wire.work import Assign, Rejected, TaskRef

Step: TypeAlias = tuple[State, tuple[Effect, ...]]


def prepared(state: State, event: Prepared, now: float) -> Step:
    """Tell the supervisor first, so that a promotion finds the work; then the agent."""
    lease = state.leases.get(event.work.task)
    if lease is None or lease.fence != event.fence or not isinstance(lease.phase, Preparing):
        return state, ()  # taken back meanwhile
    phase = Assigning(now + START_SECONDS, now + FIRST_RESEND)
    lease = replace(lease, phase=phase, expires=now + state.settings.lease_seconds)
    seconds = state.settings.lease_seconds
    told: tuple[Effect, ...] = ()
    if not lease.foreign:
        told = (Tell(Assigned(lease.agent, lease.fence, event.work)),)
    assigned = Log("assigned", lease.task.id, lease.agent, lease.fence)
    return held(state, lease), (*told, assign_again(lease, seconds), assigned)


def assign_again(lease: Lease, seconds: float) -> Say:
    """The ``ASSIGN`` of a lease, as often as it takes."""
    task = lease.task.ref
    if lease.foreign:
        task = TaskRef(
            id=task.id,
            role=task.role,
            component=task.component,
            title=task.title,
            prompt=lease.prompt,
            priority=task.priority,
        )
    message = Assign(agentId=lease.agent_id, task=task, fence=lease.fence, lease_seconds=seconds)
    to = () if lease.public else (lease.agent_id,)
    return Say(message, ASSIGNING, f"assign:{lease.task.id}", to)


def started(state: State, event: Started, now: float) -> Step:
    """The session runs; heard on the lifeline, on the channel, or both."""
    begin = Begin(event.task, event.fence, event.agent, event.at)
    lease = state.leases.get(event.task)
    if lease is None or lease.fence != event.fence or lease.agent != event.agent:
        return state, (begin,)  # the ledger knows whether that may be
    state = replace(state, denials={k: v for k, v in state.denials.items() if k != event.task})
    if lease.begun:
        return _renewed(state, lease, now), (begin,)
    lease = replace(lease, phase=Working())
    state = _renewed(_seen(state, lease), replace(lease, seen=True), now)
    return state, (begin, Log("started", event.task, event.agent, event.fence))


def not_begun(state: State, event: NotBegun) -> Step:
    """A session of a task of ours runs without a lease: it is ended."""
    if event.agent.startswith("@"):
        return state, ()
    revoke = Revoke(event.agent, event.task, event.fence, Outcome.LOST, "the lease is over")
    return state, (Tell(revoke),)


def renewed(state: State, task: str, fence: int, now: float, agent_id: str = "") -> Step:
    """The holder lives; from the channel only the holder's own word counts."""
    lease = state.leases.get(task)
    if lease is None or lease.fence != fence or (agent_id and agent_id != lease.agent_id):
        return state, ()
    return _renewed(state, lease, now), (Renew(task, fence),)


def holder_lost(state: State, event: HolderLost) -> Step:
    """The supervisor saw the holder's tree empty and found no report."""
    requeue = Requeue(event.task, event.fence, event.reason, event.counts)
    lease = state.leases.get(event.task)
    if lease is not None and lease.fence == event.fence:
        state = dropped(state, event.task)
    return state, (requeue, Log("lost", event.task, event.agent, event.fence, event.reason))


def agent_left(state: State, name: str) -> Step:
    """Take back what an agent that is gone was given but never took up.

    What it had taken up, the supervisor reports or declares lost once its tree is empty.
    """
    effects: list[Effect] = []
    for task, lease in list(state.leases.items()):
        fact = state.agents.get(name)
        if lease.agent == name and not lease.begun and (fact is None or fact.task != task):
            state = dropped(state, task)
            effects += _take_back(lease, f"{name} is gone", Outcome.LOST)
    return state, tuple(effects)


def agent_busy(state: State, fact: AgentFact) -> State:
    """The supervisor's slots account for an agent's promotion from here on.

    It tells of the agent first and of the slots after: until then the slot is taken off here.
    """
    lease = state.leases.get(fact.task)
    if lease is None or lease.seen or lease.agent != fact.name or lease.fence != fact.fence:
        return state
    return held(_seen(state, lease), replace(lease, seen=True))


def cancelled(state: State, event: CancelledFound) -> Step:
    """End the sessions of cancelled tasks; what had not begun is over at once."""
    effects: list[Effect] = []
    for holder in event.holders:
        lease = state.leases.get(holder.task)
        if lease is None or lease.fence != holder.fence:
            effects.append(Requeue(holder.task, holder.fence, "cancelled", counts=False))
            continue
        if isinstance(lease.phase, Revoked):
            continue
        if lease.begun and not lease.foreign:
            state = held(state, replace(lease, phase=Revoked()))
            effects.append(_revoke(lease, Outcome.CANCELLED, "cancelled"))
        else:
            state = dropped(state, holder.task)
            effects += _take_back(lease, "cancelled", Outcome.CANCELLED)
    return state, tuple(effects)


def overtaken(state: State, lease: Lease) -> Step:
    """Its task waits again under the ledger's hand (retried): end what still runs of it.

    Until that is over the lease stays, so that no task runs twice at a time: its end is reported,
    stale as it is, or its holder is lost, or its term is over.
    """
    effects = () if isinstance(lease.phase, Revoked) else _end(lease, "queued again", Outcome.LOST)
    if lease.begun and not lease.foreign:
        return held(state, replace(lease, phase=Revoked())), effects
    return dropped(state, lease.task.id), effects


def due(state: State, lease: Lease, now: float) -> Step:
    """What time asks of one lease."""
    if isinstance(lease.phase, Preparing):
        return state, ()  # git has time limits of its own, and answers
    if isinstance(lease.phase, Assigning) and _taken_up(state, lease):
        # A first clone may take long: from here on its beats say whether it lives.
        if now >= lease.expires:
            return _expired(state, lease, now)
        phase = Assigning(now + START_SECONDS, now + START_SECONDS)
        return held(state, replace(lease, phase=phase)), ()
    if isinstance(lease.phase, Assigning):
        if now >= lease.phase.until:
            reason = f"{lease.agent} did not start it within {START_SECONDS:.0f} s"
            taken = _take_back(lease, reason, Outcome.LOST)
            return dropped(state, lease.task.id), taken
        if now >= lease.phase.again_at:
            wait = lease.phase.wait * 2
            phase = replace(lease.phase, wait=wait, again_at=now + wait)
            lease = replace(lease, phase=phase, expires=now + state.settings.lease_seconds)
            return held(state, lease), (assign_again(lease, state.settings.lease_seconds),)
        return state, ()
    if now < lease.expires:
        return state, ()
    return _expired(state, lease, now)


def seen(
    state: State, event: CancelledFound | OutsidersFound | OutsiderExpired, now: float
) -> Step:
    """What the ledger says of leases that others than we have changed."""
    match event:
        case CancelledFound():
            return cancelled(state, event)
        case OutsidersFound():
            return outsiders(state, event, now)
        case OutsiderExpired():
            return outsider_expired(state, event, now)


def outsiders(state: State, event: OutsidersFound, now: float) -> Step:
    """Watch what outsiders hold; a term begins when it is seen that another was given."""
    there = {holder.task: holder for holder in event.holders}
    for task, lease in list(state.leases.items()):
        if lease.outsider and task not in there:
            state = dropped(state, task)
    effects: list[Effect] = []
    for task, holder in there.items():
        if holder.state is not TaskState.RUNNING:
            continue  # cancelled: it is ended as such
        known = state.leases.get(task)
        if known is not None and known.fence > holder.fence:
            continue
        if known is None or known.fence < holder.fence:
            effects.append(Log("claimed", task, holder.agent, holder.fence))
        elif known.until == holder.lease_until:
            continue
        state = held(state, _outsiders_lease(holder, now))
    return state, tuple(effects)


def outsider_expired(state: State, event: OutsiderExpired, now: float) -> Step:
    """The ledger has ended an outsider's lease, or it was renewed and has another term."""
    lease = state.leases.get(event.task)
    if lease is None or lease.fence != event.fence:
        return state, ((Look(),) if event.until is None else ())
    if event.until is not None:
        renewed = replace(lease, until=event.until, expires=now + max(lease.seconds, 1.0))
        return held(state, renewed), ()
    log = Log("lost", event.task, lease.agent, event.fence, "the lease expired")
    return dropped(state, event.task), (log, LookForIdleQueues(), Look(), LookForLandings())


def _outsiders_lease(holder: Holder, now: float) -> Lease:
    return Lease(
        task=Waiting(holder.task, "", holder.component, "", 0),
        fence=holder.fence,
        agent=holder.agent,
        agent_id=holder.agent_id,
        phase=Working(),
        expires=now + holder.lease_seconds,
        seen=True,
        seconds=holder.lease_seconds,
        until=holder.lease_until,
    )


def _taken_up(state: State, lease: Lease) -> bool:
    """Whether the supervisor says that its agent holds it."""
    fact = state.agents.get(lease.agent)
    return fact is not None and (fact.task, fact.fence) == (lease.task.id, lease.fence)


def _expired(state: State, lease: Lease, now: float) -> Step:
    if lease.outsider:
        # Its renewals are the ledger's: that says whether it lives, and until it has, it does.
        waits = held(state, replace(lease, expires=now + max(lease.seconds, 1.0)))
        return waits, (Expire(lease.task.id, lease.fence, lease.until),)
    if lease.foreign or isinstance(lease.phase, Revoked):
        state = dropped(state, lease.task.id)
        requeue = Requeue(lease.task.id, lease.fence, "its lease expired", counts=True)
        return state, (*_end(lease, "the lease expired", Outcome.LOST), requeue)
    # Of our fleet: its session may live.  It is ended first, and given another term to report.
    revoked = replace(lease, phase=Revoked(), expires=now + state.settings.lease_seconds)
    return held(state, revoked), (_revoke(lease, Outcome.LOST, "the lease expired"),)


def deadline(lease: Lease) -> float | None:
    """When :func:`due` has something to do."""
    match lease.phase:
        case Preparing():
            return None
        case Assigning(until=until, again_at=again_at):
            return min(until, again_at)
        case _:
            return lease.expires


# -- the supervisor's snapshot --------------------------------------------------------------------


def snapshot(state: State, event: SnapshotTaken, now: float) -> Step:
    """Arm again what somebody holds; queue again, uncounted, what nobody does."""
    agents = {fact.name: fact for fact in event.agents}
    names = {fact.agent_id: fact.name for fact in event.agents if fact.agent_id}
    reported = {(one.task, one.fence) for one in event.reports}
    state = replace(state, ready=True, agents=agents, names=names, silent=frozenset())
    state = replace(state, offers={}, leases={})
    effects: list[Effect] = []
    for holder in event.holders:
        if (holder.task, holder.fence) in reported:
            continue
        fact = agents.get(holder.agent)
        ours = fact is not None and (fact.task, fact.fence) == (holder.task, holder.fence)
        if not ours and not holder.agent.startswith("@"):
            reason = "nobody held it when the coordinator started"
            effects.append(Requeue(holder.task, holder.fence, reason, counts=False))
            continue
        lease = (
            _outsiders_lease(holder, now)
            if is_outsider_id(holder.agent_id)
            else _lease_again(holder, fact, now + state.settings.lease_seconds, now)
        )
        if holder.state is not TaskState.CANCELLED:
            state = held(state, lease)
        elif ours:
            state = held(state, replace(lease, phase=Revoked()))
            effects.append(_revoke(lease, Outcome.CANCELLED, "cancelled"))
        else:
            effects.append(Requeue(holder.task, holder.fence, "cancelled", counts=False))
    for fact in event.agents:
        over = fact.task in state.leases or (fact.task, fact.fence) in reported
        if fact.task in event.retried and not over:
            lease = _ending(fact, now + state.settings.lease_seconds)
            state = held(state, lease)
            effects.append(_revoke(lease, Outcome.LOST, "queued again"))
    effects += [Look()]
    return state, tuple(effects)


def _ending(fact: AgentFact, expires: float) -> Lease:
    """What an agent still runs of a task that waits again: until it is over, nobody else may."""
    task = Waiting(fact.task, "", "", "", 0)
    return Lease(task, fact.fence, fact.name, fact.agent_id, Revoked(), expires, seen=True)


def _lease_again(holder: Holder, fact: AgentFact | None, expires: float, now: float) -> Lease:
    active = fact is not None and fact.state is AgentState.ACTIVE
    begun = holder.begun or active
    # A promotion that is under way gets the same time to start as a new one.
    waiting = Assigning(now + START_SECONDS, now + START_SECONDS)
    return Lease(
        task=Waiting(holder.task, "", holder.component, "", 0),
        fence=holder.fence,
        agent=holder.agent,
        agent_id=holder.agent_id,
        phase=Working() if begun or holder.agent.startswith("@") else waiting,
        expires=expires,
        seen=True,
    )


# -- small steps ----------------------------------------------------------------------------------


def held(state: State, lease: Lease) -> State:
    """With this lease, new or changed."""
    return replace(state, leases={**state.leases, lease.task.id: lease})


def dropped(state: State, task: str) -> State:
    """Without the lease of this task."""
    return replace(state, leases={k: v for k, v in state.leases.items() if k != task})


def _renewed(state: State, lease: Lease, now: float) -> State:
    return held(state, replace(lease, expires=now + state.settings.lease_seconds))


def _seen(state: State, lease: Lease) -> State:
    if lease.seen or lease.foreign:
        return state
    return replace(state, free=max(0, state.free - 1))


def _take_back(lease: Lease, reason: str, outcome: Outcome) -> tuple[Effect, ...]:
    requeue = Requeue(lease.task.id, lease.fence, reason, counts=False, outcome=outcome)
    log = Log("taken back", lease.task.id, lease.agent, lease.fence, reason)
    return (*_end(lease, reason, outcome), requeue, log)


def _end(lease: Lease, reason: str, outcome: Outcome) -> tuple[Effect, ...]:
    if not lease.foreign:
        return (_revoke(lease, outcome, reason),)
    if lease.outsider:
        return ()  # nobody to tell: what it says next is refused by the ledger
    message = Rejected(agentId=lease.agent_id, task=TaskRef(id=lease.task.id), reason=reason)
    key = f"reject:{lease.agent_id}:{lease.task.id}"
    return (Say(message, ASSIGNING, key, (lease.agent_id,)),)


def _revoke(lease: Lease, outcome: Outcome, reason: str) -> Tell:
    return Tell(Revoke(lease.agent, lease.task.id, lease.fence, outcome, reason))
