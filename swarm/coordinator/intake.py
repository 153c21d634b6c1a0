"""Announcements of others: whose are taken in, and what is answered."""

from __future__ import annotations

from typing import TypeAlias

from swarm.coordinator.messages import (
    Effect,
    Heard,
    Log,
    Look,
    LookForIdleQueues,
    Say,
    TakeIn,
    TakenIn,
    Unacceptable,
)
from swarm.coordinator.state import DEFAULT_ROLE, State
from swarm.wire.pacing import STATUS
from swarm.wire.work import Rejected, Status, TaskRef

Step: TypeAlias = tuple[State, tuple[Effect, ...]]


def announced(state: State, event: Heard, task: TaskRef) -> Step:
    """Somebody else announces a task: an accepted announcer's goes into our ledger, once."""
    if not _accepted(state, event.sender):
        return state, ()
    ref = task.id or event.msg_id
    role = task.role or DEFAULT_ROLE
    named = TaskRef(
        id=task.id[:64],
        component=task.component,
        role=role,
        title=task.title,
        prompt=task.prompt or task.title,
        priority=task.priority,
        lane=task.lane,
        labels=task.labels,
    )
    if not ref:
        return state, ()
    fleet = {fact.role for fact in state.agents.values()}
    if role not in fleet and not state.settings.known(role):
        names = ", ".join(sorted(fleet | set(state.settings.roles)))
        reason = f"no role {role[:22]!r} here; there are {names}"
        return refused(state, Unacceptable(event.sender, named, reason, event.replay))
    strange = None if event.sender in state.announcers else state.announcers
    return state, (TakeIn(event.sender, ref, named, event.replay, strange),)


def taken_in(state: State, event: TakenIn) -> Step:
    """Tell its announcer our id for it, once."""
    if not event.fresh:
        return state, ()
    message = Status(
        agentId=event.sender,
        task=TaskRef(id=event.task),
        phase="queued",
        text=f"taken in as {event.task}",
    )
    log = Log("taken in", event.task, text=event.sender)
    said = Say(message, STATUS, to=(event.sender,))
    return state, (said, log, LookForIdleQueues(), Look())


def refused(state: State, event: Unacceptable) -> Step:
    """Say why, in one line; a replay was answered when it was news.

    A newer refusal takes an unsent one's place: who announces much hears no more for it.
    """
    if event.replay:
        return state, ()
    message = Rejected(
        agentId=event.sender, task=TaskRef(id=event.task.id[:64]), reason=event.reason
    )
    return state, (Say(message, STATUS, f"refused:{event.sender}", (event.sender,)),)


def _accepted(state: State, sender: str) -> bool:
    """Another coordinator's announcements are its own, even where anyone may announce."""
    if sender == state.settings.me:
        return False
    if sender in state.announcers:
        return True
    return "*" in state.announcers and sender not in state.coordinators
