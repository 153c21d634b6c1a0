"""Landing, review and people's decisions in the SQLite ledger.

Each move is one transaction that first looks whether the task is still where whoever asks believes
it to be: state and ``tip``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from swarm.core.model import RemarkKind, TaskResult, TaskState
from swarm.errors import UsageError
from swarm.ledger import dependents
from swarm.ledger.database import Database
from swarm.ledger.inserting import cleaned, insert
from swarm.ledger.intake import one_line, plain
from swarm.ledger.moves import add_event, merged, settle_state, tell
from swarm.ledger.outcomes import Becomes, after_remark
from swarm.ledger.queries import Clock, task_of
from swarm.ledger.records import ACCEPT, Judgement, NewTask, Remark, Task, Way
from swarm.ledger.remarks import MAX_QUESTION, add_remark, everything, remarks_on
from swarm.ledger.rows import asked_for, known_row, row_of

MIN_COMMIT = 7
"""Hex digits of a commit that a person names, at least."""
_BETWEEN = (TaskState.REVIEW, TaskState.LANDING)
_MOVED = {
    TaskState.REVIEW: "it was to be reviewed",
    TaskState.NEEDS_HUMAN: "a person was asked",
    TaskState.DONE: "it was to stay a branch",
}
"""What had become of a task whose reason does not say it."""


class Landings:
    """See :class:`~swarm.ledger.landing_calls.LandingCalls`."""

    _database: Database
    _clock: Clock

    # -- questions

    def landing_queue(self) -> list[Task]:
        """See the interface."""
        return self._between(TaskState.LANDING)

    def in_review(self) -> list[Task]:
        """See the interface."""
        return self._between(TaskState.REVIEW)

    def _between(self, state: TaskState) -> list[Task]:
        with self._database.reading() as db:
            rows = db.execute(
                "SELECT * FROM tasks INDEXED BY tasks_landing"
                " WHERE state IN ('landing', 'review') AND state = ? ORDER BY priority DESC, seq",
                (state.value,),
            ).fetchall()
        return [task_of(row) for row in rows]

    def remarks(self, task: str) -> list[Remark]:
        """See the interface."""
        with self._database.reading() as db:
            row = row_of(db, task)
            return [] if row is None else remarks_on(db, row["seq"])

    def reviews(self, task: str) -> list[Task]:
        """See the interface."""
        with self._database.reading() as db:
            rows = db.execute(
                "SELECT * FROM tasks WHERE about = (SELECT seq FROM tasks WHERE id = ?)"
                " AND kind = 'review' ORDER BY seq",
                (task,),
            ).fetchall()
        return [task_of(row) for row in rows]

    # -- moves of the landing queue

    def ask_review(self, new: NewTask) -> str | None:
        """See the interface."""
        clean, now = cleaned(new), self._clock()
        with self._database.writing() as db:
            row = row_of(db, new.about)
            if row is None or row["state"] != TaskState.REVIEW or row["tip"] != new.about_commit:
                return None
            lives = db.execute(
                "SELECT 1 FROM tasks WHERE about = ? AND kind = 'review' AND about_commit = ?"
                " AND state IN ('queued', 'running', 'needs_human')",
                (row["seq"], new.about_commit),
            ).fetchone()
            if lives is not None:
                return None
            task, seq = insert(db, clean, 0, now)
            add_event(db, now, seq, "submitted")
            return task

    def landed(self, task: str, tip: str, commit: str, *, noop: bool = False) -> TaskState | None:
        """See the interface."""
        now = self._clock()
        with self._database.writing() as db:
            row = row_of(db, task)
            if row is None or not _may_have_landed(row, tip):
                return None
            seq, state = row["seq"], TaskState(row["state"])
            clear_doubt(db, seq, tip)
            if row["result"] in {TaskResult.MERGED, TaskResult.NOOP}:
                return None
            db.execute("UPDATE tasks SET landed = ? WHERE seq = ?", (commit, seq))
            kind = "done" if noop else "merged"
            add_event(db, now, seq, kind, row["agent"], row["fence"], commit)
            if row["tip"] != tip or state in {TaskState.QUEUED, TaskState.RUNNING}:
                return state  # somebody wants more of it, and it is at work again
            settle_state(db, seq, merged(noop), _too_late(row), now)
            drop_reviews(db, seq, now)
            dependents.ended(db, seq, TaskState.DONE, now)
        return TaskState.DONE

    def in_doubt(self) -> list[Task]:
        """See the interface."""
        with self._database.reading() as db:
            rows = db.execute(
                "SELECT * FROM tasks INDEXED BY tasks_in_doubt WHERE in_doubt IS NOT NULL"
                " ORDER BY seq"
            ).fetchall()
        return [task_of(row) for row in rows]

    def not_in_doubt(self, task: str, tip: str) -> None:
        """See the interface."""
        with self._database.writing() as db:
            row = row_of(db, task)
            if row is not None:
                clear_doubt(db, row["seq"], tip)

    def not_landed(self, task: str, tip: str, reason: str) -> bool:
        """See the interface."""
        with self._database.writing() as db:
            row = _at(db, task, tip, (TaskState.LANDING,))
            if row is None:
                return False
            db.execute(
                "UPDATE tasks SET reason = ? WHERE seq = ?",
                (one_line(reason, MAX_QUESTION), row["seq"]),
            )
        return True

    def stays_branch(self, task: str, tip: str) -> bool:
        """See the interface."""
        now = self._clock()
        with self._database.writing() as db:
            row = _at(db, task, tip, _BETWEEN)
            if row is None:
                return False
            to = Becomes(TaskState.DONE, TaskResult.BRANCH)
            doubt(db, row)
            settle_state(db, row["seq"], to, "", now)
            add_event(db, now, row["seq"], "done", row["agent"], row["fence"], "branch")
            dependents.ended(db, row["seq"], TaskState.DONE, now)
        return True

    def back_to_review(self, task: str, tip: str) -> bool:
        """See the interface."""
        now = self._clock()
        with self._database.writing() as db:
            row = _at(db, task, tip, (TaskState.LANDING,))
            if row is None:
                return False
            doubt(db, row)
            settle_state(db, row["seq"], Becomes(TaskState.REVIEW), "", now)
            tell(db, now, row["seq"], TaskState.REVIEW, tip)
        return True

    def sent_back(
        self, task: str, tip: str, kind: RemarkKind, text: str, way: Way
    ) -> TaskState | None:
        """See the interface."""
        now = self._clock()
        with self._database.writing() as db:
            row = _at(db, task, tip, (TaskState.LANDING,))
            if row is None:
                return None
            add_remark(db, row, kind, text, now)
            return send_back(db, row, way, now)

    def needs_person(self, task: str, tip: str, question: str) -> bool:
        """See the interface."""
        now = self._clock()
        with self._database.writing() as db:
            row = _at(db, task, tip, _BETWEEN)
            if row is None:
                return False
            add_remark(db, row, RemarkKind.QUESTION, question, now)
            reason = plain(question, MAX_QUESTION)
            settle_state(db, row["seq"], Becomes(TaskState.NEEDS_HUMAN), reason, now)
            drop_reviews(db, row["seq"], now)
            tell(db, now, row["seq"], TaskState.NEEDS_HUMAN, reason)
        return True

    # -- people's moves

    def approve(self, task: str, commit: str | None, by: str, text: str = "") -> Task:
        """See the interface."""
        now = self._clock()
        with self._database.writing() as db:
            row = asked_for(db, task)
            tip = _waits_for_a_person(row, commit)
            add_remark(db, row, RemarkKind.APPROVAL, text, now, author=by, verdict=ACCEPT)
            _approved(db, row, tip, now, by)
            if row["state"] == TaskState.NEEDS_HUMAN:
                db.execute("UPDATE tasks SET revisions = 0 WHERE seq = ?", (row["seq"],))
            return task_of(known_row(db, task))

    def reject(
        self, task: str, by: str, text: str, *, commit: str | None = None, final: bool = False
    ) -> Task:
        """See the interface.  A person's word begins a new count of revisions."""
        now = self._clock()
        with self._database.writing() as db:
            row = asked_for(db, task)
            if not text.strip():
                raise UsageError("no reason was given", "say what is wrong with it")
            if row["state"] != TaskState.NEEDS_HUMAN or commit is not None:
                _waits_for_a_person(row, commit)
            add_remark(db, row, RemarkKind.REJECTION, text, now, author=by)
            add_event(db, now, row["seq"], "rejected", detail=one_line(text, 200))
            drop_reviews(db, row["seq"], now)
            if final:
                reason = f"rejected: {one_line(text, 1000)}"
                settle_state(db, row["seq"], Becomes(TaskState.FAILED), reason, now)
                tell(db, now, row["seq"], TaskState.FAILED, reason)
                dependents.ended(db, row["seq"], TaskState.FAILED, now)
            else:
                _goes_on(db, row, 1, f"rejected: {one_line(text, 200)}", now)
            return task_of(known_row(db, task))

    def answer(self, task: str, text: str, by: str) -> Task:
        """See the interface.  A person's word begins a new count of revisions."""
        now = self._clock()
        with self._database.writing() as db:
            row = asked_for(db, task)
            if row["state"] != TaskState.NEEDS_HUMAN:
                raise UsageError(f"{task} is {row['state']}: it asks nothing", _show(task))
            if not text.strip():
                raise UsageError("the answer is empty", "say what it should do")
            add_remark(db, row, RemarkKind.ANSWER, text, now, author=by)
            add_event(db, now, row["seq"], "answered", detail=one_line(text, 200))
            _goes_on(db, row, 0, "", now)
            return task_of(known_row(db, task))


