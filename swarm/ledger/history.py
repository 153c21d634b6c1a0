"""A task's next life: what is kept of the one before, and what begins anew."""

from __future__ import annotations

import sqlite3

from swarm.core.budget import NOTHING, Amount, over, total
from swarm.core.model import OUTSIDER, RemarkKind, TaskKind, TaskState
from swarm.errors import UsageError
from swarm.ledger import dependents
from swarm.ledger.database import Database
from swarm.ledger.intake import check_budget
from swarm.ledger.moves import add_event, settle_state
from swarm.ledger.outcomes import Becomes
from swarm.ledger.queries import Clock, task_of
from swarm.ledger.records import Task
from swarm.ledger.remarks import add_remark
from swarm.ledger.rows import TOLD_ONLY, asked_for, counted, known_row

BRANCH = (
    "coalesce(branch, CASE WHEN EXISTS (SELECT 1 FROM attempts a WHERE a.task = tasks.seq"  # noqa: S608 - our own words
    f" AND substr(a.agent_id, 1, {len(OUTSIDER)}) <> '{OUTSIDER}')"
    " THEN ? || '.' || (fence + 1) ELSE ? END)"
)
"""The branch of a task that is claimed: its own, or a new one, named twice.

A task without one that was tried before has one already that is no more its own: the fence, which
only grows, tells the two apart for ever.  Outsiders have none."""


class History:
    """Carries :class:`~swarm.ledger.history_calls.HistoryCalls` out."""

    _database: Database
    _clock: Clock

    def retry(
        self,
        task: str,
        budget: Amount = NOTHING,
        *,
        fresh: bool = False,
        note: str = "",
        by: str = "",
    ) -> Task:
        """See the interface.

        The fence grows, so that a report of an attempt from before is stale: a session that a
        cancel has not ended yet must not end the new life of its task.
        """
        with self._database.writing() as db:
            row = asked_for(db, task)
            state, now = TaskState(row["state"]), self._clock()
            if not state.ended:
                raise UsageError(f"{task} is {state}", "wait for its end, or cancel it first")
            _still_asked_for(db, row)
            _new_budget(db, row, budget)
            if note.strip():
                add_remark(db, row, RemarkKind.NOTE, note, now, author=by)
            _begin_anew(db, row["seq"], now, TOLD_ONLY if note.strip() else 0)
            if fresh:
                db.execute(
                    "UPDATE tasks SET branch = NULL, commits = NULL WHERE seq = ?", (row["seq"],)
                )
            settle_state(db, row["seq"], Becomes(TaskState.QUEUED), "", now)
            add_event(db, now, row["seq"], "retried", detail="fresh" if fresh else "")
            dependents.revived(db, row["seq"], now)
            dependents.reconsider(db, row["seq"], now, skip=False)
            return task_of(known_row(db, task))


def _begin_anew(db: sqlite3.Connection, seq: int, now: float, go_on: int) -> None:
    """Nothing that was counted, held or decided holds for what comes now."""
    db.execute(
        "UPDATE attempts SET outcome = 'cancelled', ended_at = ?, reason = ?"
        " WHERE task = ? AND outcome IS NULL",
        (now, "the task was queued again", seq),
    )
    db.execute(
        "UPDATE tasks SET held = 0, lease_until = NULL, lost = 0, answer = '',"
        " fence = fence + 1, agent = '', agent_id = '', tip = NULL, approved = NULL,"
        " revisions = 0, retries = 0, go_on = ? WHERE seq = ?",
        (go_on, seq),
    )


def _still_asked_for(db: sqlite3.Connection, row: sqlite3.Row) -> None:
    """Refuse a review of what has moved on: nobody would hear its verdict."""
    if row["kind"] != TaskKind.REVIEW or row["about"] is None:
        return
    about = db.execute("SELECT id, state, tip FROM tasks WHERE seq = ?", (row["about"],)).fetchone()
    if about["state"] != TaskState.REVIEW or about["tip"] != row["about_commit"]:
        raise UsageError(
            f"{row['id']} reviewed what has moved on: {about['id']} is {about['state']}",
            f"see `agentctl task show {about['id']}`",
        )


def _new_budget(db: sqlite3.Connection, row: sqlite3.Row, budget: Amount) -> None:
    """Take the place of the old one; a task that cannot go on at all is refused here."""
    check_budget(budget)
    budget = budget.or_else(Amount(row["token_budget"], row["usd_budget"]))
    attempts = db.execute("SELECT * FROM attempts WHERE task = ?", (row["seq"],)).fetchall()
    spent = total(counted(one) for one in attempts) if attempts else Amount(0, 0.0)
    if why := over(spent, budget, str(row["id"])):
        raise UsageError(why, "give it more, with --token-budget or --usd-budget")
    db.execute(
        "UPDATE tasks SET token_budget = ?, usd_budget = ? WHERE seq = ?",
        (budget.tokens, budget.usd, row["seq"]),
    )
