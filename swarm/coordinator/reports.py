"""Reports and assignments given back: taken in, and always answered."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

from swarm.coordinator.claims import backed_off, who
from swarm.coordinator.landing_messages import (
    LookForLandings,
)
from swarm.coordinator.leases import dropped
from swarm.coordinator.messages import (
    Effect,
    GiveBack,
    GivenBack,
    HandedOver,
    Heard,
    Log,
    Look,
    LookForIdleQueues,
    Record,
    Recorded,
    Say,
)
from swarm.coordinator.state import State, lease_of
from swarm.core.model import Outcome
from swarm.ledger.interface import Verdict
from swarm.wire.lifeline import Finished
from swarm.wire.pacing import SETTLING
from swarm.wire.work import Blocked, Report, Settled, TaskDone, TaskRef, Unclaim

MAX_RESULT, MAX_REASON, MAX_NAME, MAX_REVIEW = 4000, 4000, 200, 60_000
"""Characters kept of what a report says."""
MAX_UNRESOLVED = 50
"""Files in conflict that are kept of it."""
MAX_RETRY_SECONDS = 3600.0
"""Longest wait that whoever gives a task back can ask for: none parks it for ever."""

Step: TypeAlias = tuple[State, tuple[Effect, ...]]


def reported(state: State, event: Heard, report: Report) -> Step:
    """A report on the channel; one without a fence (the short form) is the holder's or nothing."""
    agent = who(state, event.sender)
    if not agent or not report.task.id:
        return state, ()
    fence = report.fence
    if fence <= 0:
        lease = lease_of(state, event.sender)
        if lease is None or lease.task.id != report.task.id:
            return state, ()
        fence = lease.fence
    record = Record(
        _finished(report, fence), agent, event.sender, reply_to=event.sender, replay=event.replay
    )
    return state, (record,)


def handed_over(state: State, event: HandedOver) -> Step:
    """A report the supervisor vouches for; its sender still says it on the channel."""
    return state, (Record(event.finished, event.agent, agent_id=None),)


def recorded(state: State, event: Recorded) -> Step:
    """The ledger has it, or will not: either way its sender may forget it."""
    verdict = event.settlement.verdict
    if verdict is Verdict.UNKNOWN:
        return state, ()  # another coordinator's task
    effects: list[Effect] = []
    lease = state.leases.get(event.task)
    if lease is not None and lease.fence == event.fence and verdict is not Verdict.NOT_HOLDER:
        # Stale too: the task was retried under its ending session, which is now over.
        state = dropped(state, event.task)
    if verdict in {Verdict.ACCEPTED, Verdict.DUPLICATE}:
        state = replace(state, denials={k: v for k, v in state.denials.items() if k != event.task})
    # Replayed history was answered when it was news, or is said again by who still waits.
    if event.reply_to and (verdict is Verdict.ACCEPTED or not event.replay):
        stale = verdict in {Verdict.STALE, Verdict.NOT_HOLDER}
        effects.append(_settled(event.reply_to, event.task, event.fence, stale=stale))
    if verdict is Verdict.ACCEPTED:
        now_is = str(event.settlement.state)
        effects += [
            Log("settled", event.task, fence=event.fence, text=now_is),
            LookForIdleQueues(),
            Look(),
            LookForLandings(),
        ]
    elif verdict is not Verdict.DUPLICATE:
        effects += [Log("refused", event.task, fence=event.fence, text=str(verdict)), Look()]
    return state, tuple(effects)


def given_back(state: State, event: Heard, unclaim: Unclaim) -> Step:
    """An agent cannot start what it was assigned.  Without an id its component names it."""
    agent = who(state, event.sender)
    if not agent:
        return state, ()
    lease = lease_of(state, event.sender)
    task, fence = unclaim.task.id, unclaim.fence
    if lease is not None and not task and unclaim.task.component == lease.task.component:
        task = lease.task.id
    if lease is not None and lease.task.id == task and fence <= 0:
        fence = lease.fence
    if not task or fence <= 0:
        return state, ()
    mine = lease is not None and (lease.task.id, lease.fence) == (task, fence)
    other = state.leases.get(task)
    if other is not None and not mine and other.fence == fence:
        return state, ()  # only the holder gives back
    wait = 0.0
    if mine:
        # Whoever cannot start it must not be the first who is asked again.
        state = replace(dropped(state, task), silent=state.silent | {agent})
        asked = min(max(0.0, unclaim.retry_after), MAX_RETRY_SECONDS)
        state, wait = backed_off(state, task, asked)
    reason = " ".join(unclaim.reason.split())[:MAX_REASON] or "given back"
    back = GiveBack(task, fence, reason, wait, reply_to=event.sender, replay=event.replay)
    return state, (back,)


def was_given_back(state: State, event: GivenBack) -> Step:
    """Answer it, and see who else may take the task."""
    if not event.known:
        return state, ()
    effects: list[Effect] = [Look()]
    if event.reply_to and not (event.replay and event.stale):
        settled = _settled(event.reply_to, event.task, event.fence, stale=event.stale)
        effects.append(settled)
    return state, tuple(effects)


def _settled(agent_id: str, task: str, fence: int, *, stale: bool) -> Say:
    message = Settled(agentId=agent_id, task=TaskRef(id=task), fence=fence, stale=stale)
    return Say(message, SETTLING, f"settled:{task}:{fence}", (agent_id,))


def _finished(report: Report, fence: int) -> Finished:
    """What the ledger wants to know; the message's type decides where ``outcome`` says nothing."""
    try:
        outcome = Outcome(report.outcome)
    except ValueError:
        outcome = (
            Outcome.SUCCEEDED
            if isinstance(report, TaskDone)
            else Outcome.DENIED
            if isinstance(report, Blocked)
            else Outcome.FAILED
        )
    return Finished(
        task=report.task.id,
        fence=fence,
        outcome=outcome,
        reason=report.reason[:MAX_REASON],
        result=report.result[:MAX_RESULT],
        exit_status=report.exit_status,
        session_id=None if report.session_id is None else report.session_id[:MAX_NAME],
        usage=report.usage,
        cost_usd=report.cost_usd,
        branch=None if report.branch is None else report.branch[:MAX_NAME],
        commit=None if report.commit is None else report.commit[:MAX_NAME],
        commits=max(0, report.commits),
        retry_at=report.retry_at,
        needs_human=report.needs_human,
        swarm_budget=report.swarm_budget,
        start=None if report.start is None else report.start[:MAX_NAME],
        review=report.review[:MAX_REVIEW],
        unresolved=tuple(one[:MAX_NAME] for one in report.unresolved[:MAX_UNRESOLVED]),
        aside=None if report.aside is None else report.aside[:MAX_NAME],
    )
