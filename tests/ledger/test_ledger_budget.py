"""What the ledger keeps of money: budgets, estimates, running totals, and older files with it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from ledger_v2 import add_attempt, add_task, make_v2
from mutants import mutant

from swarm.core.budget import NOTHING, Amount, Booked
from swarm.core.model import Outcome, TaskState, Usage
from swarm.errors import UsageError
from swarm.ledger import Ledger, NewTask, SqliteLedger, rows, show_json, sqlite
from swarm.ledger.schema import SCHEMA_VERSION
from swarm.wire.lifeline import Finished

A, B, AGENT_ID = "swarm-builder-001", "swarm-builder-002", "a" * 16
DAY = 86_400.0


def begin(ledger: Ledger, task: str, agent: str = A, estimate: Amount = NOTHING) -> int:
    claimed = ledger.claim(task, agent, AGENT_ID, 90.0)
    assert claimed is not None
    assert ledger.begin(task, claimed.fence, agent, 1.0, estimate)
    return claimed.fence


def done(task: str, fence: int, tokens: int | None = None, usd: float | None = None) -> Finished:
    return Finished(task, fence, Outcome.SUCCEEDED, usage=Usage(tokens, None), cost_usd=usd)


def in_all(ledger: Ledger) -> dict[str, Amount]:
    return dict(ledger.spending().agents)


# -- a task's own


def test_a_task_keeps_the_budget_it_was_given(ledger: Ledger) -> None:
    task = ledger.task(ledger.submit(NewTask("x", budget=Amount(500, 1.5))))
    plain = ledger.task(ledger.submit(NewTask("x")))
    assert task is not None
    assert plain is not None
    assert (task.budget, plain.budget) == (Amount(500, 1.5), NOTHING)


@pytest.mark.parametrize(
    "budget",
    [
        *(Amount(tokens=n) for n in (0, -1, 10**12 + 1)),
        *(Amount(usd=x) for x in (0.0, -1.0, float("nan"), float("inf"), 1e9)),
    ],
)
def test_what_cannot_be_a_budget_is_refused(ledger: Ledger, budget: Amount) -> None:
    with pytest.raises(UsageError, match="budget"):
        ledger.submit(NewTask("x", budget=budget))
    assert ledger.tasks() == []


def test_all_attempts_count_together_and_the_next_holder_is_told(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x", budget=Amount(500)))
    assert ledger.spent_on(task) == Amount(0, 0.0)
    first = begin(ledger, task, estimate=Amount(80, 0.5))
    ledger.spent(task, first, Usage(100, 20), None)
    ledger.requeue(task, first, "lost", counts=False)
    second = ledger.claim(task, B, AGENT_ID, 90.0)
    assert second is not None
    assert second.spent == ledger.spent_on(task) == Amount(120, 0.5)


def test_a_retry_may_give_more_and_must_where_all_is_spent(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x", budget=Amount(100, 9.0)))
    ledger.finish(done(task, begin(ledger, task), 100), A)
    with pytest.raises(UsageError, match="100 of 100") as caught:
        ledger.retry(task)
    assert "--token-budget" in caught.value.remedy
    with pytest.raises(UsageError):
        ledger.retry(task, Amount(tokens=-3))
    again = ledger.retry(task, Amount(200))
    assert (again.state, again.budget) == (TaskState.QUEUED, Amount(200, 9.0))


def test_a_task_that_cannot_go_on_is_given_up_with_the_reason(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    before = ledger.last_event()
    assert ledger.give_up(task, "its budget is spent")
    found = ledger.task(task)
    assert found is not None
    assert (found.state, found.reason) == (TaskState.FAILED, "its budget is spent")
    assert ledger.last_event() > before
    assert not ledger.give_up(task, "again")
    assert not ledger.give_up("t-00000000", "unknown")


# -- the totals


def test_totals_by_agent_ever_and_today(ledger: Ledger, clock: Any) -> None:
    first, second = ledger.submit(NewTask("x")), ledger.submit(NewTask("y"))
    fence = begin(ledger, first)
    ledger.spent(first, fence, Usage(10, 5), 0.5)
    clock.now += DAY
    ledger.spent(first, fence, Usage(30, 5), 0.75)
    ledger.finish(done(second, begin(ledger, second, B), 7), B)
    assert in_all(ledger) == {A: Amount(35, 0.75), B: Amount(7)}
    today = ledger.spending(daily=True)
    assert today.agents == {A: Amount(20, 0.25), B: Amount(7)}
    assert today.day == int(clock.now // DAY)
    assert today.resets_in == DAY - clock.now % DAY
    clock.now += DAY
    assert ledger.spending(daily=True).agents == {}


def test_unknown_usage_makes_no_total(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    ledger.finish(done(task, begin(ledger, task)), A)
    assert in_all(ledger) == {}
    assert ledger.usage().usage.tokens is None


def test_an_estimate_counts_until_the_session_says_what_it_used(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    fence = begin(ledger, task, estimate=Amount(100, 1.0))
    assert in_all(ledger) == {A: Amount(100, 1.0)}
    ledger.spent(task, fence, Usage(30, None), None)
    assert in_all(ledger) == {A: Amount(30, 1.0)}
    ledger.finish(done(task, fence, 40), A)
    assert in_all(ledger) == {A: Amount(40, 1.0)}
    (attempt,) = ledger.attempts(task)
    assert (attempt.counted, attempt.known) == (Amount(40, 1.0), Amount(40, None))
    assert attempt.estimated
    assert attempt.cost_usd is None, "what people are shown is what is known"


def test_a_correction_of_yesterdays_estimate_never_shows_as_less_than_nothing(
    ledger: Ledger, clock: Any
) -> None:
    task = ledger.submit(NewTask("x"))
    fence = begin(ledger, task, estimate=Amount(100))
    clock.now += DAY
    ledger.spent(task, fence, Usage(30, None), None)
    assert ledger.spending(daily=True).agents[A].tokens == 0
    assert in_all(ledger)[A].tokens == 30


def test_an_attempt_that_never_began_has_no_estimate(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    claimed = ledger.claim(task, A, AGENT_ID, 90.0)
    assert claimed is not None
    ledger.finish(Finished(task, claimed.fence, Outcome.FAILED), A)
    assert in_all(ledger) == {}


def test_what_is_known_of_sessions_is_read_with_the_totals(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    fence = begin(ledger, task, estimate=Amount(100, 1.0))
    ledger.spent(task, fence, Usage(30, None), None)
    found = ledger.spending([(task, fence), (task, 9), ("t-unknown", 1)]).sessions
    assert found == {(task, fence): Booked(Amount(30), Amount(30, 1.0))}


def test_another_ledgers_task_counts_once(ledger: Ledger) -> None:
    finished = done("theirs", 4, 50)
    ledger.spent_elsewhere(finished, A, Amount(None, 0.5))
    ledger.spent_elsewhere(finished, A, Amount(None, 0.5))
    assert in_all(ledger) == {A: Amount(50, 0.5)}
    assert ledger.spending([("theirs", 4)]).sessions == {
        ("theirs", 4): Booked(Amount(50), Amount(50, 0.5))
    }


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "spent", "finish", "requeue", "retry", "tomorrow"]),
        st.integers(0, 2),
        st.none() | st.integers(0, 90),
        st.none() | st.sampled_from([0.0, 0.25, 0.5, 2.0]),
    ),
    max_size=25,
)


class Played:
    """One ledger for all examples; each has agents and tasks of its own."""

    def __init__(self, folder: Path) -> None:
        self.now = 1_800_000_000.0
        self.ledger = SqliteLedger(folder / "played.db", lambda: self.now)
        self.examples = 0

    def totals_are_the_sum(self, steps: list[Any]) -> None:
        """Whatever happens to attempts, the running totals are the sum over them."""
        ledger, self.examples = self.ledger, self.examples + 1
        agents = tuple(f"swarm-x{self.examples}-00{n}" for n in (1, 2))
        tasks = [ledger.submit(NewTask("x")) for _ in range(3)]
        fences = dict.fromkeys(tasks, 0)
        for what, pick, tokens, usd in steps:
            task, agent = tasks[pick], agents[pick % 2]
            if what == "begin":
                claimed = ledger.claim(task, agent, AGENT_ID, 90.0)
                if claimed is not None:
                    fences[task] = claimed.fence
                    ledger.begin(task, claimed.fence, agent, self.now, Amount(tokens, usd))
            elif what == "spent":
                ledger.spent(task, fences[task], Usage(tokens, None), usd)
            elif what == "finish":
                ledger.finish(done(task, fences[task], tokens, usd), agent)
            elif what == "requeue":
                ledger.requeue(task, fences[task], "lost", counts=False)
            elif what == "tomorrow":
                self.now += DAY
            elif ledger.task(task).state.ended:  # type: ignore[union-attr]
                ledger.retry(task)
        self._compare(agents, tasks)

    def _compare(self, agents: tuple[str, ...], tasks: list[str]) -> None:
        attempts = [one for task in tasks for one in self.ledger.attempts(task)]
        kept = self.ledger.spending().agents
        for agent in agents:
            summed = NOTHING
            for one in attempts:
                summed = summed.plus(one.counted if one.agent == agent else NOTHING)
            assert kept.get(agent, NOTHING) == summed, f"of {agent}"
        with self.ledger._database.reading() as db:
            query = "SELECT total(tokens), total(usd) FROM spending WHERE agent IN (?, ?) AND day"
            ever = db.execute(query + " = -1", agents).fetchone()
            days = db.execute(query + " >= 0", agents).fetchone()
        assert tuple(ever) == tuple(days), "the days do not make up all time"


@pytest.fixture
def played(tmp_path: Path) -> Iterator[Played]:
    made = Played(tmp_path)
    with made.ledger:
        yield made


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS)
def test_the_totals_are_the_sum_over_the_attempts(played: Played, steps: list[Any]) -> None:
    played.totals_are_the_sum(steps)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("counted(before), counted(after)", "Amount(), counted(after)"),
        ("counted(before), counted(after)", "known(before), known(after)"),
        ("for window in (EVER, day):", "for window in (EVER,):"),
        ("usd = coalesce(usd + excluded.usd,", "usd = coalesce(excluded.usd,"),
    ],
)
def test_a_planted_bug_is_caught(
    old: str, new: str, played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mutant(rows, old, new) as broken:
        monkeypatch.setattr(sqlite, "recount", broken.recount)
        monkeypatch.setattr(sqlite, "record_usage", broken.record_usage)

        @settings(
            max_examples=300,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
        )
        @given(steps=STEPS)
        def property_of_the_mutant(steps: list[Any]) -> None:
            played.totals_are_the_sum(steps)

        with pytest.raises(AssertionError):
            property_of_the_mutant()


def test_a_reading_does_not_look_at_every_attempt(tmp_path: Path) -> None:
    """By the planner's word; what it costs is measured in the decision record."""
    with SqliteLedger(tmp_path / "ledger.db") as ledger, ledger._database.reading() as db:
        asked: list[str] = []
        db.set_trace_callback(asked.append)
        ledger.spending([("t-1", 1)], daily=True)
        db.set_trace_callback(None)
        queries = [sql for sql in asked if sql.startswith("SELECT")]
        assert len(queries) == 3
        for sql in queries:
            plans = [str(row["detail"]) for row in db.execute(f"EXPLAIN QUERY PLAN {sql}")]
            assert not [plan for plan in plans if "SCAN" in plan], plans