# -- what several moves share; each belongs inside its caller's transaction


def send_back(db: sqlite3.Connection, row: sqlite3.Row, way: Way, now: float) -> TaskState:
    """A remark asks for another attempt: it is queued again, or a person decides."""
    state = after_remark(row["revisions"], way)
    said = remarks_on(db, row["seq"])
    last = one_line(said[-1].text, 200) if said else ""
    drop_reviews(db, row["seq"], now)
    if state is TaskState.QUEUED:
        add_event(db, now, row["seq"], "sent_back", row["agent"], row["fence"], last)
        _goes_on(db, row, row["revisions"] + 1, f"sent back: {last}", now)
        return state
    count = row["revisions"]
    times = f"sent back {count} time{'s' * (count != 1)}" if count else "not to be sent back"
    question = everything(f"{times}, and still not landed. What was said:", said)
    settle_state(db, row["seq"], Becomes(TaskState.NEEDS_HUMAN), question, now)
    tell(db, now, row["seq"], TaskState.NEEDS_HUMAN, question)
    return state


def judged(
    db: sqlite3.Connection, review: sqlite3.Row, judgement: Judgement, way: Way, now: float
) -> None:
    """A review has its verdict: it moves the task it is about, if that still waits for it.

    Accepted, the commit it was about is approved and no other; else the task is sent back.
    """
    row = db.execute("SELECT * FROM tasks WHERE seq = ?", (review["about"],)).fetchone()
    waits = row is not None and row["state"] == TaskState.REVIEW
    if not waits or row["tip"] is None or row["tip"] != review["about_commit"]:
        return
    add_remark(
        db,
        row,
        RemarkKind.REVIEW,
        judgement.text or judgement.verdict,
        now,
        author=review["agent"],
        verdict=judgement.verdict,
        counts=judgement.counts,
    )
    if judgement.accepts:
        _approved(db, row, row["tip"], now, review["agent"])
    else:
        send_back(db, row, way, now)


