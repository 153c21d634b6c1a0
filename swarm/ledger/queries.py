"""Questions to the SQLite ledger; each is one statement over an index."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence

from swarm.core.budget import (
    DAY_SECONDS,
    Amount,
    Booked,
    Key,
    Number,
    Reading,
    total,
    until_midnight,
)
from swarm.core.model import (
    LIVE_TASK_STATES,
    Merge,
    OnFailed,
    Outcome,
    Review,
    TaskKind,
    TaskResult,
    TaskState,
    Usage,
)
from swarm.errors import UsageError
from swarm.ledger.database import EVER, Database
from swarm.ledger.intake import reference
from swarm.ledger.interface import Attempt, Event, Holder, Pause, Task, Totals
from swarm.ledger.rows import counted, estimate, holder_of_session, known, queues_of

Clock = Callable[[], float]


class Queries:
    """The reading half of :class:`~swarm.ledger.sqlite.SqliteLedger`."""

    def __init__(self, database: Database, clock: Clock = time.time) -> None:
        self._database = database
        self._clock = clock

    def task(self, task: str) -> Task | None:
        """See the interface."""
        with self._database.reading() as db:
            row = db.execute("SELECT * FROM tasks WHERE id = ?", (task,)).fetchone()
        return None if row is None else task_of(row)

    def find(self, prefix: str) -> Task:
        """See the interface."""
        wanted = prefix if prefix.startswith("t-") else f"t-{prefix}"
        if exact := self.task(wanted):
            return exact
        with self._database.reading() as db:
            rows = db.execute(
                "SELECT * FROM tasks WHERE id > ? AND id < ? ORDER BY id LIMIT 4",
                (wanted, wanted + "\x7f"),
            ).fetchall()
        if len(rows) == 1 and len(prefix) > 0:
            return task_of(rows[0])
        shown = " ".join(prefix.split())[:40]
        if not rows or not prefix:
            raise UsageError(f"there is no task {shown!r}", "see `agentctl task list`")
        names = ", ".join(str(row["id"]) for row in rows[:3])
        raise UsageError(f"{shown!r} may be more than one task: {names} …", "give more of the id")

    def prompt(self, task: str) -> str:
        """See the interface."""
        with self._database.reading() as db:
            row = db.execute(
                "SELECT text FROM prompts WHERE task = (SELECT seq FROM tasks WHERE id = ?)",
                (task,),
            ).fetchone()
        return "" if row is None else str(row[0])

    def tasks(
        self,
        states: Sequence[TaskState] | None = None,
        limit: int = 1000,
        role: str | None = None,
    ) -> list[Task]:
        """See the interface."""
        query, arguments = "SELECT * FROM tasks WHERE 1", list[object]()
        if states is not None:
            query += f" AND state IN ({','.join('?' * len(states))})"
            arguments += [str(state) for state in states]
        if role is not None:
            query += " AND role = ?"
            arguments.append(role)
        with self._database.reading() as db:
            rows = db.execute(query + " ORDER BY seq DESC LIMIT ?", (*arguments, limit)).fetchall()
        return [task_of(row) for row in reversed(rows)]

    def attempts(self, task: str) -> list[Attempt]:
        """See the interface."""
        with self._database.reading() as db:
            rows = db.execute(
                "SELECT t.id AS id, a.* FROM attempts a JOIN tasks t ON t.seq = a.task"
                " WHERE t.id = ? ORDER BY a.n",
                (task,),
            ).fetchall()
        return [attempt_of(row) for row in rows]

    def waits_for(self, task: str) -> list[Task]:
        """See the interface."""
        with self._database.reading() as db:
            rows = db.execute(
                "SELECT n.* FROM dependencies d JOIN tasks n ON n.seq = d.needs"
                " WHERE d.met = 0 AND d.task = (SELECT seq FROM tasks WHERE id = ?)"
                " ORDER BY n.seq",
                (task,),
            ).fetchall()
        return [task_of(row) for row in rows]

    def reason(self, task: str, *, live: bool = True) -> str | None:
        """See the interface: dependencies first, then a delay, the gate, and missing agents."""
        row = self.task(task)
        if row is None:
            return None
        if row.state is TaskState.RUNNING and not live:  # a killed swarm could not write it down
            return "no swarm runs it any more: the next `agentctl swarm up` queues it again"
        if row.state is not TaskState.QUEUED:
            return row.reason or None
        if row.blocked:
            return _waiting_text(self.waits_for(task))
        notes = self.notes() if live else {"gate": "no swarm is running"}
        if row.not_before is not None and row.not_before > self._clock():
            if (gate := notes.get("gate", "")).startswith("paused"):
                return gate  # a quota's pause ends when it ends, and the delay with it
            left = round(row.not_before - self._clock())
            return f"waits {left} s: {row.reason}" if row.reason else f"waits {left} s"
        noted = notes.get("gate") or notes.get(f"role:{row.role}")
        if noted or self._waited_for_budget(row):
            return noted or None
        return row.reason or None

    def _waited_for_budget(self, row: Task) -> bool:
        """Whether it was queued again for a budget: where no gate is closed, there is a new one."""
        attempts = self.attempts(row.id) if row.fence else []
        return bool(attempts) and attempts[-1].outcome is Outcome.OVER_BUDGET

    def counts(self) -> dict[str, int]:
        """See the interface."""
        counts = {str(state): 0 for state in TaskState}
        with self._database.reading() as db:
            for row in db.execute("SELECT state, count(*) FROM tasks GROUP BY state"):
                counts[str(row[0])] = int(row[1])
        return counts

    def usage(self, since: float | None = None) -> Totals:
        """See the interface.  SQL's ``sum`` of nothing known is null, as wanted."""
        with self._database.reading() as db:
            row = db.execute(
                "SELECT sum(input_tokens), sum(output_tokens), sum(cache_read_tokens),"
                " sum(cache_write_tokens), sum(cost_usd) FROM attempts"
                " WHERE coalesce(started_at, ended_at) >= ?",
                (since if since is not None else float("-inf"),),
            ).fetchone()
        return Totals(Usage(row[0], row[1], row[2], row[3]), row[4])

    def spent_on(self, task: str) -> Amount:
        """See the interface."""
        attempts = self.attempts(task)
        return total(one.counted for one in attempts) if attempts else Amount(0, 0.0)

    def spending(self, sessions: Iterable[Key] = (), *, daily: bool = False) -> Reading:
        """See the interface."""
        now = self._clock()
        day = int(now // DAY_SECONDS)
        found: dict[Key, Booked] = {}
        with self._database.snapshot() as db:
            rows = db.execute(
                "SELECT agent, tokens, usd FROM spending WHERE day = ?", (day if daily else EVER,)
            ).fetchall()
            for key in sessions:
                row = _session_row(db, key)
                if row is not None:
                    found[key] = Booked(known(row), counted(row))
        return Reading(
            # A correction of what was estimated yesterday may be below zero today.
            agents={r["agent"]: Amount(_positive(r["tokens"]), _positive(r["usd"])) for r in rows},
            sessions=found,
            day=day if daily else 0,
            resets_in=until_midnight(now) if daily else None,
        )

    def events(self, after: int = 0, task: str | None = None, limit: int = 1000) -> list[Event]:
        """See the interface."""
        query = "SELECT t.id AS id, e.* FROM events e JOIN tasks t ON t.seq = e.task"
        query += " WHERE e.seq > ?" + (" AND t.id = ?" if task is not None else "")
        arguments = (after, limit) if task is None else (after, task, limit)
        with self._database.reading() as db:
            rows = db.execute(query + " ORDER BY e.seq LIMIT ?", arguments).fetchall()
        return [
            Event(r["seq"], r["at"], r["id"], r["kind"], r["agent"], r["fence"], r["detail"])
            for r in rows
        ]

    def last_event(self) -> int:
        """See the interface."""
        with self._database.reading() as db:
            return int(db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])

    def submitted(self, sender: str, sender_ref: str) -> str | None:
        """See the interface."""
        with self._database.reading() as db:
            row = db.execute(
                "SELECT id FROM tasks WHERE sender = ? AND sender_ref = ?",
                reference(sender, sender_ref),
            ).fetchone()
        return None if row is None else str(row[0])

    def announced(self, senders: Sequence[str], *, others: bool = False) -> int:
        """See the interface."""
        live, marks = ", ".join("?" * len(LIVE_TASK_STATES)), ", ".join("?" * len(senders))
        with self._database.reading() as db:
            row = db.execute(
                f"SELECT count(*) FROM tasks WHERE sender IS NOT NULL AND state IN ({live})"  # noqa: S608 - question marks
                f" AND sender {'NOT ' if others else ''}IN ({marks})",
                (*map(str, LIVE_TASK_STATES), *(sender[:64] for sender in senders)),
            ).fetchone()
        return int(row[0])

    def ready(self, roles: Sequence[str], limit: int, component: str = "") -> list[Task]:
        """See the interface.  ``INDEXED BY``: the planner must not walk every queued task."""
        query = (
            "SELECT * FROM tasks INDEXED BY tasks_ready"
            " WHERE state = 'queued' AND blocked = 0 AND paused = 0 AND queue = ?"
            " AND (not_before IS NULL OR not_before <= ?) AND (? = '' OR component = ?)"
            " ORDER BY priority DESC, seq LIMIT ?"
        )
        now = self._clock()
        found: list[Task] = []
        with self._database.reading() as db:
            for queue in queues_of(db, roles):
                rows = db.execute(query, (queue, now, component, component, limit))
                found += [task_of(row) for row in rows]
        return sorted(found, key=lambda task: (-task.priority, task.seq))

    def session_holder(self, task: str) -> str:
        """See the interface."""
        with self._database.reading() as db:
            return holder_of_session(db, task)

    def waiting_roles(self) -> list[str]:
        """See the interface.  One seek a queue, however many tasks each has."""
        query = (
            "SELECT DISTINCT role FROM queues q WHERE EXISTS"
            " (SELECT 1 FROM tasks INDEXED BY tasks_ready"
            " WHERE queue = q.id AND state = 'queued' AND blocked = 0 AND paused = 0)"
            " ORDER BY role"
        )
        with self._database.reading() as db:
            return [str(row[0]) for row in db.execute(query)]

    def next_delay(self) -> float | None:
        """See the interface."""
        with self._database.reading() as db:
            row = db.execute(
                "SELECT min(not_before) FROM tasks INDEXED BY tasks_delayed"
                " WHERE state = 'queued' AND not_before IS NOT NULL AND not_before > ?",
                (self._clock(),),
            ).fetchone()
        return None if row[0] is None else float(row[0])

    def holders(self) -> list[Holder]:
        """See the interface."""
        with self._database.reading() as db:
            rows = db.execute(
                "SELECT t.*, a.n AS n FROM tasks t INDEXED BY tasks_held"
                " LEFT JOIN attempts a ON a.task = t.seq AND a.fence = t.fence"
                " WHERE t.held = 1 ORDER BY t.seq"
            ).fetchall()
        return [
            Holder(
                task=row["id"],
                fence=row["fence"],
                agent=row["agent"],
                agent_id=row["agent_id"],
                state=TaskState(row["state"]),
                component=row["component"],
                begun=row["n"] is not None,
                lease_seconds=row["lease_seconds"],
            )
            for row in rows
        ]

    def pauses(self) -> list[Pause]:
        """See the interface."""
        with self._database.reading() as db:
            rows = db.execute("SELECT * FROM pauses ORDER BY since").fetchall()
        return [Pause(r["scope"], r["reason"], r["since"], r["until"]) for r in rows]

    def notes(self) -> dict[str, str]:
        """See the interface."""
        with self._database.reading() as db:
            return {str(r[0]): str(r[1]) for r in db.execute("SELECT key, text FROM notes")}


