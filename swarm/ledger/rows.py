"""Statements several ledger calls share; each belongs inside its caller's transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence

from swarm.core.budget import Amount, Number
from swarm.core.model import Outcome, TaskState, Usage
from swarm.errors import LedgerError, UsageError
from swarm.ledger.intake import new_id, one_line
from swarm.ledger.outcomes import resumable
from swarm.ledger.schema import EVER
from swarm.wire.lifeline import Finished

GOES_ON, TOLD_ONLY = 1, 2
"""``tasks.go_on``: the next attempt is told what was said; it also goes on with the last session,
or begins a new one."""


def row_of(db: sqlite3.Connection, task: str) -> sqlite3.Row | None:
    """The row of a task, if there is one."""
    row: sqlite3.Row | None = db.execute("SELECT * FROM tasks WHERE id = ?", (task,)).fetchone()
    return row


def ahead_of(db: sqlite3.Connection, row: sqlite3.Row) -> int:
    """How many tasks land before this one; 0 for one that is not to land.

    Each repository lands its tasks one after the other, in the order of the landing queue.
    """
    if row["state"] != TaskState.LANDING:
        return 0
    (count,) = db.execute(
        "SELECT count(*) FROM tasks INDEXED BY tasks_state WHERE state = 'landing'"
        " AND repo IS ? AND (-priority, seq) < (?, ?)",
        (row["repo"], -row["priority"], row["seq"]),
    ).fetchone()
    return int(count)


def known_row(db: sqlite3.Connection, task: str) -> sqlite3.Row:
    """The row of a task that is known to be there."""
    row = row_of(db, task)
    assert row is not None, f"{task} vanished inside a transaction"
    return row


def asked_for(db: sqlite3.Connection, task: str) -> sqlite3.Row:
    """The row of a task a person named; raises :class:`~swarm.errors.UsageError`."""
    row = row_of(db, task)
    if row is None:
        raise UsageError(
            f"there is no task {' '.join(task.split())[:40]!r}", "see `agentctl task list`"
        )
    return row


def attempt_row(db: sqlite3.Connection, seq: int, fence: int) -> sqlite3.Row | None:
    """The attempt made under a fence, if it began."""
    row: sqlite3.Row | None = db.execute(
        "SELECT * FROM attempts WHERE task = ? AND fence = ?", (seq, fence)
    ).fetchone()
    return row


def free_id(db: sqlite3.Connection) -> str:
    """A random id no task has."""
    for _ in range(20):
        task = new_id()
        if db.execute("SELECT 1 FROM tasks WHERE id = ?", (task,)).fetchone() is None:
            return task
    raise LedgerError("twenty random task ids were all taken", "try again")


def needed(db: sqlite3.Connection, task: str) -> tuple[int, bool]:
    """Sequence number of a task to wait for, and whether it is done; raises ``UsageError``."""
    row = db.execute("SELECT seq, state FROM tasks WHERE id = ?", (task,)).fetchone()
    if row is None:
        raise UsageError(
            f"there is no task {' '.join(task.split())[:40]!r} to wait for",
            "give --after an id that `agentctl task list` shows",
        )
    return int(row["seq"]), row["state"] == TaskState.DONE


def queue_for(db: sqlite3.Connection, role: str, lane: str, labels: Mapping[str, str]) -> int:
    """Number of the queue for what such a task needs; made when it is the first."""
    key = (role, lane, labels_json(labels))
    db.execute("INSERT OR IGNORE INTO queues (role, lane, labels) VALUES (?, ?, ?)", key)
    row = db.execute("SELECT id FROM queues WHERE role = ? AND lane = ? AND labels = ?", key)
    return int(row.fetchone()[0])


def queues_with(db: sqlite3.Connection, labels: Mapping[str, str]) -> list[int]:
    """Numbers of all queues whose tasks have these labels, among others."""
    wanted = labels.items()
    rows = db.execute("SELECT id, labels FROM queues WHERE labels <> '{}'")
    return [int(row["id"]) for row in rows if wanted <= json.loads(row["labels"]).items()]


def labels_json(labels: Mapping[str, str]) -> str:
    """Labels as the ledger keeps them: the same labels are the same text."""
    return json.dumps(dict(sorted(labels.items())), separators=(",", ":"), ensure_ascii=False)


def record_usage(
    db: sqlite3.Connection,
    seq: int,
    fence: int,
    usage: Usage,
    cost_usd: float | None,
    session_id: str | None,
    day: int,
) -> None:
    """What is not known now leaves standing what was known before; what is more counts today."""
    before = attempt_row(db, seq, fence)
    if before is None:
        return
    db.execute(
        "UPDATE attempts SET input_tokens = coalesce(?, input_tokens),"
        " output_tokens = coalesce(?, output_tokens),"
        " cache_read_tokens = coalesce(?, cache_read_tokens),"
        " cache_write_tokens = coalesce(?, cache_write_tokens),"
        " cost_usd = coalesce(?, cost_usd), session_id = coalesce(?, session_id)"
        " WHERE task = ? AND fence = ?",
        (
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_read_tokens,
            usage.cache_write_tokens,
            cost_usd,
            session_id,
            seq,
            fence,
        ),
    )
    after = attempt_row(db, seq, fence)
    if after is not None:
        recount(db, str(before["agent"]), counted(before), counted(after), day)


def known(row: sqlite3.Row) -> Amount:
    """What an attempt said that it used."""
    return Amount(Usage(row["input_tokens"], row["output_tokens"]).tokens, row["cost_usd"])


def estimate(row: sqlite3.Row) -> Amount:
    """What it is taken to have spent where it does not say."""
    return Amount(row["estimate_tokens"], row["estimate_usd"])


def counted(row: sqlite3.Row) -> Amount:
    """What it counts for."""
    return known(row).or_else(estimate(row))


def recount(db: sqlite3.Connection, agent: str, before: Amount, after: Amount, day: int) -> None:
    """An attempt of ``agent`` counts for something else now: the totals follow.

    The only place that changes them, so that they are at any time the sum over the attempts.
    """
    tokens = _more(before.tokens, after.tokens)
    usd = _more(before.usd, after.usd)
    if tokens is None and usd is None:
        return
    for window in (EVER, day):
        db.execute(
            "INSERT INTO spending (day, agent, tokens, usd) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (day, agent) DO UPDATE SET"
            " tokens = coalesce(tokens + excluded.tokens, tokens, excluded.tokens),"
            " usd = coalesce(usd + excluded.usd, usd, excluded.usd)",
            (window, agent, tokens, usd),
        )


def _more(before: Number | None, after: Number | None) -> Number | None:
    """The difference, ``None`` when there is none."""
    if after is None or after == before:
        return None
    return after if before is None else after - before


def commits_json(finished: Finished, commits: Sequence[str] | None) -> str | None:
    """What is known of the commits on the branch, as JSON; ``None`` leaves what was known."""
    if commits is not None:
        return json.dumps(list(commits))
    if finished.commits == 1 and finished.commit:
        return json.dumps([finished.commit])
    return None if finished.commits else "[]"


def session_to_resume(
    attempts: Sequence[sqlite3.Row], agent_id: str, *, go_on: bool = False
) -> str | None:
    """Only the last attempt's, and only in the workspace it ran in (rules, "Outcomes").

    One that was interrupted; with ``go_on`` any: the task was sent back, or answered.

    A workspace lives as long as its identity; one made anew may have the same name again.
    """
    if not attempts or attempts[0]["agent_id"] != agent_id or not attempts[0]["outcome"]:
        return None
    session = attempts[0]["session_id"]
    again = go_on or resumable(Outcome(attempts[0]["outcome"]))
    return str(session) if session and again else None


def holder_of_session(db: sqlite3.Connection, task: str) -> str:
    """Agent id of who can go on with the task's last session; empty for nobody."""
    last = db.execute(
        "SELECT a.agent_id, a.outcome, a.session_id, t.go_on FROM attempts a"
        " JOIN tasks t ON t.seq = a.task WHERE t.id = ? ORDER BY a.n DESC LIMIT 1",
        (task,),
    ).fetchall()
    agent_id = str(last[0]["agent_id"]) if last else ""
    goes_on = bool(last) and last[0]["go_on"] == GOES_ON
    return agent_id if session_to_resume(last, agent_id, go_on=goes_on) else ""


def in_words(attempt: sqlite3.Row) -> str:
    """One line about an earlier attempt, for whoever goes on."""
    said = f"attempt {attempt['n']} by {attempt['agent']}: {attempt['outcome'] or 'not ended'}"
    return one_line(f"{said}: {attempt['reason']}" if attempt["reason"] else said, 300)
