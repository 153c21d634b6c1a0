"""Whose things are whose: what the ledger knows of tasks, for who decides what may go."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from swarm.core.keep import Owner
from swarm.core.model import OVER, TaskResult, TaskState
from swarm.ledger.database import Database

_OVER = ", ".join(f"'{state.value}'" for state in sorted(OVER))
_NEEDED = f"""
    SELECT d.needs AS task FROM dependencies d JOIN tasks t ON t.seq = d.task
        WHERE t.state NOT IN ({_OVER})
    UNION SELECT about FROM tasks WHERE about IS NOT NULL AND state NOT IN ({_OVER})
    UNION SELECT parent FROM tasks WHERE parent IS NOT NULL AND state NOT IN ({_OVER})
"""  # noqa: S608 - the states are our own words
_OWNERS = f"""
    SELECT t.id, t.state, t.held, t.result, t.tip, t.landed, t.in_doubt, t.branch,
        coalesce(t.ended_at, t.updated_at) AS ended_at, n.task IS NOT NULL AS needed
    FROM tasks t LEFT JOIN ({_NEEDED}) n ON n.task = t.seq
"""  # noqa: S608 - the same


class Owners:
    """The tasks of one ledger, asked again and again: a task may be queued anew at any moment."""

    def __init__(self, path: Path) -> None:
        """Raises :class:`~swarm.errors.LedgerError`, as the other calls do."""
        self._database = Database(path)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def all(self) -> tuple[dict[str, Owner], dict[str, Owner]]:
        """Every task by its id, and those that have a branch by its name."""
        with self._database.reading() as db:
            rows = db.execute(_OWNERS).fetchall()
        by_id = {row["id"]: _owner(row) for row in rows}
        return by_id, {row["branch"]: by_id[row["id"]] for row in rows if row["branch"]}

    def one(self, task: str) -> Owner | None:
        """One task as it is now."""
        with self._database.reading() as db:
            row = db.execute(f"{_OWNERS} WHERE t.id = ?", (task,)).fetchone()
        return None if row is None else _owner(row)


def _owner(row: sqlite3.Row) -> Owner:
    return Owner(
        id=row["id"],
        state=TaskState(row["state"]),
        ended_at=row["ended_at"],
        held=bool(row["held"]),
        needed=bool(row["needed"]),
        result=None if row["result"] is None else TaskResult(row["result"]),
        tip=row["tip"],
        landed=row["landed"],
        in_doubt=row["in_doubt"] is not None,
    )
