"""The coordinator as a pure function: ``step(state, event, now) -> (state, effects)``.

``now`` is monotonic seconds.  The parts: :mod:`offers` announces, :mod:`claims` arbitrates,
:mod:`leases` gives and takes back, :mod:`reports` settles, :mod:`intake` takes in.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TypeAlias, assert_never

from swarm.coordinator import claims, intake, landing_steps, landings, leases, offers, reports
from swarm.coordinator.landing_messages import (
    Decided,
    DoubtAnswered,
    DoubtSettled,
    LandingEnded,
    LandingSettled,
    LandingsFound,
    LookForLandings,
)
from swarm.coordinator.messages import (
    AgentChanged,
    AgentLeft,
    CancelledFound,
    CheckOffers,
    ClaimLost,
    ClaimWon,
    Effect,
    Event,
    Found,
    Garbled,
    GivenBack,
    HandedOver,
    Heard,
    HolderLost,
    Look,
    LookForCancelled,
    LookForIdleQueues,
    LookForOutsiders,
    MindRoles,
    NotBegun,
    NoteGate,
    OffersChecked,
    Online,
    OutsiderExpired,
    OutsidersFound,
    Poked,
    Prepared,
    Record,
    Recorded,
    Renewed,
    Requeued,
    RulesAre,
    SlotsAre,
    SnapshotTaken,
    Started,
    TakenIn,
    Tick,
    Unacceptable,
    Unprepared,
    Unsay,
)
from swarm.coordinator.state import SLOT_MS, Assigning, State, takes_by_role
from swarm.core.model import AgentState
from swarm.wire.lifeline import AgentFact
from swarm.wire.work import (
    Announced,
    Answer,
    Approve,
    Claim,
    Heartbeat,
    Reject,
    Report,
    Status,
    TaskAvailable,
    Unclaim,
)

Step: TypeAlias = tuple[State, tuple[Effect, ...]]

DOWN = frozenset({AgentState.BACKOFF, AgentState.DEGRADED, AgentState.STOPPED, AgentState.STARTING})
"""States of an agent whose daemon cannot hold anything any more."""


def step(state: State, event: Event, now: float) -> Step:
    """One event; the effects are to be carried out in their order."""
    after, effects = _step(state, event, now)
    return after, _unsaid(state, after) + effects


def _unsaid(before: State, after: State) -> tuple[Effect, ...]:
    """What is over need not be said any more, if it still waits to be sent."""
    gone: list[Effect] = []
    if after.offers is not before.offers:
        gone += [Unsay(f"announce:{task}") for task in before.offers if task not in after.offers]
    if after.leases is not before.leases:
        for task, lease in before.leases.items():
            now = after.leases.get(task)
            waits = now is not None and now.fence == lease.fence and not now.begun
            if isinstance(lease.phase, Assigning) and not waits:
                gone.append(Unsay(f"assign:{task}"))
    return tuple(gone)


def _step(state: State, event: Event, now: float) -> Step:
    match event:
        case SnapshotTaken() | AgentChanged() | AgentLeft() | SlotsAre() | RulesAre():
            return _fleet(state, event, now)
        case Renewed(task, fence):
            return leases.renewed(state, task, fence, now)
        case Started():
            return leases.started(state, event, now)
        case HolderLost():
            return leases.holder_lost(state, event)
        case HandedOver():
            return reports.handed_over(state, event)
        case Poked():
            announced = (CheckOffers(tuple(state.offers)),) if state.offers else ()
            looks = (
                LookForCancelled(),
                LookForOutsiders(),
                *announced,
                LookForIdleQueues(),
                Look(),
            )
            return state, (*looks, LookForLandings())
        case Online(online, rate):
            # Nobody hears an announcement while we are away: each is made anew when we are back.
            state = replace(state, online=online, offers={}, silent=frozenset())
            if rate is not None:
                state = replace(state, slot_ms=max(SLOT_MS, math.ceil(1000 / rate)))
            return state, ((Look(),) if online else ())
        case Heard():
            return _heard(state, event, now)
        case Garbled(sender, reason):
            return claims.garbled(state, sender, reason, now)
        case Tick():
            return tick(state, now)
        case (
            LandingsFound() | LandingEnded() | LandingSettled() | DoubtAnswered() | DoubtSettled()
            | Decided()
        ):  # fmt: skip
            return landing_steps.step(state, event, now)
        case _:
            return _ended(state, event, now)


def _fleet(
    state: State,
    event: SnapshotTaken | AgentChanged | AgentLeft | SlotsAre | RulesAre,
    now: float,
) -> Step:
    match event:
        case SnapshotTaken():
            state, effects = leases.snapshot(state, event, now)
            found = tuple(Record(one, "", agent_id=None) for one in event.reports)
            return state, (*found, *effects, LookForIdleQueues(), LookForLandings())
        case AgentChanged(fact):
            return _agent(state, fact, now)
        case AgentLeft(name):
            known = state.agents.get(name)
            agents = {k: v for k, v in state.agents.items() if k != name}
            names = {k: v for k, v in state.names.items() if v != name}
            state = replace(state, agents=agents, names=names, silent=state.silent - {name})
            state, effects = leases.agent_left(state, name)
            state, more = tick(offers.unavailable(state, name, now), now)
            gone = known is not None and not any(a.role == known.role for a in agents.values())
            effects += more + ((LookForIdleQueues(),) if gone else ())
            # What waits for it to be free waits now for it to come back, which is not as long.
            return state, effects + ((Look(),) if state.patience else ())
        case SlotsAre(free, reason):
            state = replace(state, free=max(0, free))
            return state, (NoteGate(reason if free <= 0 else ""), Look())
        case RulesAre(coordinators, announcers, roles, operator, landing):
            state = replace(state, coordinators=coordinators, announcers=announcers)
            state = replace(state, operator=operator)
            state = replace(state, takes=takes_by_role(state.settings, roles))
            # A budget that was raised may free a task that nobody looks at otherwise.
            minded = MindRoles(roles, landing)
            return state, (minded, LookForIdleQueues(), Look(), LookForLandings())
        case _:
            assert_never(event)


def _agent(state: State, fact: AgentFact, now: float) -> Step:
    old = state.agents.get(fact.name)
    new_role = old is None and not any(a.role == fact.role for a in state.agents.values())
    names = state.names
    if fact.agent_id and names.get(fact.agent_id) != fact.name:
        names = {k: v for k, v in names.items() if v != fact.name} | {fact.agent_id: fact.name}
    state = replace(state, agents={**state.agents, fact.name: fact}, names=names)
    state = leases.agent_busy(state, fact)
    effects: tuple[Effect, ...] = ()
    if fact.state is not AgentState.IDLE or fact.closed:
        state = offers.unavailable(state, fact.name, now)
        state, effects = tick(replace(state, silent=state.silent - {fact.name}), now)
    if fact.state in DOWN:
        state, more = leases.agent_left(state, fact.name)
        effects += more
    if new_role or fact.closed != (old.closed if old is not None else ""):
        effects += (LookForIdleQueues(),)
    return state, (*effects, Look())


def _heard(state: State, event: Heard, now: float) -> Step:
    """A work message on the channel.  Replayed ones are history: reports may still be news."""
    if event.sender == state.settings.me:
        return state, ()
    match event.message:
        case Claim() as claim:
            return (state, ()) if event.replay else claims.claimed(state, event.sender, claim, now)
        case Report() as report:
            return reports.reported(state, event, report)
        case Unclaim() as unclaim:
            return reports.given_back(state, event, unclaim)
        case TaskAvailable(task=task) | Announced(task=task):
            return intake.announced(state, event, task)
        case Heartbeat(task=task, fence=fence) if not event.replay:
            return leases.renewed(state, task.id, fence, now, event.sender)
        case Approve() | Reject() | Answer() as order:
            return landing_steps.ordered(state, event, order)
        case Status(task=task, fence=fence, phase="started"):
            lease = state.leases.get(task.id)
            if lease is None or (lease.fence, lease.agent_id) != (fence, event.sender):
                return state, ()
            return leases.started(state, Started(lease.agent, task.id, fence, event.at), now)
        case _:
            return state, ()


def _ended(
    state: State,
    event: Found | OffersChecked | ClaimWon | ClaimLost | Prepared | Unprepared | NotBegun
    | Recorded | GivenBack | Requeued | CancelledFound | OutsidersFound | OutsiderExpired
    | TakenIn | Unacceptable,
    now: float,
) -> Step:  # fmt: skip
    """How an effect ended."""
    match event:
        case Found():
            return _found(state, event, now)
        case OffersChecked():
            return offers.checked(state, event, now)
        case ClaimWon():
            state, effects = claims.won(state, event, now)
            state, more = tick(state, now)
            return state, effects + more
        case ClaimLost():
            return claims.lost(state, event)
        case Prepared():
            return leases.prepared(state, event, now)
        case Unprepared(task, fence, reason):
            return claims.unprepared(state, task, fence, reason)
        case NotBegun():
            return leases.not_begun(state, event)
        case Recorded():
            return reports.recorded(state, event)
        case GivenBack():
            return reports.was_given_back(state, event)
        case Requeued():
            # Lost once too often it has failed: of a review, another may have to be asked for.
            return state, (LookForIdleQueues(), Look(), LookForLandings())
        case CancelledFound() | OutsidersFound() | OutsiderExpired():
            return leases.seen(state, event, now)
        case TakenIn():
            return intake.taken_in(state, event)
        case Unacceptable():
            return intake.refused(state, event)
        case _:
            assert_never(event)


def _found(state: State, event: Found, now: float) -> Step:
    """What the ledger says waits is in nobody's hands, whatever was thought before."""
    effects: tuple[Effect, ...] = ()
    for task in event.tasks:
        lease = state.leases.get(task.id)
        if lease is not None and lease.fence <= task.fence:
            state, more = leases.overtaken(state, lease)
            effects += more
    state, more = offers.announce(state, event, now)
    return state, effects + more


def tick(state: State, now: float) -> Step:
    """Everything whose time has come."""
    state, effects = offers.overdue(state, now)
    for lease in list(state.leases.values()):
        at = leases.deadline(lease)
        if at is not None and at <= now:
            state, more = leases.due(state, lease, now)
            effects += more
    if state.wake is not None and state.wake <= now:
        state = replace(state, wake=None)
        effects += (Look(),)
    state, more = offers.impatient(state, now)
    state, landed = landing_steps.due(state, now)
    return state, effects + more + landed


def deadline(state: State) -> float | None:
    """When :func:`tick` next has something to do, if ever."""
    times = [offer.again_at for offer in state.offers.values() if not offer.checking]
    times += [at for lease in state.leases.values() if (at := leases.deadline(lease)) is not None]
    times += [one.until for one in state.patience.values() if not one.over]
    if state.wake is not None:
        times.append(state.wake)
    if (at := landings.deadline(state.landings)) is not None:
        times.append(at)
    return min(times, default=None)
