"""Leases of agents outside the fleet, threads, and the files tasks are tied to."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Protocol

from swarm.core.matching import ANY, fits, needs_of, outsider_takes
from swarm.core.model import (
    OUTSIDER,
    Outcome,
    RemarkKind,
    TaskKind,
    TaskState,
    Usage,
    is_outsider_id,
    is_outsider_name,
    outsider_id,
)
from swarm.errors import StaleLease, SwarmError, UsageError
from swarm.ledger.database import Database
from swarm.ledger.intake import check_labels, check_lane, one_line
from swarm.ledger.interface import Ledger
from swarm.ledger.lanes_calls import (
    LANE_SECONDS,
    LEAST_LANE_SECONDS,
    MAX_RESPONSE,
    MOST_LANE_SECONDS,
)
from swarm.ledger.moves import add_event, settle_state, tell
from swarm.ledger.outcomes import Becomes
from swarm.ledger.pinned import request_problem, write_response
from swarm.ledger.queries import Clock
from swarm.ledger.records import Claimed, Holder, Task, Verdict
from swarm.ledger.remarks import add_remark
from swarm.ledger.rows import known_row, row_of
from swarm.ledger.threads import thread_of
from swarm.wire.lifeline import Finished

_MOST_REFUSED = 100
"""Tasks whose request file has changed that one claim steps over."""


class _Whole(Ledger, Protocol):
    """The ledger these calls are part of."""

    _database: Database
    _clock: Clock


class Lanes:
    """Part of :class:`~swarm.ledger.sqlite.SqliteLedger`; see its interface."""

    def lane_next(
        self: _Whole,
        *,
        roles: Sequence[str] = (),
        lane: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> Task | None:
        """See the interface."""
        takes = outsider_takes(roles, lane, labels)
        queues = [one.id for one in self.waiting_queues() if not fits(takes, needs_of(one))]
        waiting = self.ready(queues, 1, work_only=not roles)
        return waiting[0] if waiting else None

    def lane_claim(
        self: _Whole,
        who: str,
        *,
        roles: Sequence[str] = (),
        lane: str = "",
        labels: Mapping[str, str] | None = None,
        task: str | None = None,
        lease_seconds: float = LANE_SECONDS,
    ) -> Claimed | None:
        """See the interface."""
        _check_claim(who, lane, labels or {}, lease_seconds)
        self.expire_leases()
        for _ in range(_MOST_REFUSED):
            first = None if task else self.lane_next(roles=roles, lane=lane, labels=labels)
            wanted = task or (first.id if first is not None else None)
            if wanted is None:
                return None
            problem = self.request_changed(wanted)
            if problem and task is not None:
                raise SwarmError(f"{task}: {problem}", "a person has to say how it goes on")
            if problem:
                continue
            claimed = self.claim(wanted, f"@{who}", outsider_id(who), lease_seconds)
            if claimed is not None:
                self.begin(wanted, claimed.fence, f"@{who}", self._clock())
                return claimed
            if task is not None:
                return None
        return None

    def lane_renew(self: _Whole, task: str, fence: int, who: str) -> Task:
        """See the interface."""
        self.expire_leases()
        _held(self, task, fence, who)
        self.renew(task, fence)
        return _held(self, task, fence, who)

    def lane_release(self: _Whole, task: str, fence: int, who: str, reason: str = "") -> Task:
        """See the interface."""
        self.expire_leases()
        _held(self, task, fence, who)
        said = one_line(reason, 400)
        why = f"given back by @{who}" + (f": {said}" if said else "")
        if self.requeue(task, fence, why, Outcome.CANCELLED, counts=False) is None:
            raise _lost_meanwhile(task, fence, who)
        return self.find(task)

    def lane_respond(
        self: _Whole,
        task: str,
        fence: int,
        who: str,
        text: str,
        outcome: Outcome = Outcome.SUCCEEDED,
        *,
        reason: str = "",
        needs_human: bool = False,
        usage: Usage | None = None,
        cost_usd: float | None = None,
        commit: str | None = None,
    ) -> Task:
        """See the interface."""
        if len(text) > MAX_RESPONSE:
            raise UsageError(
                f"an answer of {len(text)} characters, more than {MAX_RESPONSE}",
                "put the long part in a file and name it in the answer",
            )
        if needs_human and not reason.strip():
            raise UsageError("the question is empty", "say what a person has to decide")
        self.expire_leases()
        held = _held(self, task, fence, who)
        judges = held.kind is not TaskKind.WORK
        finished = Finished(
            task=task,
            fence=fence,
            outcome=outcome,
            reason=reason,
            result=text,
            usage=usage or Usage(),
            cost_usd=cost_usd,
            commit=commit,
            needs_human=needs_human,
            review=text if judges else "",
        )
        settled = self.finish(finished, f"@{who}", outsider_id(who))
        if settled.verdict is not Verdict.ACCEPTED:
            raise _lost_meanwhile(task, fence, who)
        self.write_responses()
        return self.find(task)

    def expire_leases(self: _Whole, now: float | None = None) -> list[str]:
        """See the interface."""
        now = self._clock() if now is None else now
        with self._database.reading() as db:
            over = db.execute(f"{_OUTSIDERS} AND lease_until <= ?", (now,)).fetchall()
            ahead = db.execute(
                f"{_OUTSIDERS} AND lease_until > ? + lease_seconds", (now,)
            ).fetchall()
        for row in ahead:  # the wall clock was put back: nobody's term gets longer by that
            self.renew(row["id"], row["fence"])
        return [
            str(row["id"])
            for row in over
            if self.expire(row["id"], row["fence"], row["lease_until"]) is None
        ]

    def outsiders(self: _Whole) -> list[Holder]:
        """See the interface."""
        return [one for one in self.holders() if is_outsider_id(one.agent_id)]

    def expire(self: _Whole, task: str, fence: int, until: float) -> float | None:
        """See the interface."""
        with self._database.reading() as db:
            row = row_of(db, task)
        if row is None or row["fence"] != fence or not row["held"]:
            return None
        if row["lease_until"] != until:
            return float(row["lease_until"])
        self.requeue(task, fence, f"the lease of {row['agent']} ran out")
        return None

    # -- threads and files

    def thread_of(self: _Whole, task: str) -> tuple[str, ...]:
        """See the interface."""
        with self._database.snapshot() as db:
            row = row_of(db, task)
            return () if row is None else thread_of(db, row)

    def parent_of(self: _Whole, task: str) -> str:
        """See the interface."""
        with self._database.reading() as db:
            row = db.execute(
                "SELECT p.id FROM tasks t JOIN tasks p ON p.seq = t.parent WHERE t.id = ?", (task,)
            ).fetchone()
        return "" if row is None else str(row[0])

    def request_changed(self: _Whole, task: str) -> str:
        """See the interface.  A person who was asked and answered has seen it."""
        found = self.task(task)
        if found is None or not found.request_sha256 or found.go_on:
            return ""
        if found.state is not TaskState.QUEUED:
            return ""
        problem = request_problem(found.request_path, found.request_sha256)
        if not problem:
            return ""
        problem += (
            f"; put it back as it was and retry {task}, or have it done as it was asked then: "
            f"agentctl task answer {task} 'go on'"
        )
        now = self._clock()
        with self._database.writing() as db:
            row = known_row(db, task)
            if row["state"] == TaskState.QUEUED:
                settle_state(db, row["seq"], Becomes(TaskState.NEEDS_HUMAN), problem, now)
                add_remark(db, row, RemarkKind.QUESTION, problem, now)
                tell(db, now, row["seq"], TaskState.NEEDS_HUMAN, problem)
        return problem

    def write_responses(self: _Whole) -> list[str]:
        """See the interface."""
        with self._database.reading() as db:
            due = db.execute(
                "SELECT seq, id, answer, fence, response_path, response_sha256 FROM tasks"
                " INDEXED BY tasks_respond WHERE response_path IS NOT NULL AND responded = 0"
                " AND state = 'done' ORDER BY seq LIMIT 100"
            ).fetchall()
        for row in due:
            _respond(self._database, row, self._clock())
        return [str(row["id"]) for row in due]


_OUTSIDERS = f"""SELECT id, fence, lease_until FROM tasks INDEXED BY tasks_held
    WHERE held = 1 AND substr(agent_id, 1, {len(OUTSIDER)}) = '{OUTSIDER}'"""  # noqa: S608


def _check_claim(who: str, lane: str, labels: Mapping[str, str], seconds: float) -> None:
    if not is_outsider_name(who):
        raise UsageError(
            f"{one_line(who, 40)!r} cannot be the name of who claims",
            "use 1 to 32 letters, digits, _ or -, and no agent id",
        )
    if lane != ANY:
        check_lane(lane)
    check_labels(labels)
    if not LEAST_LANE_SECONDS <= seconds <= MOST_LANE_SECONDS:
        raise UsageError(
            f"a lease of {seconds:g} seconds",
            f"ask for {LEAST_LANE_SECONDS:g} to {MOST_LANE_SECONDS:g}, and renew it",
        )


def _held(ledger: _Whole, task: str, fence: int, who: str) -> Task:
    """The task, if ``who`` holds it with this fence.  Raises :class:`StaleLease`."""
    found = ledger.task(task)
    if found is None:
        raise UsageError(f"there is no task {one_line(task, 40)!r}", "see 'agentctl task list'")
    if found.held and found.fence == fence and found.agent_id == outsider_id(who):
        if found.state is TaskState.RUNNING:
            return found
        raise StaleLease(f"{task} is {found.state}, so @{who} holds it no more", _NOTHING)
    if found.held:
        raise StaleLease(
            f"@{one_line(who, 40)} does not hold {task} with fence {fence}: "
            f"{found.agent} has it with fence {found.fence}",
            _NOTHING,
        )
    raise StaleLease(
        f"the lease of @{one_line(who, 40)} on {task} with fence {fence} is over: "
        f"the task is {found.state}",
        _NOTHING,
    )


def _lost_meanwhile(task: str, fence: int, who: str) -> StaleLease:
    """Somebody was quicker, between the look at the lease and the move."""
    what = f"the lease of @{one_line(who, 40)} on {task} with fence {fence} has just ended"
    return StaleLease(what, _NOTHING)


_NOTHING = "nothing was changed; claim it again where it waits"


def _respond(database: Database, row: sqlite3.Row, now: float) -> None:
    """Write one answer's file and note that it was, or why not."""
    try:
        sha256 = write_response(row["response_path"], row["answer"], row["response_sha256"] or "")
    except SwarmError as error:
        with database.writing() as db:
            db.execute(
                "UPDATE tasks SET responded = 1, reason = CASE reason WHEN '' THEN ? ELSE"
                " reason || '; ' || ? END, updated_at = ? WHERE seq = ? AND fence = ?",
                (str(error), str(error), now, row["seq"], row["fence"]),
            )
            add_event(db, now, row["seq"], "response", detail=str(error))
        return
    with database.writing() as db:
        db.execute(
            "UPDATE tasks SET responded = 1, response_sha256 = ? WHERE seq = ? AND fence = ?",
            (sha256, row["seq"], row["fence"]),
        )
        add_event(db, now, row["seq"], "response", detail=sha256)