def _session_row(db: sqlite3.Connection, key: Key) -> sqlite3.Row | None:
    """An attempt of ours, or what was done for another ledger."""
    row: sqlite3.Row | None = db.execute(
        "SELECT * FROM attempts WHERE task = (SELECT seq FROM tasks WHERE id = ?) AND fence = ?",
        key,
    ).fetchone()
    if row is None:
        row = db.execute("SELECT * FROM elsewhere WHERE task = ? AND fence = ?", key).fetchone()
    return row


def _positive(number: Number | None) -> Number | None:
    return None if number is None else max(number, number - number)


def _waiting_text(needed: Sequence[Task]) -> str:
    """Says the dependency that can no longer be met first: a person has to act on that one."""
    ended = [task for task in needed if task.state.ended]
    words = {
        TaskState.FAILED: "which failed",
        TaskState.CANCELLED: "which was cancelled",
        TaskState.NEEDS_HUMAN: "which waits for a person",
        TaskState.SKIPPED: "which was skipped",
    }
    if ended:
        return f"waits for {ended[0].id} {words.get(ended[0].state, 'which ended')}"
    names = ", ".join(task.id for task in needed[:3])
    return f"waits for {names}" + (f" and {len(needed) - 3} more" if len(needed) > 3 else "")


def task_of(row: sqlite3.Row) -> Task:
    """The dataclass of one row of ``tasks``."""
    commits = row["commits"]
    return Task(
        seq=row["seq"],
        id=row["id"],
        state=TaskState(row["state"]),
        role=row["role"],
        component=row["component"],
        title=row["title"],
        titled=bool(row["titled"]),
        announced=row["sender"] is not None,
        priority=row["priority"],
        repo=row["repo"],
        reason=row["reason"],
        result=None if row["result"] is None else TaskResult(row["result"]),
        answer=row["answer"],
        branch=row["branch"],
        commits=None if commits is None else tuple(json.loads(commits)),
        blocked=row["blocked"],
        not_before=row["not_before"],
        fence=row["fence"],
        agent=row["agent"],
        agent_id=row["agent_id"],
        held=bool(row["held"]),
        lost=row["lost"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        ended_at=row["ended_at"],
        budget=Amount(row["token_budget"], row["usd_budget"]),
        kind=TaskKind(row["kind"]),
        lane=row["lane"],
        labels=json.loads(row["labels"]),
        review=None if row["review"] is None else Review(row["review"]),
        merge=None if row["merge"] is None else Merge(row["merge"]),
        on_failed=OnFailed(row["on_failed"]),
        plan=row["plan"],
        plan_key=row["plan_key"] or "",
        paused=bool(row["paused"]),
        thread=row["thread"],
        parent=row["parent"],
        folder=row["folder"],
        request_path=row["request_path"] or "",
        request_sha256=row["request_sha256"] or "",
        response_path=row["response_path"] or "",
        response_sha256=row["response_sha256"] or "",
        tip=row["tip"],
        approved=row["approved"],
        landed=row["landed"],
        revisions=row["revisions"],
        retries=row["retries"],
        go_on=bool(row["go_on"]),
        about=row["about"],
        about_commit=row["about_commit"],
    )


def attempt_of(row: sqlite3.Row) -> Attempt:
    """The dataclass of one row of ``attempts`` joined with its task's ``id``."""
    return Attempt(
        task=row["id"],
        n=row["n"],
        fence=row["fence"],
        agent=row["agent"],
        agent_id=row["agent_id"],
        outcome=None if row["outcome"] is None else Outcome(row["outcome"]),
        reason=row["reason"],
        exit_status=row["exit_status"],
        session_id=row["session_id"] or None,
        usage=Usage(
            row["input_tokens"],
            row["output_tokens"],
            row["cache_read_tokens"],
            row["cache_write_tokens"],
        ),
        cost_usd=row["cost_usd"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        estimate=estimate(row),
        base=row["base"],
        tip=row["tip"],
    )
