"""An attempt's row, from its start to its report; each call inside its caller's transaction."""

from __future__ import annotations

import sqlite3

from swarm.core.budget import DAY_SECONDS, NOTHING, Amount
from swarm.ledger.intake import plain
from swarm.ledger.records import MAX_REASON
from swarm.ledger.rows import record_usage, recount
from swarm.wire.lifeline import Finished


def day_of(now: float) -> int:
    """The day of Unix time ``now``, as ``spending`` counts them."""
    return int(now // DAY_SECONDS)


def start_attempt(
    db: sqlite3.Connection,
    row: sqlite3.Row,
    agent: str,
    at: float | None,
    now: float,
    estimate: Amount = NOTHING,
) -> int:
    """A session of the task in ``row`` began at ``at``, if that is known; the attempt's number."""
    (number,) = db.execute(
        "SELECT coalesce(max(n), 0) + 1 FROM attempts WHERE task = ?", (row["seq"],)
    ).fetchone()
    db.execute(
        "INSERT INTO attempts (task, fence, n, agent, agent_id, started_at,"
        " estimate_tokens, estimate_usd) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(row["seq"], row["fence"], number, agent, row["agent_id"], at),
            *(estimate.tokens, estimate.usd),
        ),
    )
    recount(db, agent, NOTHING, estimate, day_of(now))
    return int(number)


def end_attempt(db: sqlite3.Connection, seq: int, finished: Finished, now: float) -> None:
    """It ended as its report says."""
    db.execute(
        "UPDATE attempts SET outcome = ?, reported = 1, counted = 0, reason = ?,"
        " exit_status = ?, base = ?, tip = ?, ended_at = ? WHERE task = ? AND fence = ?",
        (
            str(finished.outcome),
            plain(finished.reason, MAX_REASON),
            finished.exit_status,
            finished.start,
            finished.commit,
            now,
            seq,
            finished.fence,
        ),
    )
    record_usage(
        db,
        seq,
        finished.fence,
        finished.usage,
        finished.cost_usd,
        finished.session_id,
        day_of(now),
    )
