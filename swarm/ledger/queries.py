"""Questions to the SQLite ledger; each is one statement over an index."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

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
from swarm.ledger.database import Database
from swarm.ledger.intake import reference
from swarm.ledger.interface import Attempt, Event, Holder, Pause, Task, Totals
from swarm.ledger.records import OWN_SENDERS
from swarm.ledger.rows import (
    counted,
    estimate,
    holder_of_session,
    known,
    queues_with,
)
from swarm.ledger.schema import EVER

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
        if "/" in prefix and (planned := self._in_plan(prefix)) is not None:
            return planned
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

    def _in_plan(self, name: str) -> Task | None:
        """The task that ``p-ID/key`` names."""
        plan, _, key = name.partition("/")
        with self._database.reading() as db:
            row = db.execute(
                "SELECT * FROM tasks WHERE plan = (SELECT seq FROM plans WHERE id = ?)"
                " AND plan_key = ?",
                (plan, key),
            ).fetchone()
        return None if row is None else task_of(row)

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
        *,
        lane: str | None = None,
        labels: Mapping[str, str] | None = None,
        thread: str | None = None,
        plan: str | None = None,
    ) -> list[Task]:
        """See the interface."""
        query, arguments = "SELECT * FROM tasks WHERE 1", list[object]()
        if states is not None:
            query += f" AND state IN ({','.join('?' * len(states))})"
            arguments += [str(state) for state in states]
        for column, value in (("role", role), ("lane", lane), ("thread", thread)):
            if value is not None:
                query += f" AND {column} = ?"
                arguments.append(value)
        if plan is not None:
            query += " AND plan = (SELECT seq FROM plans WHERE id = ?)"
            arguments.append(plan)
        with self._database.reading() as db:
            if labels:
                query += f" AND queue IN ({','.join(map(str, queues_with(db, labels)))})"
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
        query = f"{EVENTS} WHERE e.seq > ?" + (" AND t.id = ?" if task is not None else "")
        arguments = (after, limit) if task is None else (after, task, limit)
        with self._database.reading() as db:
            rows = db.execute(query + " ORDER BY e.seq LIMIT ?", arguments).fetchall()
        return [event_of(row) for row in rows]

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
        if others:
            senders = (*senders, *OWN_SENDERS)
        live, marks = ", ".join("?" * len(LIVE_TASK_STATES)), ", ".join("?" * len(senders))
        with self._database.reading() as db:
            row = db.execute(
                f"SELECT count(*) FROM tasks WHERE sender IS NOT NULL AND state IN ({live})"  # noqa: S608 - question marks
                f" AND sender {'NOT ' if others else ''}IN ({marks})",
                (*map(str, LIVE_TASK_STATES), *(sender[:64] for sender in senders)),
            ).fetchone()
        return int(row[0])

    def session_holder(self, task: str) -> str:
        """See the interface."""
        with self._database.reading() as db:
            return holder_of_session(db, task)

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
                lease_until=row["lease_until"] or 0.0,
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
        announced=row["sender"] is not None and row["sender"] not in OWN_SENDERS,
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
        in_doubt=row["in_doubt"],
        revisions=row["revisions"],
        retries=row["retries"],
        go_on=bool(row["go_on"]),
        about=row["about"],
        about_commit=row["about_commit"],
        queue=row["queue"] or 0,
    )


EVENTS = "SELECT t.id AS id, e.* FROM events e JOIN tasks t ON t.seq = e.task"
"""Rows for :func:`event_of`."""


def event_of(row: sqlite3.Row) -> Event:
    """The dataclass of one row of :data:`EVENTS`."""
    return Event(
        row["seq"], row["at"], row["id"], row["kind"], row["agent"], row["fence"], row["detail"]
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
