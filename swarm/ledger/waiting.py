"""The questions of who waits for a task."""

from __future__ import annotations

import sqlite3

from swarm.core.model import TaskState
from swarm.ledger.database import Database
from swarm.ledger.queries import EVENTS, event_of, task_of
from swarm.ledger.records import Event
from swarm.ledger.rows import ahead_of, row_of
from swarm.ledger.waiting_calls import Standing


class Waiting:
    """See :class:`~swarm.ledger.waiting_calls.WaitingCalls`."""

    _database: Database

    def data_version(self) -> int:
        """See the interface (https://sqlite.org/pragma.html#pragma_data_version)."""
        with self._database.reading() as db:
            return int(db.execute("PRAGMA data_version").fetchone()[0])

    def standing(self, task: str) -> Standing | None:
        """See the interface."""
        with self._database.snapshot() as db:
            row = row_of(db, task)
            if row is None:
                return None
            return Standing(
                task=task_of(row),
                lease_until=row["lease_until"] if row["held"] else None,
                last=_last_event(db, row),
                ahead=ahead_of(db, row),
                reviews=_reviews(db, row),
            )


def _last_event(db: sqlite3.Connection, row: sqlite3.Row) -> Event | None:
    last = db.execute(
        f"{EVENTS} WHERE e.task = ? ORDER BY e.seq DESC LIMIT 1", (row["seq"],)
    ).fetchone()
    return None if last is None else event_of(last)


def _reviews(db: sqlite3.Connection, row: sqlite3.Row) -> tuple[str, ...]:
    if row["state"] != TaskState.REVIEW:
        return ()
    found = db.execute(
        "SELECT id FROM tasks WHERE about = ? AND state IN ('queued', 'running') ORDER BY seq",
        (row["seq"],),
    )
    return tuple(str(one[0]) for one in found)
