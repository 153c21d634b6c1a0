"""What the end of a task means for the tasks that wait for it.

Each call belongs inside the transaction that ends the task, so that nothing ever waits for what is
over: whoever reads the ledger next sees the task ended *and* its dependents free, skipped or held.
Everything walks the graph by a queue of its own, never by recursion: a chain of ten thousand tasks
is one loop.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterable

from swarm.core.model import ENDED_BADLY, OVER, OnFailed, TaskState
from swarm.ledger.moves import add_event

_BADLY = ", ".join(f"'{state.value}'" for state in sorted(ENDED_BADLY))
_OVER = ", ".join(f"'{state.value}'" for state in sorted(OVER))
_ENDED_BADLY = (
    "SELECT n.seq, n.id, n.state FROM dependencies d"  # noqa: S608 - our own words
    " JOIN tasks n ON n.seq = d.needs"
    f" WHERE d.task = ? AND d.met = 0 AND n.state IN ({_BADLY}) ORDER BY n.seq"
)
"""What a task waits for in vain."""


def ended(db: sqlite3.Connection, seq: int, state: TaskState, now: float) -> None:
    """Task number ``seq`` has become ``state`` at ``now`` (Unix seconds): its dependents follow.

    ``done`` releases them; any other final state does with each what its ``on_failed`` says:
    ``skip`` ends it as ``skipped``, and so on to its own dependents; ``run`` releases it; ``hold``
    leaves it waiting.  A state that is not final changes nothing.  Said twice it is said once.
    """
    if state not in OVER:
        return
    over = deque([(seq, state)])
    plans = dict.fromkeys(_plan_of(db, seq))
    while over:
        cause, became = over.popleft()
        if became is TaskState.DONE:
            revived(db, cause, now)  # a report may come after it was given up for lost
            release(db, cause, now)
            continue
        for task in _follow(db, cause, became, now):
            over.append((task, TaskState.SKIPPED))
            plans.update(dict.fromkeys(_plan_of(db, task)))
    for plan in plans:
        _close(db, plan, seq, now)


def release(db: sqlite3.Connection, seq: int, now: float) -> None:
    """Every task that waits for number ``seq`` waits for it no more.

    Once met, a dependency stays met: a retry of a done task takes nothing back.
    """
    rows = db.execute(
        "SELECT task FROM dependencies INDEXED BY dependencies_needs WHERE needs = ? AND met = 0",
        (seq,),
    ).fetchall()
    _met(db, [int(row["task"]) for row in rows], seq, now)


def reconsider(db: sqlite3.Connection, seq: int, now: float, *, skip: bool = True) -> None:
    """A queued task with dependencies that ended before: do with it what ``on_failed`` says.

    For one that is new, was queued again, or was changed.  Without ``skip`` it is held where it
    would be skipped: a person has just asked for it.
    """
    row = db.execute("SELECT state, on_failed FROM tasks WHERE seq = ?", (seq,)).fetchone()
    if row["state"] != TaskState.QUEUED:
        return
    causes = db.execute(_ENDED_BADLY, (seq,)).fetchall()
    if row["on_failed"] == OnFailed.RUN:
        for cause in causes:
            _met(db, [seq], cause["seq"], now)
    elif row["on_failed"] == OnFailed.SKIP and causes and skip:
        _skip(db, seq, causes[0], now)
        ended(db, seq, TaskState.SKIPPED, now)


def revived(db: sqlite3.Connection, seq: int, now: float) -> None:
    """Task number ``seq`` failed no more: what was skipped because of it waits again."""
    back = deque([seq])
    own = db.execute("SELECT state FROM tasks WHERE seq = ?", (seq,)).fetchone()["state"]
    reopened = list(_plan_of(db, seq)) if own == TaskState.QUEUED else []
    while back:
        cause = back.popleft()
        rows = db.execute(
            "SELECT t.seq, t.id FROM dependencies d INDEXED BY dependencies_needs"
            " JOIN tasks t ON t.seq = d.task"
            " WHERE d.needs = ? AND d.met = 0 AND d.skipped = 1 AND t.state = 'skipped'",
            (cause,),
        ).fetchall()
        for row in rows:
            db.execute("UPDATE dependencies SET skipped = 0 WHERE task = ?", (row["seq"],))
            if (other := _other_cause(db, row["seq"])) is not None:
                _blame(db, row["seq"], other, now)
                continue
            db.execute(
                "UPDATE tasks SET state = 'queued', reason = '', ended_at = NULL, updated_at = ?"
                " WHERE seq = ?",
                (now, row["seq"]),
            )
            add_event(db, now, row["seq"], "revived")
            back.append(row["seq"])
            reopened += _plan_of(db, row["seq"])
    for plan in dict.fromkeys(reopened):
        db.execute("UPDATE plans SET ended_at = NULL WHERE seq = ?", (plan,))


def _follow(db: sqlite3.Connection, cause: int, became: TaskState, now: float) -> Iterable[int]:
    """Do with each waiting dependent what it wants done; the numbers of those now skipped."""
    rows = db.execute(
        "SELECT t.seq, t.on_failed FROM dependencies d INDEXED BY dependencies_needs"
        " JOIN tasks t ON t.seq = d.task"
        " WHERE d.needs = ? AND d.met = 0 AND t.state = 'queued' AND t.on_failed <> 'hold'"
        " ORDER BY t.seq",
        (cause,),
    ).fetchall()
    _met(db, [row["seq"] for row in rows if row["on_failed"] == OnFailed.RUN], cause, now)
    skipped = [int(row["seq"]) for row in rows if row["on_failed"] == OnFailed.SKIP]
    if skipped:
        why = db.execute("SELECT seq, id, state FROM tasks WHERE seq = ?", (cause,)).fetchone()
        for task in skipped:
            _skip(db, task, why, now, became)
    return skipped


def _met(db: sqlite3.Connection, tasks: Iterable[int], needs: int, now: float) -> None:
    for task in tasks:
        db.execute("UPDATE dependencies SET met = 1 WHERE task = ? AND needs = ?", (task, needs))
        (blocked, state) = db.execute(
            "UPDATE tasks SET blocked = blocked - 1, updated_at = ? WHERE seq = ?"
            " RETURNING blocked, state",
            (now, task),
        ).fetchone()
        if blocked == 0 and state == TaskState.QUEUED:
            add_event(db, now, task, "released")


def _skip(
    db: sqlite3.Connection,
    seq: int,
    cause: sqlite3.Row,
    now: float,
    became: TaskState | None = None,
) -> None:
    db.execute(
        "UPDATE tasks SET state = 'skipped', result = NULL, not_before = NULL, ended_at = ?"
        " WHERE seq = ?",
        (now, seq),
    )
    _blame(db, seq, cause, now, became)
    add_event(db, now, seq, "skipped", detail=str(cause["id"]))


def _blame(
    db: sqlite3.Connection,
    seq: int,
    cause: sqlite3.Row,
    now: float,
    became: TaskState | None = None,
) -> None:
    """Note because of which task it is skipped: that one's retry brings it back."""
    how = {TaskState.FAILED: "failed"}.get(
        became or TaskState(cause["state"]), f"was {became or cause['state']}"
    )
    db.execute(
        "UPDATE tasks SET reason = ?, updated_at = ? WHERE seq = ?",
        (f"skipped, as {cause['id']} {how}", now, seq),
    )
    db.execute(
        "UPDATE dependencies SET skipped = 1 WHERE task = ? AND needs = ?", (seq, cause["seq"])
    )


