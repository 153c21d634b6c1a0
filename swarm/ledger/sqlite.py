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

from swarm.core.budget import NOTHING, Amount
from swarm.core.model import Outcome, TaskState, Usage, is_outsider_id, task_branch
from swarm.core.retry import reason_of, wait_after_loss
from swarm.errors import UsageError
from swarm.ledger import dependents
from swarm.ledger.attempts import day_of, end_attempt, start_attempt
from swarm.ledger.database import Database
from swarm.ledger.editing import Editing
from swarm.ledger.handing import results_of
from swarm.ledger.history import BRANCH, History
from swarm.ledger.inserting import cleaned, insert, insert_needs
from swarm.ledger.intake import one_line, plain
from swarm.ledger.interface import Claimed, Ledger, NewTask, Settlement, Task, Verdict
from swarm.ledger.landing import Landings, doubt, drop_reviews
from swarm.ledger.lanes import Lanes
from swarm.ledger.moves import add_event, settle_state, tell
from swarm.ledger.notices import Notices
from swarm.ledger.outcomes import Becomes, after_loss, becomes
from swarm.ledger.pauses import Pauses
from swarm.ledger.plans import Plans, keep_made
from swarm.ledger.queries import Clock, Queries, task_of
from swarm.ledger.queues import Queues
from swarm.ledger.reasons import Reasons
from swarm.ledger.records import KEPT, LOST_LIMIT, MAX_REASON, Way
from swarm.ledger.remarks import feedback, remarks_on
from swarm.ledger.reported import case_of, moved, reported, why
from swarm.ledger.rows import (
    GOES_ON,
    asked_for,
    attempt_row,
    commits_json,
    in_words,
    known_row,
    needed,
    record_usage,
    recount,
    row_of,
    session_to_resume,
)
from swarm.ledger.threads import thread_of
from swarm.ledger.waiting import Waiting
from swarm.wire.lifeline import Finished

MAX_ANSWER = 64_000
"""Characters kept of what a report's session said; only an outsider's answer is as long."""
GIVEN_BACK = "given back"
"""How the reason of an attempt begins that its holder ended by himself: ``cancelled``, not lost."""
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


