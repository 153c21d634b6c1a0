"""The ledger in one SQLite file: short ``BEGIN IMMEDIATE`` transactions over WAL.

With ``synchronous = NORMAL`` a commit waits for no disk: a killed process loses nothing, a power
cut may lose the last moments but never tears the file.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from swarm.core.budget import DAY_SECONDS, NOTHING, Amount, over
from swarm.core.model import Outcome, TaskState, Usage, task_branch
from swarm.errors import UsageError
from swarm.ledger.database import Database
from swarm.ledger.intake import MAX_TITLE, check_budget, checked, one_line, plain
from swarm.ledger.interface import Claimed, Ledger, NewTask, Settlement, Task, Verdict
from swarm.ledger.outcomes import Becomes, after_loss, becomes
from swarm.ledger.queries import Clock, Queries, task_of
from swarm.ledger.rows import (
    asked_for,
    attempt_row,
    commits_json,
    free_id,
    in_words,
    known_row,
    labels_json,
    needed,
    queue_for,
    record_usage,
    recount,
    release_dependents,
    row_of,
    session_to_resume,
)
from swarm.wire.lifeline import Finished

MAX_REASON, MAX_ANSWER = 4000, 4000
"""Characters kept of what a report says."""
MAX_LAST_WORDS = 1500
"""Characters of what the last session said, for one that starts afresh."""
EARLIER_ATTEMPTS = 10
"""How many earlier attempts a holder is told of, the newest."""


def open_ledger(path: Path, patience: float | None = None) -> Ledger:
    """The ledger at ``path``, made when it is not there.

    ``patience`` is how many seconds a call waits for another process's transaction; five, if
    nothing is said.

    Raises :class:`~swarm.errors.LedgerError` for a file of another version, one that is no
    ledger, a full disk, missing permission.
    """
    return SqliteLedger(path, patience=patience)


class SqliteLedger(Queries):
    """:class:`~swarm.ledger.interface.Ledger` in the file ``path``; ``clock`` gives Unix seconds.

    Belongs to the thread that made it.  A call waits at most ``patience`` for another process.
    """

    def __init__(self, path: Path, clock: Clock = time.time, patience: float | None = None) -> None:
        super().__init__(Database(path, patience), clock)

    def close(self) -> None:
        """See the interface."""
        self._database.close()

    def __enter__(self) -> SqliteLedger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- intake

    def submit(self, new: NewTask) -> str:
        """See the interface."""
        titled = bool(one_line(new.title, MAX_TITLE))
        new = checked(new)
        with self._database.writing() as db:
            if new.sender:
                known = db.execute(
                    "SELECT id FROM tasks WHERE sender = ? AND sender_ref = ?",
                    (new.sender, new.sender_ref),
                ).fetchone()
                if known is not None:
                    return str(known[0])
            for other in (new.parent, new.about):
                if other:
                    asked_for(db, other)
            needs = [needed(db, task) for task in new.after]
            blocked = sum(not met for _, met in needs)
            task, seq = self._insert(db, new, titled=titled, blocked=blocked)
            db.execute("INSERT INTO prompts (task, text) VALUES (?, ?)", (seq, new.prompt))
            db.executemany(
                "INSERT INTO dependencies (task, needs, met) VALUES (?, ?, ?)",
                [(seq, on, met) for on, met in needs],
            )
            self._event(db, seq, "submitted", detail=new.sender)
        return task

    def _insert(
        self, db: sqlite3.Connection, new: NewTask, *, titled: bool, blocked: int
    ) -> tuple[str, int]:
        now = self._clock()
        values: dict[str, str | float | None] = {
            "id": free_id(db),
            "state": TaskState.QUEUED.value,
            "kind": new.kind.value,
            "role": new.role,
            "lane": new.lane,
            "labels": labels_json(new.labels),
            "queue": queue_for(db, new.role, new.lane, new.labels),
            "component": new.component,
            "title": new.title,
            "titled": titled,
            "priority": new.priority,
            "repo": new.repo,
            "blocked": blocked,
            "on_failed": new.on_failed.value,
            "review": None if new.review is None else new.review.value,
            "merge": None if new.merge is None else new.merge.value,
            "thread": new.thread,
            "parent": known_row(db, new.parent)["seq"] if new.parent else None,
            "folder": new.folder,
            "request_path": new.request_path or None,
            "request_sha256": new.request_sha256 or None,
            "response_path": new.response_path or None,
            "about": known_row(db, new.about)["seq"] if new.about else None,
            "about_commit": new.about_commit or None,
            "sender": new.sender or None,
            "sender_ref": new.sender_ref,
            "token_budget": new.budget.tokens,
            "usd_budget": new.budget.usd,
            "created_at": now,
            "updated_at": now,
        }
        columns, marks = ", ".join(values), ", ".join("?" * len(values))
        insert = f"INSERT INTO tasks ({columns}) VALUES ({marks})"  # noqa: S608 - our own names
        cursor = db.execute(insert, tuple(values.values()))
        return str(values["id"]), int(cursor.lastrowid or 0)

    # -- leases

    def claim(self, task: str, agent: str, agent_id: str, lease_seconds: float) -> Claimed | None:
        """See the interface."""
        now = self._clock()
        branch = task_branch(agent.removeprefix("@"), task)
        with self._database.writing() as db:
            changed = db.execute(
                "UPDATE tasks SET state = 'running', fence = fence + 1, agent = ?, agent_id = ?,"
                " held = 1, lease_seconds = ?, lease_until = ?, not_before = NULL, reason = '',"
                " branch = coalesce(branch, ?), updated_at = ?"
                " WHERE id = ? AND state = 'queued' AND blocked = 0 AND paused = 0"
                " AND (not_before IS NULL OR not_before <= ?)",
                (agent, agent_id, lease_seconds, now + lease_seconds, branch, now, task, now),
            )
            if changed.rowcount != 1:
                return None
            row = known_row(db, task)
            self._event(db, row["seq"], "claimed", agent, row["fence"])
            prompt = db.execute("SELECT text FROM prompts WHERE task = ?", (row["seq"],)).fetchone()
            attempts = db.execute(
                "SELECT n, agent, agent_id, outcome, reason, session_id FROM attempts"
                " WHERE task = ? ORDER BY n DESC LIMIT ?",
                (row["seq"], EARLIER_ATTEMPTS),
            ).fetchall()
        earlier = [in_words(attempt) for attempt in reversed(attempts)]
        resumes = session_to_resume(attempts, agent_id)
        if resumes is None and earlier and (said := one_line(row["answer"] or "", MAX_LAST_WORDS)):
            earlier.append(f"its last words: {said}")  # who resumes remembers them
        return Claimed(
            task=task_of(row),
            fence=row["fence"],
            attempt=attempts[0]["n"] + 1 if attempts else 1,
            prompt=str(prompt[0]),
            resume_session=resumes,
            earlier=tuple(earlier),
            spent=self.spent_on(task),
        )

    def begin(
        self, task: str, fence: int, agent: str, at: float, estimate: Amount = NOTHING
    ) -> int | None:
        """See the interface."""
        with self._database.writing() as db:
            row = row_of(db, task)
            if row is None or row["fence"] != fence or not row["held"]:
                return None
            attempt = attempt_row(db, row["seq"], fence)
            if attempt is not None:
                return int(attempt["n"])
            number = self._start_attempt(db, row, agent, at, estimate)
            self._event(db, row["seq"], "begun", agent, fence)
        return number

    def spent(
        self,
        task: str,
        fence: int,
        usage: Usage,
        cost_usd: float | None,
        session_id: str | None = None,
    ) -> bool:
        """See the interface."""
        with self._database.writing() as db:
            row = row_of(db, task)
            attempt = None if row is None else attempt_row(db, row["seq"], fence)
            if row is None or attempt is None or attempt["outcome"] is not None:
                return False
            record_usage(db, row["seq"], fence, usage, cost_usd, session_id, self._day())
        return True

    def spent_elsewhere(self, finished: Finished, agent: str, estimate: Amount = NOTHING) -> None:
        """See the interface."""
        usage = finished.usage
        with self._database.writing() as db:
            added = db.execute(
                "INSERT OR IGNORE INTO elsewhere (task, fence, agent, input_tokens, output_tokens,"
                " cost_usd, estimate_tokens, estimate_usd) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    finished.task,
                    finished.fence,
                    agent,
                    usage.input_tokens,
                    usage.output_tokens,
                    finished.cost_usd,
                    estimate.tokens,
                    estimate.usd,
                ),
            )
            if added.rowcount:
                after = Amount(usage.tokens, finished.cost_usd).or_else(estimate)
                recount(db, agent, NOTHING, after, self._day())

    def renew(self, task: str, fence: int) -> bool:
        """See the interface."""
        with self._database.writing() as db:
            changed = db.execute(
                "UPDATE tasks SET lease_until = ? + lease_seconds"
                " WHERE id = ? AND fence = ? AND held = 1",
                (self._clock(), task, fence),
            )
        return changed.rowcount == 1

    def finish(
        self,
        finished: Finished,
        agent: str,
        agent_id: str | None = None,
        commits: Sequence[str] | None = None,
    ) -> Settlement:
        """See the interface."""
        with self._database.writing() as db:
            row = row_of(db, finished.task)
            if row is None:
                return Settlement(Verdict.UNKNOWN)
            state = TaskState(row["state"])
            if finished.fence != row["fence"] or not row["agent"]:
                return Settlement(Verdict.STALE, state)
            if agent_id is not None and agent_id != row["agent_id"]:
                return Settlement(Verdict.NOT_HOLDER, state)
            attempt = attempt_row(db, row["seq"], finished.fence)
            if attempt is not None and attempt["reported"]:
                return Settlement(Verdict.DUPLICATE, state)
            if attempt is None:
                self._start_attempt(db, row, agent or row["agent"], at=None)
            elif attempt["counted"]:
                # It had been given up for lost, and was not: it must not count as poison.
                db.execute("UPDATE tasks SET lost = lost - 1 WHERE seq = ?", (row["seq"],))
            self._end_attempt(db, row["seq"], finished)
            state = self._move(db, row, finished, commits)
            self._event(db, row["seq"], "finished", agent, finished.fence, finished.outcome)
        return Settlement(Verdict.ACCEPTED, state)

    def _move(
        self,
        db: sqlite3.Connection,
        row: sqlite3.Row,
        finished: Finished,
        commits: Sequence[str] | None,
    ) -> TaskState:
        """The task's own row after an accepted report."""
        now = self._clock()
        state = TaskState(row["state"])
        listed = commits_json(finished, commits)
        db.execute(
            "UPDATE tasks SET held = 0, lease_until = NULL, updated_at = ?,"
            " commits = coalesce(?, commits), branch = coalesce(branch, ?) WHERE seq = ?",
            (now, listed, finished.branch, row["seq"]),
        )
        if state not in {TaskState.RUNNING, TaskState.QUEUED, TaskState.FAILED}:
            return state  # cancelled meanwhile: what it did is kept, what it is does not change
        to = becomes(finished, now)
        self._settle_state(db, row["seq"], to, plain(finished.reason, MAX_REASON), now)
        if answer := plain(finished.result, MAX_ANSWER):
            db.execute("UPDATE tasks SET answer = ? WHERE seq = ?", (answer, row["seq"]))
        if to.state is TaskState.DONE:
            release_dependents(db, row["seq"])
        return to.state

    def requeue(
        self,
        task: str,
        fence: int,
        reason: str,
        outcome: Outcome = Outcome.LOST,
        *,
        counts: bool = True,
    ) -> TaskState | None:
        """See the interface."""
        reason, now = plain(reason, MAX_REASON), self._clock()
        with self._database.writing() as db:
            row = row_of(db, task)
            if row is None or row["fence"] != fence or not row["held"]:
                return None
            cancelled = row["state"] != TaskState.RUNNING
            attempt = attempt_row(db, row["seq"], fence)
            counted = counts and outcome is Outcome.LOST and attempt is not None and not cancelled
            db.execute(
                "UPDATE attempts SET outcome = ?, reason = ?, ended_at = ?, counted = ?"
                " WHERE task = ? AND fence = ?",
                (
                    str(Outcome.CANCELLED if cancelled else outcome),
                    reason,
                    now,
                    counted,
                    row["seq"],
                    fence,
                ),
            )
            self._event(db, row["seq"], "requeued", row["agent"], fence, reason)
            db.execute(
                "UPDATE tasks SET held = 0, lease_until = NULL, lost = lost + ? WHERE seq = ?",
                (counted, row["seq"]),
            )
            if cancelled:
                return TaskState(row["state"])
            lost = row["lost"] + counted
            state = after_loss(lost) if counted else TaskState.QUEUED
            if state is TaskState.FAILED:
                reason = f"lost {lost} times, given up: {reason}"
            self._settle_state(db, row["seq"], Becomes(state), reason, now)
        return state

    def unclaim(
        self, task: str, fence: int, reason: str, retry_after: float = 0.0
    ) -> TaskState | None:
        """See the interface."""
        with self._database.writing() as db:
            row = row_of(db, task)
            if row is None or row["fence"] != fence or not row["agent"]:
                return None
            state = TaskState(row["state"])
            if not row["held"]:
                return state
            begun = attempt_row(db, row["seq"], fence) is not None
            if not begun and state is TaskState.RUNNING:
                now = self._clock()
                to = Becomes(TaskState.QUEUED, not_before=now + max(0.0, retry_after))
                self._settle_state(db, row["seq"], to, plain(reason, MAX_REASON), now)
                db.execute(
                    "UPDATE tasks SET held = 0, lease_until = NULL WHERE seq = ?", (row["seq"],)
                )
                self._event(db, row["seq"], "unclaimed", row["agent"], fence, reason[:MAX_REASON])
                return TaskState.QUEUED
        return self.requeue(task, fence, reason, counts=False)

    # -- orders

    def cancel(self, task: str) -> Task:
        """See the interface."""
        with self._database.writing() as db:
            row = asked_for(db, task)
            state = TaskState(row["state"])
            if state in {TaskState.DONE, TaskState.FAILED, TaskState.SKIPPED}:
                raise UsageError(f"{task} is {state} already", "there is nothing left to cancel")
            if state is not TaskState.CANCELLED:
                to = Becomes(TaskState.CANCELLED)
                self._settle_state(db, row["seq"], to, "cancelled", self._clock())
                self._event(db, row["seq"], "cancelled", row["agent"], row["fence"])
            return task_of(known_row(db, task))

    def give_up(self, task: str, reason: str) -> bool:
        """See the interface."""
        with self._database.writing() as db:
            row = row_of(db, task)
            if row is None or row["state"] != TaskState.QUEUED:
                return False
            failed = Becomes(TaskState.FAILED)
            self._settle_state(db, row["seq"], failed, plain(reason, MAX_REASON), self._clock())
            self._event(db, row["seq"], "given_up", detail=reason[:MAX_REASON])
        return True

    def retry(self, task: str, budget: Amount = NOTHING) -> Task:
        """See the interface.

        The fence grows, so that a report of an attempt from before is stale: a session that a
        cancel has not ended yet must not end the new life of its task.
        """
        with self._database.writing() as db:
            row = asked_for(db, task)
            state, now = TaskState(row["state"]), self._clock()
            if not state.ended:
                raise UsageError(f"{task} is {state}", "wait for its end, or cancel it first")
            self._new_budget(db, row, budget)
            db.execute(
                "UPDATE attempts SET outcome = 'cancelled', ended_at = ?, reason = ?"
                " WHERE task = ? AND outcome IS NULL",
                (now, "the task was queued again", row["seq"]),
            )
            db.execute(
                "UPDATE tasks SET held = 0, lease_until = NULL, lost = 0, answer = '',"
                " fence = fence + 1, agent = '', agent_id = '' WHERE seq = ?",
                (row["seq"],),
            )
            self._settle_state(db, row["seq"], Becomes(TaskState.QUEUED), "", now)
            self._event(db, row["seq"], "retried")
            return task_of(known_row(db, task))

    # -- what must survive a restart, and what people are told

    def pause(self, scope: str, reason: str, until: float | None = None) -> None:
        """See the interface."""
        with self._database.writing() as db:
            db.execute(
                "INSERT OR REPLACE INTO pauses (scope, reason, since, until) VALUES (?, ?, ?, ?)",
                (scope, plain(reason, MAX_REASON), self._clock(), until),
            )

    def resume(self, scope: str) -> None:
        """See the interface."""
        with self._database.writing() as db:
            db.execute("DELETE FROM pauses WHERE scope = ?", (scope,))

    def end_quota_waits(self) -> int:
        """See the interface."""
        with self._database.writing() as db:
            changed = db.execute(
                "UPDATE tasks INDEXED BY tasks_delayed SET not_before = NULL, updated_at = ?"
                " WHERE state = 'queued' AND not_before > ? AND EXISTS (SELECT 1 FROM attempts a"
                " WHERE a.task = tasks.seq AND a.fence = tasks.fence AND a.outcome = 'quota')",
                (self._clock(), self._clock()),
            )
        return changed.rowcount

    def hasten(self, seconds: float) -> int:
        """See the interface."""
        with self._database.writing() as db:
            changed = db.execute(
                "UPDATE tasks INDEXED BY tasks_delayed SET not_before = not_before - ?"
                " WHERE state = 'queued' AND not_before IS NOT NULL AND not_before > ?",
                (seconds, self._clock()),
            )
        return changed.rowcount

    def note(self, key: str, text: str) -> None:
        """See the interface."""
        with self._database.writing() as db:
            if text:
                db.execute(
                    "INSERT OR REPLACE INTO notes (key, text) VALUES (?, ?)",
                    (key, one_line(text, MAX_REASON)),
                )
            else:
                db.execute("DELETE FROM notes WHERE key = ?", (key,))

    # -- rows

    def _settle_state(
        self, db: sqlite3.Connection, seq: int, to: Becomes, reason: str, now: float
    ) -> None:
        db.execute(
            "UPDATE tasks SET state = ?, result = ?, reason = ?, not_before = ?, updated_at = ?,"
            " ended_at = ? WHERE seq = ?",
            (
                str(to.state),
                None if to.result is None else str(to.result),
                reason,
                to.not_before,
                now,
                now if to.state.ended else None,
                seq,
            ),
        )

    def _day(self) -> int:
        return int(self._clock() // DAY_SECONDS)

    def _new_budget(self, db: sqlite3.Connection, row: sqlite3.Row, budget: Amount) -> None:
        """Take the place of the old one; a task that cannot go on at all is refused here."""
        check_budget(budget)
        budget = budget.or_else(Amount(row["token_budget"], row["usd_budget"]))
        if spent := over(self.spent_on(row["id"]), budget, str(row["id"])):
            raise UsageError(spent, "give it more, with --token-budget or --usd-budget")
        db.execute(
            "UPDATE tasks SET token_budget = ?, usd_budget = ? WHERE seq = ?",
            (budget.tokens, budget.usd, row["seq"]),
        )

    def _start_attempt(
        self,
        db: sqlite3.Connection,
        row: sqlite3.Row,
        agent: str,
        at: float | None,
        estimate: Amount = NOTHING,
    ) -> int:
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
        recount(db, agent, NOTHING, estimate, self._day())
        return int(number)

    def _end_attempt(self, db: sqlite3.Connection, seq: int, finished: Finished) -> None:
        db.execute(
            "UPDATE attempts SET outcome = ?, reported = 1, counted = 0, reason = ?,"
            " exit_status = ?, base = ?, tip = ?, ended_at = ? WHERE task = ? AND fence = ?",
            (
                str(finished.outcome),
                plain(finished.reason, MAX_REASON),
                finished.exit_status,
                finished.start,
                finished.commit,
                self._clock(),
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
            self._day(),
        )

    def _event(
        self,
        db: sqlite3.Connection,
        seq: int,
        kind: str,
        agent: str = "",
        fence: int = 0,
        detail: str = "",
    ) -> None:
        db.execute(
            "INSERT INTO events (at, task, kind, agent, fence, detail) VALUES (?, ?, ?, ?, ?, ?)",
            (self._clock(), seq, kind, agent, fence, str(detail)),
        )