def doubt(db: sqlite3.Connection, row: sqlite3.Row) -> None:
    """The task in ``row`` is about to leave ``landing`` by somebody's word, not by a verdict.

    Its lander may have been killed after the target had moved: only git knows (ADR 22).
    """
    if row["state"] == TaskState.LANDING:
        db.execute("UPDATE tasks SET in_doubt = tip WHERE seq = ?", (row["seq"],))


def clear_doubt(db: sqlite3.Connection, seq: int, tip: str) -> None:
    """What became of ``tip`` is known."""
    db.execute("UPDATE tasks SET in_doubt = NULL WHERE seq = ? AND in_doubt = ?", (seq, tip))


def drop_reviews(db: sqlite3.Connection, seq: int, now: float) -> None:
    """Task number ``seq`` has moved on: nobody waits for a review of it any more."""
    rows = db.execute(
        "SELECT * FROM tasks WHERE about = ? AND kind = 'review'"
        " AND state IN ('queued', 'running', 'needs_human')",
        (seq,),
    ).fetchall()
    for row in rows:
        reason = "what it was about has moved on"
        settle_state(db, row["seq"], Becomes(TaskState.CANCELLED), reason, now)
        add_event(db, now, row["seq"], "cancelled", row["agent"], row["fence"], reason)
        dependents.ended(db, row["seq"], TaskState.CANCELLED, now)