class SqliteLedger(
    Queries,
    Reasons,
    Pauses,
    Queues,
    Lanes,
    Landings,
    Waiting,
    Plans,
    Editing,
    History,
    Notices,
):
    """:class:`~swarm.ledger.interface.Ledger` in the file ``path``; ``clock`` gives Unix seconds.

    Belongs to the thread that made it.  A call waits at most ``patience`` for another process.
    """

    def __init__(self, path: Path, clock: Clock = time.time, patience: float | None = None) -> None:
        super().__init__(Database(path, patience), clock)
        self._queues = {}

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
        clean = cleaned(new)
        new = clean.new
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
            task, seq = insert(db, clean, blocked, self._clock())
            insert_needs(db, seq, needs)
            add_event(db, self._clock(), seq, "submitted", detail=new.sender)
            if blocked:
                dependents.reconsider(db, seq, self._clock())
        return task

    # -- leases

    def claim(self, task: str, agent: str, agent_id: str, lease_seconds: float) -> Claimed | None:
        """See the interface."""
        now = self._clock()
        # Who is not on our channel has no clone of ours, so there is nothing to name.
        named = not is_outsider_id(agent_id)
        branch = task_branch(agent.removeprefix("@"), task) if named else None
        with self._database.writing() as db:
            changed = db.execute(
                "UPDATE tasks SET state = 'running', fence = fence + 1, agent = ?, agent_id = ?,"  # noqa: S608 - our own words
                " held = 1, lease_seconds = ?, lease_until = ?, not_before = NULL, reason = '',"
                f" branch = {BRANCH}, updated_at = ?, responded = 0"
                " WHERE id = ? AND state = 'queued' AND blocked = 0 AND paused = 0"
                " AND (not_before IS NULL OR not_before <= ?)",
                (
                    *(agent, agent_id, lease_seconds, now + lease_seconds),
                    *(branch, branch, now, task, now),
                ),
            )
            if changed.rowcount != 1:
                return None
            row = known_row(db, task)
            add_event(db, self._clock(), row["seq"], "claimed", agent, row["fence"])
            prompt = db.execute("SELECT text FROM prompts WHERE task = ?", (row["seq"],)).fetchone()
            attempts = db.execute(
                "SELECT n, agent, agent_id, outcome, reason, session_id FROM attempts"
                " WHERE task = ? ORDER BY n DESC LIMIT ?",
                (row["seq"], EARLIER_ATTEMPTS),
            ).fetchall()
            thread = (*results_of(db, row), *thread_of(db, row))
            said_before = feedback(remarks_on(db, row["seq"])) if row["go_on"] else ""
        earlier = [in_words(attempt) for attempt in reversed(attempts)]
        resumes = session_to_resume(attempts, agent_id, go_on=row["go_on"] == GOES_ON)
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
            feedback=said_before,
            thread=thread,
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
            number = start_attempt(db, row, agent, at, self._clock(), estimate)
            add_event(db, self._clock(), row["seq"], "begun", agent, fence)
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
            record_usage(db, row["seq"], fence, usage, cost_usd, session_id, day_of(self._clock()))
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
                recount(db, agent, NOTHING, after, day_of(self._clock()))

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
        *,
        way: Way = KEPT,
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
                start_attempt(db, row, agent or row["agent"], None, self._clock())
            elif attempt["counted"]:
                # It had been given up for lost, and was not: it must not count as poison.
                db.execute("UPDATE tasks SET lost = lost - 1 WHERE seq = ?", (row["seq"],))
            end_attempt(db, row["seq"], finished, self._clock())
            keep_made(db, row, finished, self._clock())
            to = self._move(db, row, finished, commits, way)
            add_event(
                db, self._clock(), row["seq"], "finished", agent, finished.fence, finished.outcome
            )
            moved(db, row, finished, to, way, self._clock())
            dependents.ended(db, row["seq"], to.state, self._clock())
        return Settlement(Verdict.ACCEPTED, to.state)

    def _move(
        self,
        db: sqlite3.Connection,
        row: sqlite3.Row,
        finished: Finished,
        commits: Sequence[str] | None,
        way: Way,
    ) -> Becomes:
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
            # Cancelled meanwhile: what it did is kept, what it is does not change.
            return Becomes(state)
        case = case_of(row, finished, way)
        to = becomes(finished, now, case)
        settle_state(db, row["seq"], to, plain(why(finished, to, case), MAX_REASON), now)
        if answer := plain(finished.result, MAX_ANSWER):
            db.execute("UPDATE tasks SET answer = ? WHERE seq = ?", (answer, row["seq"]))
        reported(db, row, finished, to, case, now)
        return to

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
            add_event(db, self._clock(), row["seq"], "requeued", row["agent"], fence, reason)
            db.execute(
                "UPDATE tasks SET held = 0, lease_until = NULL, lost = lost + ? WHERE seq = ?",
                (counted, row["seq"]),
            )
            if cancelled:
                return TaskState(row["state"])
            lost = row["lost"] + counted
            state = after_loss(lost) if counted else TaskState.QUEUED
            to = Becomes(state)
            if state is TaskState.FAILED:
                reason = f"lost {lost} times, given up: {reason}"
            elif counted:
                # An outsider that stayed away says nothing of the task: the next may have it.
                outsider = is_outsider_id(row["agent_id"])
                to = Becomes(state, not_before=None if outsider else now + wait_after_loss(lost))
                reason = reason if outsider else reason_of(lost, LOST_LIMIT - 1, reason)
            settle_state(db, row["seq"], to, reason, now)
            tell(db, now, row["seq"], state, reason)
            dependents.ended(db, row["seq"], state, now)
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
                settle_state(db, row["seq"], to, plain(reason, MAX_REASON), now)
                db.execute(
                    "UPDATE tasks SET held = 0, lease_until = NULL WHERE seq = ?", (row["seq"],)
                )
                add_event(
                    db,
                    self._clock(),
                    row["seq"],
                    "unclaimed",
                    row["agent"],
                    fence,
                    reason[:MAX_REASON],
                )
                return TaskState.QUEUED
        said = reason.strip()
        if not said.startswith(GIVEN_BACK):
            said = f"{GIVEN_BACK}: {said}" if said else GIVEN_BACK
        return self.requeue(task, fence, said, Outcome.CANCELLED, counts=False)

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
                doubt(db, row)
                settle_state(db, row["seq"], to, "cancelled", self._clock())
                add_event(db, self._clock(), row["seq"], "cancelled", row["agent"], row["fence"])
                drop_reviews(db, row["seq"], self._clock())
                dependents.ended(db, row["seq"], TaskState.CANCELLED, self._clock())
            return task_of(known_row(db, task))

    def give_up(self, task: str, reason: str) -> bool:
        """See the interface."""
        with self._database.writing() as db:
            row = row_of(db, task)
            if row is None or row["state"] != TaskState.QUEUED:
                return False
            failed = Becomes(TaskState.FAILED)
            settle_state(db, row["seq"], failed, plain(reason, MAX_REASON), self._clock())
            add_event(db, self._clock(), row["seq"], "given_up", detail=reason[:MAX_REASON])
            tell(db, self._clock(), row["seq"], TaskState.FAILED, reason[:500])
            dependents.ended(db, row["seq"], TaskState.FAILED, self._clock())
        return True
