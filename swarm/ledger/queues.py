"""Queues: tasks that the same agents can take wait together, so that none hides another."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping

from swarm.ledger.database import Database
from swarm.ledger.intake import one_line
from swarm.ledger.queries import Clock, task_of
from swarm.ledger.records import Queue, Task

MAX_NOTE = 4000
"""Characters of a note."""
_MOST_MARKS = 500
"""Question marks of one statement."""

_WAITS = "state = 'queued' AND blocked = 0 AND paused = 0"

_WAITING = f"""
    WITH RECURSIVE waits(queue) AS (
        SELECT min(queue) FROM tasks INDEXED BY tasks_ready WHERE {_WAITS}
        UNION ALL
        SELECT (SELECT min(t.queue) FROM tasks t INDEXED BY tasks_ready
                WHERE t.queue > waits.queue AND {_WAITS})
        FROM waits WHERE waits.queue IS NOT NULL
    )
    SELECT queue FROM waits WHERE queue IS NOT NULL
"""  # noqa: S608 - our own words
"""From one queue to the next by the index: one seek for each, however many tasks it holds."""

_READY = f"""
    SELECT seq, priority FROM tasks INDEXED BY tasks_ready
    WHERE {_WAITS} AND queue = ?
        AND (not_before IS NULL OR not_before <= ?) AND (? = '' OR component = ?)
        AND (? OR kind = 'work')
    ORDER BY priority DESC, seq LIMIT ?
"""  # noqa: S608 - our own words


class Queues:
    """Part of :class:`~swarm.ledger.sqlite.SqliteLedger`; see its interface."""

    _database: Database
    _clock: Clock
    _queues: dict[int, Queue]
    """As far as they were seen; a queue never changes."""

    def ready(
        self, queues: Collection[int], limit: int, component: str = "", *, work_only: bool = False
    ) -> list[Task]:
        """See the interface."""
        wanted = (self._clock(), component, component, not work_only)
        with self._database.snapshot() as db:
            # Only a queue whose first is among the first of all can have any of them.
            firsts = _heads(db, queues, wanted, 1)[:limit]
            heads = _heads(db, [queue for _, _, queue in firsts], wanted, limit)
            order = [seq for _, seq, _ in heads[:limit]]
            found = {row["seq"]: task_of(row) for row in _rows(db, order)}
        return [found[seq] for seq in order]

    def waiting_queues(self) -> list[Queue]:
        """See the interface."""
        with self._database.reading() as db:
            waiting = [int(row[0]) for row in db.execute(_WAITING)]
            for queue in waiting:
                if queue not in self._queues:
                    row = db.execute("SELECT * FROM queues WHERE id = ?", (queue,)).fetchone()
                    self._queues[queue] = _queue_of(row)
        return [self._queues[queue] for queue in waiting]

    def note_all(self, notes: Mapping[str, str]) -> None:
        """See the interface."""
        with self._database.writing() as db:
            for key, text in notes.items():
                note_row(db, key, text)


def note_row(db: sqlite3.Connection, key: str, text: str) -> None:
    """One note; empty text clears it."""
    if text:
        db.execute(
            "INSERT OR REPLACE INTO notes (key, text) VALUES (?, ?)",
            (key, one_line(text, MAX_NOTE)),
        )
    else:
        db.execute("DELETE FROM notes WHERE key = ?", (key,))


def _heads(
    db: sqlite3.Connection, queues: Iterable[int], wanted: tuple[object, ...], limit: int
) -> list[tuple[int, int, int]]:
    """Of each queue its first tasks: priority (negative), number and queue, in their order."""
    heads: list[tuple[int, int, int]] = []
    for queue in queues:
        rows = db.execute(_READY, (queue, *wanted, limit))
        heads += [(-row[1], row[0], queue) for row in rows]
    return sorted(heads)


def _rows(db: sqlite3.Connection, seqs: list[int]) -> list[sqlite3.Row]:
    """The whole rows of these tasks."""
    found: list[sqlite3.Row] = []
    for start in range(0, len(seqs), _MOST_MARKS):
        part = seqs[start : start + _MOST_MARKS]
        marks = ", ".join("?" * len(part))
        found += db.execute(f"SELECT * FROM tasks WHERE seq IN ({marks})", part)  # noqa: S608
    return found


def _queue_of(row: sqlite3.Row) -> Queue:
    return Queue(row["id"], row["role"], row["lane"], json.loads(row["labels"]))