def _at(
    db: sqlite3.Connection, task: str, tip: str, states: Sequence[TaskState]
) -> sqlite3.Row | None:
    """The task's row, if it is in one of ``states`` with this very commit."""
    row = row_of(db, task)
    if row is None or row["state"] not in states or row["tip"] != tip:
        return None
    return row


def _may_have_landed(row: sqlite3.Row, tip: str) -> bool:
    """Whether this very commit was given to the lander, and is not settled yet."""
    at_it = row["state"] in {TaskState.LANDING, TaskState.CANCELLED} and row["tip"] == tip
    return at_it or bool(row["in_doubt"] == tip)


def _too_late(row: sqlite3.Row) -> str:
    """Why a task is merged that was something else; empty for one that was landing."""
    state = TaskState(row["state"])
    if state is TaskState.LANDING:
        return ""
    was = _MOVED.get(state) or one_line(row["reason"], 200) or state.value
    return f"{was}, but its commits had landed by then"


def _waits_for_a_person(row: sqlite3.Row, commit: str | None) -> str:
    """The commit that may be approved; raises :class:`~swarm.errors.UsageError`."""
    task, tip = row["id"], row["tip"]
    if row["state"] not in {TaskState.REVIEW, TaskState.NEEDS_HUMAN} or tip is None:
        raise UsageError(f"{task} is {row['state']}: nothing of it waits for approval", _show(task))
    if commit is not None and not _means(commit, tip):
        raise UsageError(
            f"{task} is at {tip[:12]} now, not at {one_line(commit, 40)!r}",
            f"look at what it is now: agentctl task diff {task}",
        )
    return str(tip)


def _means(commit: str, tip: str) -> bool:
    return len(commit) >= MIN_COMMIT and tip.startswith(commit.lower())


def _approved(db: sqlite3.Connection, row: sqlite3.Row, tip: str, now: float, by: str) -> None:
    db.execute("UPDATE tasks SET approved = ? WHERE seq = ?", (tip, row["seq"]))
    settle_state(db, row["seq"], Becomes(TaskState.LANDING), "", now)
    add_event(db, now, row["seq"], "approved", one_line(by, 80), row["fence"], tip)
    tell(db, now, row["seq"], TaskState.LANDING, tip)
    drop_reviews(db, row["seq"], now)


def _goes_on(
    db: sqlite3.Connection, row: sqlite3.Row, revisions: int, reason: str, now: float
) -> None:
    """Queued again with what was said, and with its last session where that can be resumed."""
    settle_state(db, row["seq"], Becomes(TaskState.QUEUED), reason, now)
    db.execute(
        "UPDATE tasks SET go_on = 1, approved = NULL, lost = 0, retries = 0, revisions = ?"
        " WHERE seq = ?",
        (revisions, row["seq"]),
    )


def _show(task: str) -> str:
    return f"see `agentctl task show {task}`"
