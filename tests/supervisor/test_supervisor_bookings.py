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
from swarm.errors import LedgerError
from swarm.ledger import open_ledger
from swarm.supervisor import books as books_module
from swarm.supervisor.bookings import Bookings
from swarm.supervisor.books import Books


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