# -- older files, and what people are shown


def test_a_file_of_version_2_is_brought_up_with_its_totals(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    db = make_v2(path)
    old, new = add_task(db, "t-00000001", "done"), add_task(db, "t-00000002", fence=1)
    used: dict[str, Any] = {"outcome": "succeeded", "input_tokens": 10, "output_tokens": 5}
    add_attempt(db, old, 1, A, started_at=0.5 * DAY, cost_usd=0.5, **used)
    add_attempt(db, old, 2, A, started_at=1.5 * DAY, **used)
    add_attempt(db, old, 3, B, ended_at=1.6 * DAY, outcome="failed", cost_usd=0.25)
    add_attempt(db, new, 1, B, started_at=2.0 * DAY, outcome="lost")
    db.close()
    with SqliteLedger(path, lambda: 1.9 * DAY) as ledger:
        assert in_all(ledger) == {A: Amount(30, 0.5), B: Amount(None, 0.25)}
        assert ledger.spending(daily=True).agents == {A: Amount(15), B: Amount(None, 0.25)}
        assert len(ledger.attempts("t-00000001")) == 3
        assert ledger.prompt("t-00000002") == "do it"
        assert ledger.spent_on("t-00000001") == Amount(30, 0.75)
        found = ledger.task("t-00000002")
        assert found is not None
        assert found.budget == NOTHING
        ledger.finish(done("t-00000002", begin(ledger, "t-00000002"), 1), A)
        assert in_all(ledger)[A] == Amount(31, 0.5)
    raw = sqlite3.connect(path)
    assert raw.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    new_one = tmp_path / "new.db"
    SqliteLedger(new_one).close()
    assert columns(raw) == columns(sqlite3.connect(new_one))
    raw.close()


def columns(db: sqlite3.Connection) -> dict[str, set[tuple[Any, ...]]]:
    """Every table's columns, whatever their order; closes nothing."""
    tables = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    found = {
        name: {tuple(row[1:]) for row in db.execute(f"PRAGMA table_info({name})")}
        for (name,) in tables
    }
    if "new.db" in str(db.execute("PRAGMA database_list").fetchone()[2]):
        db.close()
    return found


def test_an_upgrade_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    db = make_v2(path)
    add_task(db, "t-00000001")
    db.execute("CREATE TABLE elsewhere (x)")  # in the way of the upgrade
    db.close()
    with pytest.raises(Exception, match="elsewhere"):
        SqliteLedger(path).close()
    raw = sqlite3.connect(path)
    assert raw.execute("PRAGMA user_version").fetchone() == (2,)
    assert "token_budget" not in str(columns(raw)["tasks"])
    raw.close()


def test_what_task_show_says_of_money(ledger: Ledger, tmp_path: Path) -> None:
    def log(task: str, n: int) -> Path:
        return tmp_path / f"{task}.{n}"

    task = ledger.submit(NewTask("x", budget=Amount(500)))
    begin(ledger, task, estimate=Amount(80, 0.5))
    shown = show_json(ledger, task, log, limit=Amount(9, 2.0))
    assert shown["budget"] == {
        "tokens": {"limit": 500, "spent": 80, "left": 420},
        "usd": {"limit": 2.0, "spent": 0.5, "left": 1.5},
    }
    (attempt,) = shown["attempts"]
    assert attempt["usage_estimated"] is True
    assert attempt["estimate"] == {"tokens": 80, "usd": 0.5}
    assert attempt["cost_usd"] is None
    assert attempt["usage"]["input_tokens"] is None
