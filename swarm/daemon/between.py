"""Between attempts: coming to rest, giving an assignment back, the clone, and the way out."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias, assert_never

from swarm.daemon.outbox import MAX_UNCLAIMED, Entry, Unclaimed, kept
from swarm.daemon.reporting import MAX_REASON, message_of
from swarm.daemon.state import (
    Active,
    Claiming,
    CloseChat,
    Daemon,
    Effect,
    Ending,
    Failing,
    Gone,
    Idle,
    Launching,
    Leaving,
    MakeClone,
    Note,
    Phase,
    Preparing,
    Probing,
    Promoting,
    Record,
    Recording,
    Say,
    Securing,
    Starting,
    Tell,
)
from swarm.wire.lifeline import Idle as IdleLine

RESEND_SECONDS = 15.0
"""An unsettled entry is said again after this long on a live connection, then after twice as
long each time: the coordinator may have been away when it was said first."""
RESEND_CAP_SECONDS = 300.0
LINGER_SECONDS = 2.0
"""How long a leaving daemon waits for the coordinator to settle its last report."""
CLOSE_SECONDS = 2.0
"""How long closing the chat may take."""
CLONE_RETRY_SECONDS = 30.0
"""A clone that failed while nobody waited for it is tried again after this long."""

Step: TypeAlias = tuple[Daemon, tuple[Effect, ...]]


def holding(phase: Phase) -> tuple[str, int]:
    """The task and fence a daemon holds, for its beats; ``("", 0)`` when it holds none."""
    match phase:
        case Promoting(task=task, fence=fence):
            return task.id, fence
        case (
            Preparing(job=job)
            | Launching(job=job)
            | Active(job=job)
            | Ending(job=job)
            | Failing(job=job)
            | Securing(job=job)
        ):
            return job.key
        case Recording(finished=finished):
            return finished.task, finished.fence
        case Starting() | Idle() | Claiming() | Probing() | Leaving() | Gone():
            return "", 0
        case _:
            assert_never(phase)


def rest(daemon: Daemon, now: float) -> Step:
    """Idle again, or on the way out when that was asked for meanwhile."""
    if daemon.leave is not None:
        return go(daemon, now)
    daemon = replace(daemon, phase=Idle(now))
    daemon, effects = clone_wanted(daemon)
    return daemon, (Tell(IdleLine(warm=bool(daemon.hub))), *effects)


def clone_wanted(daemon: Daemon) -> Step:
    """Begin the clone the supervisor asked for, unless it is there or under way."""
    wanted = daemon.wanted
    waiting = daemon.clone_at is not None
    if wanted is None or daemon.cloning or daemon.hub == wanted.hub or waiting:
        return daemon, ()
    return replace(daemon, cloning=wanted.hub), (MakeClone(wanted.hub, wanted.clone),)


def owe(daemon: Daemon, entry: Entry, now: float) -> Daemon:
    """Remember an entry as unsettled."""
    others = tuple(e for e in daemon.unsettled if e.key != entry.key)
    return replace(
        daemon,
        unsettled=kept((*others, entry)),
        resend_at=now + RESEND_SECONDS,
        resend_wait=RESEND_SECONDS,
    )


def owes_enough(daemon: Daemon) -> bool:
    """Whether so much was given back that nobody settled that one more would push one out."""
    return sum(isinstance(entry, Unclaimed) for entry in daemon.unsettled) >= MAX_UNCLAIMED


def unclaim(
    daemon: Daemon, task: str, fence: int, reason: str, now: float, retry_after: float = 0.0
) -> Step:
    """Give an assignment back, durably; the phase stays as it is."""
    entry = Unclaimed(task, fence, reason[:MAX_REASON], retry_after)
    daemon = owe(daemon, entry, now)
    said = Say(message_of(entry, daemon.me.agent_id))
    return daemon, (Record(entry), said, Note("unclaimed", f"{task} fence {fence}: {reason}"))


def give_back(
    daemon: Daemon, task: str, fence: int, reason: str, now: float, retry_after: float = 0.0
) -> Step:
    """Give the assignment that is being started back, and rest."""
    daemon, effects = unclaim(daemon, task, fence, reason, now, retry_after)
    daemon, more = rest(daemon, now)
    return daemon, effects + more


# -- the way out -----------------------------------------------------------------------------------


def go(daemon: Daemon, now: float) -> Step:
    """Leave: at once, or after a moment for the coordinator to settle what it was just told."""
    if daemon.unsettled and daemon.joined:
        return replace(daemon, phase=Leaving(now + LINGER_SECONDS), held=()), ()
    return close(replace(daemon, held=()), now)


def close(daemon: Daemon, now: float) -> Step:
    """Close the chat properly, so that the server need not hold the next sign-in back."""
    return replace(daemon, phase=Leaving(now + CLOSE_SECONDS, closing=True)), (CloseChat(),)


def settled_up(daemon: Daemon, now: float) -> Step:
    """Nothing is unsettled any more: a daemon that only waited for that goes."""
    match daemon.phase:
        case Leaving(closing=False):
            return close(daemon, now)
        case _:
            return daemon, ()
