"""What a report leaves beside the task's state: its tip, a question, a review's verdict."""

from __future__ import annotations

import sqlite3

from swarm.core.model import Outcome, RemarkKind, TaskKind, TaskResult, TaskState
from swarm.core.retry import reason_of
from swarm.ledger.intake import one_line
from swarm.ledger.landing import judged, send_back
from swarm.ledger.moves import tell
from swarm.ledger.outcomes import Becomes, Case, is_commit
from swarm.ledger.records import Way
from swarm.ledger.remarks import add_remark
from swarm.ledger.verdicts import read_judgement
from swarm.wire.lifeline import Finished

MAX_FILE = 200
"""Characters of a file's name in what the next attempt is told."""


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
        revisions=row["revisions"],
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
    Nor does one that left a conflict: what was good before it is what the next one goes on from.
    """
    if to.retry:
        db.execute("UPDATE tasks SET retries = retries + 1 WHERE seq = ?", (row["seq"],))
    if to.sent_back:
        add_remark(db, row, RemarkKind.CONFLICT, _left(finished), now)
        return
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


def moved(
    db: sqlite3.Connection,
    row: sqlite3.Row,
    finished: Finished,
    to: Becomes,
    way: Way,
    now: float,
) -> None:
    """What comes of the report, told after it: another round, or an event of the new state."""
    if to.sent_back:
        send_back(db, row, way, now)
    elif to.state != row["state"]:
        tell(db, now, row["seq"], to.state, detail(finished, to.state))


def _left(finished: Finished) -> str:
    """What the next attempt has to know of a conflict that was left, and of what was made of it."""
    names = ", ".join(one_line(name, MAX_FILE) for name in finished.unresolved)
    hint = "a line of just seven `=` is taken for a marker too: underline a heading with more"
    lines = [f"a conflict or its markers were left in {names} ({hint})"]
    if finished.aside is not None and is_commit(finished.aside):
        lines.append(
            f"What was made of it is beside the branch, as commit {finished.aside}: where your"
            f" clone has it, `git show {finished.aside}:FILE` shows a file to take over from."
        )
    return "\n".join(lines)


def detail(finished: Finished, state: TaskState) -> str:
    """What the event of a state says: the commit, or why."""
    if state in {TaskState.REVIEW, TaskState.LANDING}:
        return finished.commit or ""
    return finished.reason[:500]