def _other_cause(db: sqlite3.Connection, seq: int) -> sqlite3.Row | None:
    """Another task that ended badly, for which this one would be skipped all the same."""
    row: sqlite3.Row | None = db.execute(_ENDED_BADLY, (seq,)).fetchone()
    return row


def _plan_of(db: sqlite3.Connection, seq: int) -> tuple[int, ...]:
    row = db.execute("SELECT plan FROM tasks WHERE seq = ?", (seq,)).fetchone()
    return () if row["plan"] is None else (int(row["plan"]),)


def _close(db: sqlite3.Connection, plan: int, seq: int, now: float) -> None:
    """Note the plan's end, once, when the last of its tasks has ended; ``seq`` was that."""
    live = db.execute(
        f"SELECT 1 FROM tasks WHERE plan = ? AND state NOT IN ({_OVER})"  # noqa: S608 - our words
        " ORDER BY seq DESC LIMIT 1",
        (plan,),
    ).fetchone()
    if live is not None:
        return
    closed = db.execute(
        "UPDATE plans SET ended_at = ? WHERE seq = ? AND ended_at IS NULL RETURNING id",
        (now, plan),
    ).fetchone()
    if closed is None:
        return
    counts = db.execute(
        "SELECT state, count(*) FROM tasks WHERE plan = ? GROUP BY state ORDER BY count(*) DESC",
        (plan,),
    ).fetchall()
    said = ", ".join(f"{row[1]} {row[0]}" for row in counts)
    add_event(db, now, seq, "plan", detail=f"{closed['id']} is over: {said}")
