"""Plans in the SQLite ledger: taken in whole, paused, resumed, cancelled, and looked at."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence

from swarm.core.model import OVER, RemarkKind, TaskKind, TaskState
from swarm.errors import LedgerError, UsageError
from swarm.ledger import dependents
from swarm.ledger.database import Database
from swarm.ledger.intake import MAX_TITLE, new_id, one_line, plain
from swarm.ledger.landing import drop_reviews
from swarm.ledger.moves import add_event
from swarm.ledger.plan_intake import MAX_TASKS, cleaned_tasks, insert_all
from swarm.ledger.plan_records import (
    AppliedPlan,
    NewPlan,
    Plan,
    PlannedTask,
    PlanState,
)
from swarm.ledger.queries import Clock, task_of
from swarm.ledger.records import Task
from swarm.wire.lifeline import Finished

MAX_FOLLOWED = 100_000
"""Dependencies that following another plan may make: its live tasks times our first ones."""
MAX_MADE = 256 * 1024
"""Characters kept of a plan that a session wrote."""

MADE = "plan"
"""``verdict`` of the remark that holds a plan file a session wrote."""

_OVER = ", ".join(f"'{state}'" for state in sorted(OVER))
_LIVE = f"state NOT IN ({_OVER})"


class Plans:
    """Part of :class:`~swarm.ledger.sqlite.SqliteLedger`; see its calls."""

    _database: Database
    _clock: Clock

    def apply_plan(self, new: NewPlan) -> AppliedPlan:
        """See the calls."""
        clean = cleaned_tasks(new.tasks, frozenset())
        if not clean:
            raise UsageError("the plan holds no task", "give it at least one")
        with self._database.writing() as db:
            if new.reference and (known := _by_reference(db, new.reference)):
                return known
            follows = _row(db, new.follows)["seq"] if new.follows else None
            plan, seq = _free_plan_id(db), 0
            now = self._clock()
            state = PlanState.PAUSED if new.paused else PlanState.ACTIVE
            seq = int(
                db.execute(
                    "INSERT INTO plans (id, title, state, follows, source, reference, created_at)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(plan, one_line(new.title, MAX_TITLE), state.value, follows),
                        *(new.source, new.reference or None, now),
                    ),
                ).lastrowid
                or 0
            )
            earlier = [] if follows is None else _live_tasks(db, follows)
            roots = sum(not (one.after or one.task.after) for one in new.tasks)
            if len(earlier) * roots > MAX_FOLLOWED:
                raise UsageError(
                    f"{roots} tasks would wait for {len(earlier)} tasks of {new.follows} each",
                    "let all but a few come after another task of the plan",
                )
            ids = insert_all(db, seq, new.tasks, clean, now, new.paused, earlier)
        return AppliedPlan(plan, ids)

    def extend_plan(self, plan: str, tasks: Sequence[PlannedTask]) -> Mapping[str, str]:
        """See the calls."""
        with self._database.writing() as db:
            row = _row(db, plan)
            if row["state"] == PlanState.CANCELLED:
                raise UsageError(f"{plan} is cancelled", "apply a plan of its own instead")
            rows = db.execute(
                "SELECT plan_key, seq, state FROM tasks WHERE plan = ?", (row["seq"],)
            ).fetchall()
            known = {str(one["plan_key"]): one for one in rows}
            if len(known) + len(tasks) > MAX_TASKS:
                raise UsageError(f"{plan} would have more than {MAX_TASKS} tasks", "begin another")
            clean = cleaned_tasks(tasks, frozenset(known))
            now, paused = self._clock(), row["state"] == PlanState.PAUSED
            db.execute("UPDATE plans SET ended_at = NULL WHERE seq = ?", (row["seq"],))
            return insert_all(db, row["seq"], tasks, clean, now, paused, [], known)

    def find_plan(self, prefix: str) -> Plan:
        """See the calls."""
        wanted = prefix if prefix.startswith("p-") else f"p-{prefix}"
        with self._database.snapshot() as db:
            rows = db.execute(
                "SELECT * FROM plans WHERE id >= ? AND id < ? ORDER BY id LIMIT 4",
                (wanted, wanted + "\x7f"),
            ).fetchall()
            exact = [row for row in rows if row["id"] == wanted]
            if len(exact or rows) == 1 and prefix:
                return _plan_of(db, (exact or rows)[0])
        shown = one_line(prefix, 40)
        if not rows or not prefix:
            raise UsageError(f"there is no plan {shown!r}", "see `agentctl plan list`")
        names = ", ".join(str(row["id"]) for row in rows[:3])
        raise UsageError(f"{shown!r} may be more than one plan: {names} …", "give more of the id")

    def plans(self, limit: int = 100) -> list[Plan]:
        """See the calls."""
        with self._database.snapshot() as db:
            rows = db.execute("SELECT * FROM plans ORDER BY seq DESC LIMIT ?", (limit,)).fetchall()
            return [_plan_of(db, row) for row in reversed(rows)]

    def plan_tasks(self, plan: str) -> list[Task]:
        """See the calls."""
        with self._database.reading() as db:
            rows = db.execute(
                "SELECT * FROM tasks WHERE plan = (SELECT seq FROM plans WHERE id = ?)"
                " ORDER BY seq",
                (plan,),
            ).fetchall()
        return [task_of(row) for row in rows]

    def plan_needs(self, plan: str) -> Mapping[str, tuple[str, ...]]:
        """See the calls."""
        found: dict[str, tuple[str, ...]] = {}
        with self._database.reading() as db:
            rows = db.execute(
                "SELECT t.id AS task, n.id AS needs FROM tasks t"
                " JOIN dependencies d ON d.task = t.seq JOIN tasks n ON n.seq = d.needs"
                " WHERE t.plan = (SELECT seq FROM plans WHERE id = ?) ORDER BY t.seq, n.seq",
                (plan,),
            ).fetchall()
        for row in rows:
            found[row["task"]] = (*found.get(row["task"], ()), row["needs"])
        return found

    def plan_source(self, plan: str) -> str:
        """See the calls."""
        with self._database.reading() as db:
            row = db.execute("SELECT source FROM plans WHERE id = ?", (plan,)).fetchone()
        return "" if row is None else str(row["source"])

    def plan_task(self, plan: str, key: str) -> str | None:
        """See the calls."""
        with self._database.reading() as db:
            row = db.execute(
                "SELECT id FROM tasks WHERE plan = (SELECT seq FROM plans WHERE id = ?)"
                " AND plan_key = ?",
                (plan, key),
            ).fetchone()
        return None if row is None else str(row["id"])

    def pause_plan(self, plan: str) -> Plan:
        """See the calls."""
        return self._order(plan, PlanState.PAUSED)

    def resume_plan(self, plan: str) -> Plan:
        """See the calls."""
        return self._order(plan, PlanState.ACTIVE)

    def cancel_plan(self, plan: str) -> list[Task]:
        """See the calls.  All are cancelled before any dependent follows: none is skipped."""
        with self._database.writing() as db:
            row, now = _row(db, plan), self._clock()
            live = _live_tasks(db, row["seq"])
            if not live:
                raise UsageError(f"{plan} is over", "there is nothing left to cancel")
            db.execute("UPDATE plans SET state = 'cancelled' WHERE seq = ?", (row["seq"],))
            db.execute(
                "UPDATE tasks SET in_doubt = CASE state WHEN 'landing' THEN tip ELSE in_doubt END,"  # noqa: S608 - our words
                " state = 'cancelled', result = NULL,"
                " reason = 'cancelled', not_before = NULL, ended_at = ?, updated_at = ?"
                f" WHERE plan = ? AND {_LIVE}",
                (now, now, row["seq"]),
            )
            for seq in live:
                add_event(db, now, seq, "cancelled", detail=plan)
                drop_reviews(db, seq, now)
            for seq in live:
                dependents.ended(db, seq, TaskState.CANCELLED, now)
            marks = "SELECT * FROM tasks WHERE plan = ? AND state = 'cancelled' ORDER BY seq"
            known = set(live)
            return [task_of(one) for one in db.execute(marks, (row["seq"],)) if one["seq"] in known]

    def made_plan(self, task: str) -> str:
        """See the calls."""
        with self._database.reading() as db:
            row = db.execute(
                "SELECT text FROM remarks WHERE task = (SELECT seq FROM tasks WHERE id = ?)"
                " AND verdict = ? ORDER BY seq DESC LIMIT 1",
                (task, MADE),
            ).fetchone()
        return "" if row is None else str(row["text"])

    def _order(self, plan: str, state: PlanState) -> Plan:
        with self._database.writing() as db:
            row = _row(db, plan)
            found = _plan_of(db, row)
            if found.state not in {PlanState.ACTIVE, PlanState.PAUSED, PlanState.FAILED}:
                raise UsageError(f"{plan} is {found.state}", "its tasks can be retried one by one")
            db.execute("UPDATE plans SET state = ? WHERE seq = ?", (state.value, row["seq"]))
            db.execute(
                "UPDATE tasks SET paused = ?, updated_at = ? WHERE plan = ?",
                (state is PlanState.PAUSED, self._clock(), row["seq"]),
            )
            return _plan_of(db, _row(db, plan))


def keep_made(db: sqlite3.Connection, row: sqlite3.Row, finished: Finished, now: float) -> None:
    """Keep the plan file that an attempt at a task of kind ``plan`` has delivered."""
    if row["kind"] != TaskKind.PLAN or not finished.review.strip():
        return
    db.execute(
        "INSERT INTO remarks (task, at, kind, author, verdict, text, fence)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            *(row["seq"], now, RemarkKind.NOTE.value, row["agent"], MADE),
            *(plain(finished.review, MAX_MADE), finished.fence),
        ),
    )


# -- looking --------------------------------------------------------------------------------------


def _row(db: sqlite3.Connection, plan: str) -> sqlite3.Row:
    row: sqlite3.Row | None = db.execute("SELECT * FROM plans WHERE id = ?", (plan,)).fetchone()
    if row is None:
        raise UsageError(f"there is no plan {one_line(plan, 40)!r}", "see `agentctl plan list`")
    return row


def _by_reference(db: sqlite3.Connection, reference: str) -> AppliedPlan | None:
    row = db.execute("SELECT seq, id FROM plans WHERE reference = ?", (reference,)).fetchone()
    if row is None:
        return None
    tasks = db.execute("SELECT plan_key, id FROM tasks WHERE plan = ? ORDER BY seq", (row["seq"],))
    ids = {str(one["plan_key"]): str(one["id"]) for one in tasks}
    return AppliedPlan(str(row["id"]), ids, fresh=False)


def _free_plan_id(db: sqlite3.Connection) -> str:
    for _ in range(20):
        plan = f"p-{new_id()[2:]}"
        if db.execute("SELECT 1 FROM plans WHERE id = ?", (plan,)).fetchone() is None:
            return plan
    raise LedgerError("twenty random plan ids were all taken", "try again")


def _live_tasks(db: sqlite3.Connection, plan: int) -> list[int]:
    """Numbers of a plan's tasks that are not over; those that wait for a person are not."""
    rows = db.execute(
        f"SELECT seq FROM tasks WHERE plan = ? AND {_LIVE} ORDER BY seq",  # noqa: S608 - our words
        (plan,),
    )
    return [int(row["seq"]) for row in rows]


