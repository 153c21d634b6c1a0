"""A task's next state and the record of it: what every move of a task writes."""

from __future__ import annotations

import sqlite3

from swarm.core.model import TaskResult, TaskState
from swarm.ledger.outcomes import Becomes

TOLD = frozenset({TaskState.REVIEW, TaskState.LANDING, TaskState.NEEDS_HUMAN, TaskState.FAILED})
"""States whose coming is an event of that name; the others' events tell what was done."""


def settle_state(db: sqlite3.Connection, seq: int, to: Becomes, reason: str, now: float) -> None:
    """Task number ``seq`` is what ``to`` says from ``now`` on."""
    db.execute(
        "UPDATE tasks SET state = ?, result = ?, reason = ?, not_before = ?, updated_at = ?,"
        " ended_at = ? WHERE seq = ?",
        (
            str(to.state),
            None if to.result is None else str(to.result),
            reason,
            to.not_before,
            now,
            now if to.state.ended else None,
            seq,
        ),
    )


def add_event(
    db: sqlite3.Connection,
    now: float,
    seq: int,
    kind: str,
    agent: str = "",
    fence: int = 0,
    detail: str = "",
) -> None:
    """One more change, for waiters, notices and stories."""
    db.execute(
        "INSERT INTO events (at, task, kind, agent, fence, detail) VALUES (?, ?, ?, ?, ?, ?)",
        (now, seq, kind, agent, fence, str(detail)),
    )


def tell(db: sqlite3.Connection, now: float, seq: int, to: TaskState, detail: str = "") -> None:
    """The event of a state that people and others wait for; none for the rest."""
    if to in TOLD:
        add_event(db, now, seq, to.value, detail=detail)


def merged(noop: bool) -> Becomes:
    """What a task is whose work is on its target."""
    return Becomes(TaskState.DONE, TaskResult.NOOP if noop else TaskResult.MERGED)
