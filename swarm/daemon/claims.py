"""Which announced tasks a daemon claims, and when (architecture, "Claims do not stampede")."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from swarm.core.model import is_agent_id
from swarm.daemon.state import Claiming, Daemon, Effect, Held, Idle, Me, Say
from swarm.wire.work import Claim, TaskAvailable, TaskRef

CLAIM_SECONDS = 5.0
"""A claim nobody answered is forgotten after this long."""
HELD_SECONDS = 30.0
"""An announcement that stayed unclaimed this long past its place is forgotten: it is announced
again, with later facts, long before."""
MAX_HELD = 4
"""Announcements remembered at once."""
MAX_SPREAD_SECONDS = 60.0
"""Longest wait for a place in the spread, whatever the announcement says."""

_IGNORED_SLOT_MS = 60_000


def is_task_id(text: str) -> bool:
    """Whether a task's id may name files and a branch: 1–64 of letters, digits, ``_ -``."""
    plain = text.replace("-", "a").replace("_", "a")
    return 0 < len(text) <= 64 and plain.isascii() and plain.isalnum() and text[0] not in "-_"


def worth_reading(content: str, daemon: Daemon) -> bool:
    """A look at the raw text: whether it can matter to this daemon at all.

    Every message of the channel reaches every daemon, so most are told apart without decoding.
    An announcement matters to those it is offered to and to idle ones; everything else only when
    it names this agent, or when an announcement is held that somebody else may have been given.
    """
    if daemon.me.agent_id in content:
        return True
    if "TASK_AVAILABLE" in content:
        return isinstance(daemon.phase, Idle | Claiming)
    return "ASSIGN" in content and (bool(daemon.held) or isinstance(daemon.phase, Claiming))


def place(me: Me, message: TaskAvailable) -> float | None:
    """Seconds this agent waits before it claims; ``None`` for a task it does not take.

    Those the task is offered to do not wait; a task without a role suits everybody.
    """
    task = message.task
    if task.role and task.role != me.role and task.role not in me.takes:
        return None
    if me.refuses or not is_task_id(task.id):
        return None
    if me.name in message.offer:
        return 0.0
    slots = max(0, min(message.idle, 100_000))
    slot = max(0, min(message.slot_ms, _IGNORED_SLOT_MS)) / 1000
    return min(fraction(task.id, me.agent_id) * slots * slot, MAX_SPREAD_SECONDS)


def fraction(task: str, agent: str) -> float:
    """The agent's place in the spread of a task's claims: 0 ≤ x < 1, the same every time."""
    digest = hashlib.blake2b(f"{task}\0{agent}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") / 2**32


def hold(daemon: Daemon, sender: str, message: TaskAvailable, now: float) -> Daemon:
    """Remember an announcement, to be claimed when its place comes; offered ones at once."""
    task = message.task
    if daemon.leave is not None or not isinstance(daemon.phase, Idle | Claiming):
        return daemon
    if isinstance(daemon.phase, Claiming) and daemon.phase.task.id == task.id:
        return daemon
    wait = place(daemon.me, message)
    if wait is None:
        return daemon
    held = Held(task, sender, now + wait, now + wait + HELD_SECONDS)
    others = tuple(h for h in daemon.held if h.task.id != task.id)
    return replace(daemon, held=(*others, held)[-MAX_HELD:])


def drop(daemon: Daemon, task: str) -> Daemon:
    """Somebody has it: be quiet about it."""
    if isinstance(daemon.phase, Claiming) and daemon.phase.task.id == task:
        daemon = replace(daemon, phase=Idle(daemon.phase.until - CLAIM_SECONDS))
    if any(h.task.id == task for h in daemon.held):
        daemon = replace(daemon, held=tuple(h for h in daemon.held if h.task.id != task))
    return daemon


def claim_due(daemon: Daemon, now: float) -> tuple[Daemon, tuple[Effect, ...]]:
    """Claim the held announcement whose place has come, when idle; one claim at a time."""
    if not daemon.held:
        return daemon, ()
    live = tuple(h for h in daemon.held if h.until > now)
    if len(live) != len(daemon.held):
        daemon = replace(daemon, held=live)
    if not isinstance(daemon.phase, Idle) or not daemon.joined or daemon.leave is not None:
        return daemon, ()
    due = min((h for h in live if h.at <= now), key=lambda h: h.at, default=None)
    if due is None:
        return daemon, ()
    rest = tuple(h for h in live if h is not due)
    claim = Claim(
        agentId=daemon.me.agent_id,
        task=TaskRef(id=due.task.id, component=due.task.component, role=due.task.role),
    )
    daemon = replace(daemon, phase=Claiming(due.task, now + CLAIM_SECONDS), held=rest)
    return daemon, (Say(claim),)


def recall(daemon: Daemon, task: TaskRef) -> TaskRef:
    """The assigned task with all that was announced of it: an ``ASSIGN`` may say little.

    The short form names only a component; the announcement of it that we claimed, or still
    remember, gives the id.  Without one the component names the task, if it can.
    """
    known = [h.task for h in daemon.held]
    if isinstance(daemon.phase, Claiming):
        known.insert(0, daemon.phase.task)
    for announced in known:
        same = announced.id == task.id if task.id else announced.component == task.component
        if same:
            return TaskRef(
                id=announced.id,
                component=task.component or announced.component,
                role=task.role or announced.role,
                title=task.title or announced.title,
                prompt=task.prompt or announced.prompt,
                priority=task.priority or announced.priority,
            )
    if not task.id and is_task_id(task.component) and not is_agent_id(task.component):
        return TaskRef(id=task.component, component=task.component, title=task.title)
    return task
