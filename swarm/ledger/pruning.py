"""The ledger's events are a record of the last weeks, not an archive: older ones are dropped.

Tasks, attempts and usage are never touched here: ``task show``, the totals and the budgets are
made from those.  Of the events are kept all of the last :data:`KEEP_DAYS` (but no more than
:data:`KEEP_EVENTS` of them), all of a task that has not ended, and the first and the last of every
task: so its story still has a beginning and an end, and the highest number never goes
(:meth:`~swarm.ledger.interface.Ledger.last_event`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from swarm.core.model import TaskState
from swarm.errors import LedgerError
from swarm.ledger.database import Database

KEEP_DAYS = 30.0
KEEP_EVENTS = 200_000
"""About 30 MB."""
BATCH = 2_000
"""Rows looked at in one transaction: a few milliseconds, and others may write between two."""
EVERY_SECONDS = 86400.0

_ENDED = ", ".join(f"'{state.value}'" for state in TaskState if state.ended)
_DROP = f"""
    DELETE FROM events WHERE seq IN (
        SELECT e.seq FROM events e JOIN tasks t ON t.seq = e.task
        WHERE e.seq > :after AND e.seq <= :end AND (e.at < :before OR e.seq <= :surplus)
          AND t.state IN ({_ENDED})
          AND e.seq > (SELECT min(seq) FROM events WHERE task = e.task)
          AND e.seq < (SELECT max(seq) FROM events WHERE task = e.task))
"""  # noqa: S608 - the states are our own words


def prune_batch(
    database: Database, after: int, now: float, keep_events: int = KEEP_EVENTS, batch: int = BATCH
) -> tuple[int, int | None]:
    """Look at the next ``batch`` events after number ``after``, at Unix time ``now``.

    Returns how many were dropped and the number to go on after, ``None`` when what follows is
    young enough.  Raises :class:`~swarm.errors.LedgerError`.
    """
    before = now - KEEP_DAYS * 86400
    with database.writing() as db:
        rows = db.execute(
            "SELECT seq, at FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (after, batch)
        ).fetchall()
        surplus = db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0] - keep_events
        if not rows or (rows[0]["at"] >= before and rows[0]["seq"] > surplus):
            return 0, None
        end = int(rows[-1]["seq"])
        dropped = db.execute(
            _DROP, {"after": after, "end": end, "before": before, "surplus": surplus}
        ).rowcount
        return int(dropped), end


async def keep_pruned(
    path: Path, say: Callable[[int], object], trouble: Callable[[str], object]
) -> None:
    """Prune the ledger at ``path`` now and once a day until cancelled.

    ``say`` hears how many events went, ``trouble`` why it could not be done; the next day it is
    tried again.
    """
    while True:
        try:
            dropped = await _prune(path)
        except LedgerError as error:
            trouble(str(error))
        else:
            if dropped:
                say(dropped)
        await asyncio.sleep(EVERY_SECONDS)


async def _prune(path: Path) -> int:
    """Batch after batch; whoever shares the loop has its turn between two."""
    dropped = 0
    at: int | None = 0
    database = Database(path)
    try:
        while at is not None:
            found, at = prune_batch(database, at, time.time())
            dropped += found
            await asyncio.sleep(0)
    finally:
        database.close()
    return dropped
