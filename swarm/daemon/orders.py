"""What the channel says to a daemon, and whom it believes (rules, "Trust").

Only accepted coordinators are heard: the sender is the server's ``from``, never a field of the
body.  Replayed messages are history: nothing is claimed or obeyed from them, but what was
settled stays settled.
"""

from __future__ import annotations

from dataclasses import replace

from swarm.core.model import bare_id
from swarm.daemon import between, claims
from swarm.daemon.between import Step
from swarm.daemon.reporting import message_of, status
from swarm.daemon.state import (
    Active,
    Claiming,
    Daemon,
    Effect,
    Heard,
    Idle,
    Note,
    Probing,
    Promoting,
    SaveFences,
    Say,
    Settle,
    Starting,
    Tell,
)
from swarm.wire.lifeline import Promote
from swarm.wire.work import Assign, Rejected, Settled, TaskAvailable, TaskRef, Unclaim

PROMOTE_SECONDS = 30.0
"""Longest wait for the supervisor's answer; it waits at most 5 s itself."""
MAX_FENCES = 256
"""Tasks whose highest fence is remembered; the least lately assigned is forgotten first."""


def heard(daemon: Daemon, event: Heard, now: float) -> Step:
    """A work message on the channel."""
    if event.sender not in daemon.tuning.coordinators:
        return daemon, ()
    message = event.message
    mine = bare_id(message.agentId) == daemon.me.agent_id
    match message:
        case Settled():
            return _settled(daemon, message, now) if mine else (daemon, ())
        case _ if event.replay:
            return daemon, ()
        case TaskAvailable():
            return claims.hold(daemon, event.sender, message, now), ()
        case Assign() if mine:
            return _assigned(daemon, event.sender, message, now)
        case Assign():
            return claims.drop(daemon, message.task.id), ()
        case Rejected() if mine:
            return claims.drop(daemon, message.task.id), ()
        case _:
            return daemon, ()


def _settled(daemon: Daemon, message: Settled, now: float) -> Step:
    key = (message.task.id, message.fence)
    rest = tuple(entry for entry in daemon.unsettled if entry.key != key)
    if len(rest) == len(daemon.unsettled):
        return daemon, ()
    daemon = replace(daemon, unsettled=rest, resend_at=daemon.resend_at if rest else None)
    note = Note("stale" if message.stale else "settled", f"{key[0]} fence {key[1]}")
    effects: tuple[Effect, ...] = (Settle(*key), note)
    if not rest:
        daemon, more = between.settled_up(daemon, now)
        effects += more
    return daemon, effects


def _assigned(daemon: Daemon, sender: str, message: Assign, now: float) -> Step:
    task = claims.recall(daemon, message.task)
    if not claims.is_task_id(task.id):
        refusal = Unclaim(
            agentId=daemon.me.agent_id,
            task=TaskRef(id=task.id[:64], component=task.component[:64]),
            fence=message.fence,
            reason="the assignment names no task this agent can work on",
        )
        return daemon, (Say(refusal), Note("refused", f"an assignment of {task.id[:64]!r}"))
    numbered = _numbered_by(daemon, sender, task.id)
    seen = daemon.fences.get(numbered, 0)
    fence = message.fence
    if fence <= 0:
        busy_with_it = between.holding(daemon.phase)[0] == task.id
        fence = seen if busy_with_it else seen + 1
    if fence <= seen:
        return daemon, _again(daemon, task.id, fence)
    reason = _unable(daemon)
    if reason and between.owes_enough(daemon):
        return daemon, ()  # a flood of assignments: whoever means one says it again
    daemon, saved = _remember(daemon, numbered, fence)
    if reason:
        # The phase is another task's, or none: it is not touched by giving this one back.
        daemon, effects = between.unclaim(daemon, task.id, fence, reason, now)
        return daemon, (*saved, *effects)
    until = now + PROMOTE_SECONDS
    phase = Promoting(task, fence, sender, until, message.lease_seconds)
    ask = Tell(Promote(task=task.id, fence=fence, coordinator=sender))
    daemon = replace(daemon, phase=phase, held=())
    return daemon, (*saved, ask, Note("assigned", f"{task.id} fence {fence}"))


def _numbered_by(daemon: Daemon, coordinator: str, task: str) -> str:
    """Whose fences count: another coordinator's say nothing about a task of ours of that name."""
    ours = daemon.tuning.coordinators[:1] == (coordinator,)
    return task if ours else f"{coordinator} {task}"


def _unable(daemon: Daemon) -> str:
    """Why nothing can be started now; empty when it can."""
    if daemon.me.refuses:
        return daemon.me.refuses
    if daemon.leave is not None:
        return "this agent is leaving"
    match daemon.phase:
        case Idle() | Claiming():
            return ""
        case Starting():
            return "this agent is starting"
        case Probing():
            return "this agent is probing a quota"
        case _:
            task, _ = between.holding(daemon.phase)
            return f"busy with {task}" if task else "busy"


def _again(daemon: Daemon, task: str, fence: int) -> tuple[Effect, ...]:
    """An ``ASSIGN`` heard before: its sender has not heard the answer, so it is said again."""
    match daemon.phase:
        case Active(job=job) if job.key == (task, fence):
            return (Say(status(daemon.me.agent_id, task, fence, "started")),)
        case _:
            return tuple(
                Say(message_of(entry, daemon.me.agent_id))
                for entry in daemon.unsettled
                if entry.key == (task, fence)
            )


def _remember(daemon: Daemon, task: str, fence: int) -> tuple[Daemon, tuple[Effect, ...]]:
    """Keep the fence as the task's highest, on disk before anything is done under it."""
    fences = {name: seen for name, seen in daemon.fences.items() if name != task}
    while len(fences) >= MAX_FENCES:
        del fences[next(iter(fences))]
    fences[task] = fence
    return replace(daemon, fences=fences), (SaveFences(fences),)
