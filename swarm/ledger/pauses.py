"""What holds tasks back, and what people are told of it: kept over restarts."""

from __future__ import annotations

from swarm.ledger.database import Database
from swarm.ledger.intake import plain
from swarm.ledger.queries import Clock
from swarm.ledger.queues import note_row
from swarm.ledger.records import MAX_REASON


class Pauses:
    """Part of :class:`~swarm.ledger.sqlite.SqliteLedger`; see its interface."""

    _database: Database
    _clock: Clock

    def pause(self, scope: str, reason: str, until: float | None = None) -> None:
        """See the interface."""
        with self._database.writing() as db:
            db.execute(
                "INSERT OR REPLACE INTO pauses (scope, reason, since, until) VALUES (?, ?, ?, ?)",
                (scope, plain(reason, MAX_REASON), self._clock(), until),
            )

    def resume(self, scope: str) -> None:
        """See the interface."""
        with self._database.writing() as db:
            db.execute("DELETE FROM pauses WHERE scope = ?", (scope,))

    def end_quota_waits(self) -> int:
        """See the interface."""
        with self._database.writing() as db:
            changed = db.execute(
                "UPDATE tasks INDEXED BY tasks_delayed SET not_before = NULL, updated_at = ?"
                " WHERE state = 'queued' AND not_before > ? AND EXISTS (SELECT 1 FROM attempts a"
                " WHERE a.task = tasks.seq AND a.fence = tasks.fence AND a.outcome = 'quota')",
                (self._clock(), self._clock()),
            )
        return changed.rowcount

    def hasten(self, seconds: float) -> int:
        """See the interface."""
        with self._database.writing() as db:
            changed = db.execute(
                "UPDATE tasks INDEXED BY tasks_delayed SET not_before = not_before - ?"
                " WHERE state = 'queued' AND not_before IS NOT NULL AND not_before > ?",
                (seconds, self._clock()),
            )
        return changed.rowcount

    def note(self, key: str, text: str) -> None:
        """See the interface."""
        with self._database.writing() as db:
            note_row(db, key, text)