def _plan_of(db: sqlite3.Connection, row: sqlite3.Row) -> Plan:
    counts: Counter[TaskState] = Counter()
    moving = False
    for one in db.execute(
        "SELECT state, blocked > 0 AS waits, count(*) AS n FROM tasks WHERE plan = ?"
        " GROUP BY state, blocked > 0",
        (row["seq"],),
    ):
        state = TaskState(one["state"])
        counts[state] += one["n"]
        moving |= state not in OVER and not (state is TaskState.QUEUED and one["waits"])
    follows = db.execute("SELECT id FROM plans WHERE seq = ?", (row["follows"],)).fetchone()
    return Plan(
        seq=row["seq"],
        id=row["id"],
        title=row["title"],
        state=_state(row["state"], counts, moving or _waits_outside(db, row["seq"])),
        counts=dict(counts),
        follows="" if follows is None else str(follows["id"]),
        created_at=row["created_at"],
        ended_at=row["ended_at"],
    )


def _state(ordered: str, counts: Mapping[TaskState, int], moving: bool) -> PlanState:
    """What a plan is; ``moving``: something of it can still go on, by itself or by a person."""
    left = _over(counts) < sum(counts.values())
    if not left and set(counts) == {TaskState.DONE}:
        return PlanState.DONE
    if not left:
        return PlanState.CANCELLED if ordered == PlanState.CANCELLED else PlanState.FAILED
    if ordered == PlanState.PAUSED:
        return PlanState.PAUSED
    return PlanState.ACTIVE if moving else PlanState.FAILED


def _over(counts: Mapping[TaskState, int]) -> int:
    return sum(counts.get(state, 0) for state in OVER)


def _waits_outside(db: sqlite3.Connection, plan: int) -> bool:
    """Whether a task of the plan waits for one outside of it that may still be done."""
    row = db.execute(
        "SELECT 1 FROM tasks t JOIN dependencies d ON d.task = t.seq"  # noqa: S608 - our words
        " JOIN tasks n ON n.seq = d.needs"
        f" WHERE t.plan = ? AND t.state = 'queued' AND d.met = 0 AND n.{_LIVE}"
        " AND n.plan IS NOT t.plan LIMIT 1",
        (plan,),
    ).fetchone()
    return row is not None
