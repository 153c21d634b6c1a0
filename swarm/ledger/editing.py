"""Changing a task before it runs, and leaving one out."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import replace

from swarm.core.budget import Amount
from swarm.core.model import Merge, OnFailed, Review, TaskState
from swarm.errors import UsageError
from swarm.ledger import dependents
from swarm.ledger.database import Database
from swarm.ledger.inserting import cleaned, insert_needs
from swarm.ledger.landing import drop_reviews
from swarm.ledger.moves import add_event
from swarm.ledger.plan_records import Changes
from swarm.ledger.queries import Clock, task_of
from swarm.ledger.records import NewTask, Task
from swarm.ledger.rows import asked_for, known_row, labels_json, needed, queue_for

_BUSY = frozenset({TaskState.RUNNING, TaskState.REVIEW, TaskState.LANDING})


class Editing:
    """Part of :class:`~swarm.ledger.sqlite.SqliteLedger`; see its calls."""

    _database: Database
    _clock: Clock

    def edit(self, task: str, changes: Changes) -> Task:
        """See the calls."""
        with self._database.writing() as db:
            row, now = asked_for(db, task), self._clock()
            _refuse(row, changes)
            needs = None if changes.after is None else _needs(db, row, changes.after)
            _write(db, row, changes, now)
            if needs is not None:
                db.execute("DELETE FROM dependencies WHERE task = ?", (row["seq"],))
                insert_needs(db, row["seq"], needs)
                blocked = sum(not met for _, met in needs)
                db.execute("UPDATE tasks SET blocked = ? WHERE seq = ?", (blocked, row["seq"]))
            add_event(db, now, row["seq"], "edited", detail=" ".join(changes.names))
            if needs is not None or changes.on_failed is not None:
                dependents.reconsider(db, row["seq"], now)
            return task_of(known_row(db, task))

    def skip(self, task: str, *, release: bool = False) -> Task:
        """See the calls."""
        with self._database.writing() as db:
            row, now = asked_for(db, task), self._clock()
            state = TaskState(row["state"])
            if state in {TaskState.RUNNING, TaskState.LANDING}:
                raise UsageError(f"{task} is {state}", "end it first, with `agentctl task cancel`")
            if state is TaskState.DONE:
                raise UsageError(f"{task} is done", "there is nothing left to skip")
            db.execute(
                "UPDATE tasks SET state = 'skipped', result = NULL, not_before = NULL,"
                " reason = 'skipped by hand', updated_at = ?, ended_at = ? WHERE seq = ?",
                (now, now, row["seq"]),
            )
            # It was left out by hand: no retry of what it waits for brings it back.
            db.execute("UPDATE dependencies SET skipped = 0 WHERE task = ?", (row["seq"],))
            add_event(db, now, row["seq"], "skipped", detail="by hand")
            drop_reviews(db, row["seq"], now)
            if release:
                dependents.release(db, row["seq"], now)
            dependents.ended(db, row["seq"], TaskState.SKIPPED, now)
            return task_of(known_row(db, task))


def _refuse(row: sqlite3.Row, changes: Changes) -> None:
    """Raise :class:`UsageError` for what cannot be changed of this task now."""
    state, task = TaskState(row["state"]), row["id"]
    if not changes.names:
        raise UsageError("nothing to change was given", "see `agentctl task edit --help`")
    if state is TaskState.DONE:
        raise UsageError(f"{task} is done", "add a task that goes on from it")
    if state in _BUSY and changes.names != ("priority",):
        others = ", ".join(name for name in changes.names if name != "priority")
        raise UsageError(
            f"{task} is {state}: its {others} cannot be changed any more",
            "only its priority can, for what comes next; or cancel it, edit it and retry it",
        )


def _write(db: sqlite3.Connection, row: sqlite3.Row, changes: Changes, now: float) -> None:
    """The changed columns, checked as those of a new task are."""
    (old,) = db.execute("SELECT text FROM prompts WHERE task = ?", (row["seq"],)).fetchone()
    before = NewTask(
        prompt=str(old),
        role=row["role"],
        component=row["component"],
        title=row["title"] if row["titled"] else "",
        priority=row["priority"],
        repo=row["repo"],
        budget=changes.budget.or_else(Amount(row["token_budget"], row["usd_budget"])),
        lane=row["lane"],
        labels=json.loads(row["labels"]),
        review=None if row["review"] is None else Review(row["review"]),
        merge=None if row["merge"] is None else Merge(row["merge"]),
        on_failed=OnFailed(row["on_failed"]),
    )
    plain = [name for name in changes.names if name not in ("after", "budget")]
    clean = cleaned(replace(before, **{name: getattr(changes, name) for name in plain}))
    new = clean.new
    db.execute(
        "UPDATE tasks SET role = ?, component = ?, title = ?, titled = ?, priority = ?, lane = ?,"
        " labels = ?, queue = ?, review = ?, merge = ?, on_failed = ?, token_budget = ?,"
        " usd_budget = ?, updated_at = ? WHERE seq = ?",
        (
            *(new.role, new.component, new.title, clean.titled, new.priority, new.lane),
            *(labels_json(new.labels), queue_for(db, new.role, new.lane, new.labels)),
            None if new.review is None else new.review.value,
            None if new.merge is None else new.merge.value,
            *(new.on_failed.value, new.budget.tokens, new.budget.usd, now, row["seq"]),
        ),
    )
    if changes.prompt is not None:
        db.execute("UPDATE prompts SET text = ? WHERE task = ?", (new.prompt, row["seq"]))


def _needs(
    db: sqlite3.Connection, row: sqlite3.Row, after: Iterable[str]
) -> list[tuple[int, bool]]:
    """What it is to wait for; raises :class:`UsageError` where that would wait for it."""
    needs = []
    for task in dict.fromkeys(after):
        on, met = needed(db, task)
        circle = db.execute(
            "WITH RECURSIVE up (seq) AS (VALUES (?) UNION"
            " SELECT d.needs FROM dependencies d JOIN up ON d.task = up.seq WHERE d.met = 0)"
            " SELECT 1 FROM up WHERE seq = ?",
            (on, row["seq"]),
        ).fetchone()
        if circle is not None:
            raise UsageError(
                f"{row['id']} cannot wait for {task}, which waits for it", "break the circle"
            )
        needs.append((on, met))
    return needs
