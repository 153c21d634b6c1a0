"""Notices and what waits for a person, in the SQLite ledger."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence

from swarm.ledger.database import Database
from swarm.ledger.notices_calls import Attention, DueNotice, NewNotice
from swarm.ledger.queries import EVENTS, Clock, event_of, task_of
from swarm.ledger.records import Event, Task

MAX_NOTICES = 10_000
"""Not told yet: a hook that never works must not fill the disk."""
_CURSOR = "notices"
_WAITING = (
    "FROM tasks t WHERE t.state = 'needs_human' OR (t.state = 'review' AND NOT EXISTS"
    " (SELECT 1 FROM tasks r WHERE r.about = t.seq AND r.kind = 'review'"
    " AND r.state IN ('queued', 'running')))"
)
"""A review that an agent was asked for is no person's yet."""


class Notices:
    """See :class:`~swarm.ledger.notices_calls.NoticesCalls`."""

    _database: Database
    _clock: Clock

    def notice_cursor(self) -> int | None:
        """See the interface."""
        with self._database.reading() as db:
            row = db.execute("SELECT seq FROM cursors WHERE name = ?", (_CURSOR,)).fetchone()
        return None if row is None else int(row["seq"])

    def keep_notices(self, new: Sequence[NewNotice], cursor: int | None) -> int:
        """See the interface."""
        with self._database.writing() as db:
            if cursor is None:
                db.execute("DELETE FROM cursors WHERE name = ?", (_CURSOR,))
            else:
                db.execute(
                    "INSERT INTO cursors (name, seq) VALUES (?, ?)"
                    " ON CONFLICT (name) DO UPDATE SET seq = excluded.seq",
                    (_CURSOR, cursor),
                )
            return self._insert(db, new)

    def add_notices(self, new: Sequence[NewNotice]) -> int:
        """See the interface."""
        with self._database.writing() as db:
            return self._insert(db, new)

    def _insert(self, db: sqlite3.Connection, new: Sequence[NewNotice]) -> int:
        now = self._clock()
        db.executemany(
            "INSERT INTO notices (hook, at, kind, task, body, due_at) VALUES (?, ?, ?, ?, ?, ?)",
            [(one.hook, now, one.kind, one.task, one.body, now) for one in new],
        )
        if not new:
            return 0
        dropped = db.execute(
            "DELETE FROM notices WHERE seq IN"
            " (SELECT seq FROM notices ORDER BY seq DESC LIMIT -1 OFFSET ?)",
            (MAX_NOTICES,),
        )
        return dropped.rowcount

    def forget_notices(self, hooks: Collection[str]) -> int:
        """See the interface."""
        marks = ", ".join("?" * len(hooks))
        with self._database.writing() as db:
            return db.execute(
                f"DELETE FROM notices WHERE hook NOT IN ({marks})",  # noqa: S608 - question marks
                tuple(hooks),
            ).rowcount

    def due_notices(self, limit: int, without: Collection[str] = ()) -> list[DueNotice]:
        """See the interface."""
        marks = ", ".join("?" * len(without))
        with self._database.reading() as db:
            rows = db.execute(
                f"SELECT * FROM notices WHERE due_at <= ? AND hook NOT IN ({marks})"  # noqa: S608 - question marks
                " ORDER BY due_at, seq LIMIT ?",
                (self._clock(), *without, limit),
            ).fetchall()
        return [
            DueNotice(r["seq"], r["hook"], r["kind"], r["task"], r["body"], r["tries"])
            for r in rows
        ]

    def next_notice(self, without: Collection[str] = ()) -> float | None:
        """See the interface."""
        marks = ", ".join("?" * len(without))
        with self._database.reading() as db:
            row = db.execute(
                f"SELECT min(due_at) FROM notices WHERE hook NOT IN ({marks})",  # noqa: S608 - question marks
                tuple(without),
            ).fetchone()
        return None if row[0] is None else float(row[0])

    def notice_told(self, seq: int) -> None:
        """See the interface."""
        with self._database.writing() as db:
            db.execute("DELETE FROM notices WHERE seq = ?", (seq,))

    def notice_failed(self, seq: int, again_at: float) -> None:
        """See the interface."""
        with self._database.writing() as db:
            db.execute(
                "UPDATE notices SET tries = tries + 1, due_at = ? WHERE seq = ?", (again_at, seq)
            )

    def events_of(self, kinds: Collection[str], after: int, upto: int) -> list[Event]:
        """See the interface."""
        marks = ", ".join("?" * len(kinds))
        with self._database.reading() as db:
            rows = db.execute(
                f"{EVENTS} WHERE e.seq > ? AND e.seq <= ? AND e.kind IN ({marks}) ORDER BY e.seq",
                (after, upto, *kinds),
            ).fetchall()
        return [event_of(row) for row in rows]

    def attention(self, limit: int) -> tuple[list[Attention], int]:
        """See the interface."""
        with self._database.snapshot() as db:
            count = db.execute(f"SELECT count(*) {_WAITING}").fetchone()[0]
            rows = db.execute(
                f"SELECT t.* {_WAITING} ORDER BY t.updated_at, t.seq LIMIT ?",
                (limit,),
            ).fetchall()
        return [_attention(row) for row in rows], int(count)

    def foldered(self, since: float) -> list[Task]:
        """See the interface."""
        with self._database.reading() as db:
            rows = db.execute(
                "SELECT * FROM tasks WHERE ended_at >= ? AND folder <> '' ORDER BY seq", (since,)
            ).fetchall()
        return [task_of(row) for row in rows]


def _attention(row: sqlite3.Row) -> Attention:
    review = row["state"] == "review"
    text = row["reason"]
    if review:
        tip = (row["tip"] or "")[:12]
        text = f"commit {tip} waits for approval" + (f": {text}" if text else "")
    return Attention(row["id"], row["state"], text, row["updated_at"])
