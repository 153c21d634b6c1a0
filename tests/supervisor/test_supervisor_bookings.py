"""The supervisor's pauses and a ledger that is held locked: nobody waits, nothing is lost."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from swarm.config.places import Places
from swarm.core.fleet_effects import DropPause, EndQuotaWaits, KeepPause
from swarm.core.model import Merge, Outcome, Review, TaskResult, TaskState
from swarm.errors import LedgerError
from swarm.ledger import NewTask, Task, open_ledger
from swarm.supervisor import books as books_module
from swarm.supervisor.bookings import Bookings
from swarm.supervisor.books import Books
from swarm.wire.lifeline import Finished, LandingRules, RoleRules, Rules


class Clock:
    """A loop's ``call_later``, run by hand."""

    def __init__(self) -> None:
        self.waiting: list[tuple[float, Any]] = []

    def call_later(self, seconds: float, call: Any) -> Any:
        entry = (seconds, call)
        self.waiting.append(entry)
        return SimpleNamespace(cancel=self.waiting.clear)

    def run(self) -> float:
        """Carry out the one timer; how long it was set for."""
        ((seconds, call),) = self.waiting
        self.waiting.clear()
        call()
        return seconds


@pytest.fixture
def places(home: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    monkeypatch.setattr(books_module, "PATIENCE_SECONDS", 0.0)
    return Places(home)


@pytest.fixture
def writer(places: Places) -> Iterator[sqlite3.Connection]:
    """Another process in the middle of a transaction, stopped there."""
    with open_ledger(places.ledger):
        pass
    db = sqlite3.connect(places.ledger, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    yield db
    db.close()


def scopes(places: Places) -> dict[str, str]:
    with open_ledger(places.ledger) as ledger:
        return {one.scope: one.reason for one in ledger.pauses()}


def test_what_a_locked_ledger_does_not_take_is_written_when_it_does(
    places: Places, writer: sqlite3.Connection
) -> None:
    clock, logged = Clock(), []
    log: Any = SimpleNamespace(write=lambda kind, error: logged.append(error))
    loop: Any = clock
    bookings = Bookings(loop, Books(places), log)
    bookings.add(KeepPause("quota:claude", "used up", 9e9))
    bookings.add(KeepPause("swarm", "tea"))
    bookings.add(DropPause("swarm"))
    bookings.add(EndQuotaWaits())
    bookings.add(EndQuotaWaits())
    assert len(bookings) == 3
    assert [clock.run() for _ in range(7)] == [0.5, 1, 2, 4, 8, 10, 10]
    assert len(logged) == 1
    assert "locked" in logged[0]
    assert scopes(places) == {}
    writer.execute("ROLLBACK")
    clock.run()
    assert (len(bookings), clock.waiting) == (0, [])
    assert scopes(places) == {"quota:claude": "used up"}
    bookings.add(DropPause("quota:claude"))
    assert scopes(places) == {}
    bookings.close()


def test_what_is_left_at_the_end_is_tried_a_last_time(
    places: Places, writer: sqlite3.Connection
) -> None:
    clock = Clock()
    loop: Any = clock
    log: Any = SimpleNamespace(write=lambda kind, error: None)
    bookings = Bookings(loop, Books(places), log)
    bookings.add(KeepPause("swarm", "tea"))
    writer.execute("ROLLBACK")
    bookings.close()
    assert clock.waiting == []
    assert scopes(places) == {"swarm": "tea"}


def test_no_call_of_the_loop_waits_for_a_locked_ledger(
    places: Places, writer: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is given the short patience, whatever an ordinary caller's is."""
    asked: list[float | None] = []

    def spy(path: Path, patience: float | None = None) -> Any:
        asked.append(patience)
        return open_ledger(path, patience)

    monkeypatch.setattr(books_module, "open_ledger", spy)
    books = Books(places)
    books.spending((), daily=False)  # readers do not wait for the writer at all
    with pytest.raises(LedgerError, match="locked"):
        books.pause("swarm", "", None)
    with pytest.raises(LedgerError, match="locked"):
        books.resume("swarm")
    with pytest.raises(LedgerError, match="locked"):
        books.end_quota_waits()
    assert asked == [0.0] * 4


TIP = "1" * 40
DONE: dict[str, Any] = {"outcome": Outcome.SUCCEEDED, "commit": TIP, "commits": 1}
FAILED: dict[str, Any] = {"outcome": Outcome.FAILED, "reason": "no idea"}


def taken_in(
    places: Places, rules: Rules | None, how: dict[str, Any], new: NewTask | None = None
) -> Task:
    """A report that waited in an outbox at the stop, taken in twice; its task then."""
    with open_ledger(places.ledger) as ledger:
        task = ledger.submit(new or NewTask("mend it", role="builder"))
        claimed = ledger.claim(task, "swarm-builder-001", "a" * 16, 90.0)
        assert claimed is not None
        ledger.begin(task, claimed.fence, "swarm-builder-001", 1.0)
        report = Finished(task=task, fence=claimed.fence, branch="swarm/x", **how)
        books = Books(places, None if rules is None else lambda: rules)
        for _ in range(2):
            books.take_in([("swarm-builder-001", report)])
        found = ledger.task(task)
        assert len(ledger.attempts(task)) == 1
    assert found is not None
    return found


def rules(merge: Merge = Merge.SQUASH, retries: int = 0, review: Review = Review.NONE) -> Rules:
    roles = {"builder": RoleRules(retries=retries, retry_seconds=60.0)}
    return Rules((), (), roles, landing=LandingRules(merge=merge, review=review))


def test_a_report_taken_in_at_the_stop_is_decided_by_the_rules(places: Places) -> None:
    """As the coordinator would have: by its own word, its role's, the repository's."""
    kept = taken_in(places, rules(Merge.NONE), DONE)
    assert (kept.state, kept.result) == (TaskState.DONE, TaskResult.BRANCH)
    own = taken_in(places, rules(), DONE, NewTask("x", role="builder", merge=Merge.NONE))
    assert (own.state, own.result) == (TaskState.DONE, TaskResult.BRANCH)
    assert taken_in(places, rules(), DONE).state is TaskState.LANDING
    assert taken_in(places, rules(review=Review.HUMAN), DONE).state is TaskState.REVIEW
    again = taken_in(places, rules(retries=1), FAILED)
    assert (again.state, again.retries) == (TaskState.QUEUED, 1), "once, however often it is told"
    assert again.not_before is not None
    assert taken_in(places, rules(), FAILED).state is TaskState.FAILED


def test_without_rules_a_report_taken_in_is_left_for_the_coordinator(places: Places) -> None:
    undecided = taken_in(places, None, DONE)
    assert (undecided.state, undecided.approved) == (TaskState.LANDING, None)
    assert taken_in(places, None, FAILED).state is TaskState.FAILED
