"""What a report leaves beside the task's state: its tip, a question, a review's verdict."""

from __future__ import annotations

import sqlite3

from swarm.core.model import Outcome, RemarkKind, TaskKind, TaskResult, TaskState
from swarm.core.retry import reason_of
from swarm.ledger.landing import judged
from swarm.ledger.outcomes import Becomes, Case
from swarm.ledger.records import Way
from swarm.ledger.remarks import add_remark
from swarm.ledger.verdicts import read_judgement
from swarm.wire.lifeline import Finished


def case_of(row: sqlite3.Row, finished: Finished, way: Way) -> Case:
    """What decides, beside the report itself, what the task in ``row`` becomes."""
    kind = TaskKind(row["kind"])
    return Case(
        kind=kind,
        foreign=str(row["agent"]).startswith("@"),
        approved=row["approved"],
        way=way,
        judgement=read_judgement(finished) if kind is TaskKind.REVIEW else None,
        retries=row["retries"],
    )


def why(finished: Finished, to: Becomes, case: Case) -> str:
    """The reason beside the task's new state."""
    if to.retry:
        return reason_of(case.retries + 1, case.way.retries, finished.reason)
    if case.kind is TaskKind.REVIEW and to.state is TaskState.FAILED:
        unread = finished.outcome is Outcome.SUCCEEDED
        return "its answer holds no verdict that can be read" if unread else finished.reason
    return finished.reason


def reported(
    db: sqlite3.Connection,
    row: sqlite3.Row,
    finished: Finished,
    to: Becomes,
    case: Case,
    now: float,
) -> None:
    """The task in ``row`` has become what ``to`` says.

    Only work that succeeded is remembered as ``tip``: what failed has none, so nothing can land
    it.  An interrupted attempt changes nothing: the next one is still told why the task came back.
    """
    if to.retry:
        db.execute("UPDATE tasks SET retries = retries + 1 WHERE seq = ?", (row["seq"],))
    if to.state is TaskState.QUEUED:
        return
    good = to.state in {TaskState.REVIEW, TaskState.LANDING} or to.result is TaskResult.BRANCH
    db.execute(
        "UPDATE tasks SET tip = ?, go_on = 0, approved = CASE WHEN ? THEN approved END"
        " WHERE seq = ?",
        (finished.commit if good else None, good, row["seq"]),
    )
    if to.state is TaskState.NEEDS_HUMAN:
        asked = finished.reason or f"the session ended: {finished.outcome}"
        add_remark(db, row, RemarkKind.QUESTION, asked, now, author=row["agent"])
    if case.kind is TaskKind.REVIEW and to.state is TaskState.DONE and case.judgement is not None:
        judged(db, row, case.judgement, case.way, now)


def detail(finished: Finished, state: TaskState) -> str:
    """What the event of a state says: the commit, or why."""
    if state in {TaskState.REVIEW, TaskState.LANDING}:
        return finished.commit or ""
    return finished.reason[:500]
