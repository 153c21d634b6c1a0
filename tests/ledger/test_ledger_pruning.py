"""Old events go, what tells a task's story stays."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests_support import eventually_async

from swarm.core.model import Outcome
from swarm.ledger import SqliteLedger, pruning
from swarm.ledger.database import Database
from swarm.ledger.interface import NewTask
from swarm.ledger.pruning import KEEP_DAYS, keep_pruned, prune_batch
from swarm.wire.lifeline import Finished

START = 1_800_000_000.0
DAY = 86400.0


class Clock:
    now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[SqliteLedger]:
    with SqliteLedger(tmp_path / "ledger.db", clock) as made:
        yield made


@pytest.fixture
def database(ledger: SqliteLedger, tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "ledger.db")
    yield made
    made.close()


def run_one(ledger: SqliteLedger, clock: Clock, *, end: bool = True) -> str:
    """A task that was claimed, begun and (perhaps) ended: four events."""
    task = ledger.submit(NewTask(prompt="x", role="builder"))
    claimed = ledger.claim(task, "swarm-builder-001", "0" * 16, 90)
    assert claimed is not None
    ledger.begin(task, claimed.fence, "swarm-builder-001", clock())
    if end:
        ledger.finish(
            Finished(task=task, fence=claimed.fence, outcome=Outcome.SUCCEEDED),
            "swarm-builder-001",
        )
    return task


def prune(database: Database, now: float, **how: int) -> int:
    dropped, at = 0, 0
    while True:
        found, after = prune_batch(database, at, now, **how)
        dropped += found
        if after is None:
            return dropped
        at = after


def kinds(ledger: SqliteLedger, task: str) -> list[str]:
    return [event.kind for event in ledger.events(task=task)]


def test_of_an_ended_task_s_old_events_the_first_and_the_last_stay(
    ledger: SqliteLedger, database: Database, clock: Clock
) -> None:
    task = run_one(ledger, clock)
    before = kinds(ledger, task)
    last = ledger.last_event()
    assert prune(database, START + KEEP_DAYS * DAY - 60) == 0, "young enough"
    assert kinds(ledger, task) == before
    assert prune(database, START + KEEP_DAYS * DAY + 60) == len(before) - 2
    assert kinds(ledger, task) == [before[0], before[-1]]
    assert ledger.last_event() == last, "watchers go by the highest number"
    assert prune(database, START + KEEP_DAYS * DAY + 60) == 0


def test_a_task_that_has_not_ended_keeps_all_of_its_story(
    ledger: SqliteLedger, database: Database, clock: Clock
) -> None:
    task = run_one(ledger, clock, end=False)
    run_one(ledger, clock)
    before = kinds(ledger, task)
    assert prune(database, START + 400 * DAY) > 0
    assert kinds(ledger, task) == before


def test_what_task_show_and_the_totals_are_made_of_stays(
    ledger: SqliteLedger, database: Database, clock: Clock
) -> None:
    task = run_one(ledger, clock)
    shown, attempts, usage = ledger.task(task), ledger.attempts(task), ledger.usage()
    assert prune(database, START + 400 * DAY) > 0
    assert (ledger.task(task), ledger.attempts(task), ledger.usage()) == (shown, attempts, usage)


def test_more_than_are_kept_go_however_young_and_batch_by_batch(
    ledger: SqliteLedger, database: Database, clock: Clock
) -> None:
    tasks = [run_one(ledger, clock) for _ in range(6)]
    each = len(kinds(ledger, tasks[0]))
    assert prune(database, START, keep_events=2 * each, batch=3) == 4 * (each - 2)
    assert [len(kinds(ledger, task)) for task in tasks] == [2] * 4 + [each] * 2


async def test_it_is_done_at_the_start_and_trouble_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    with SqliteLedger(tmp_path / "ledger.db", clock) as ledger:
        clock.now = 1_000_000_000.0  # long ago by the real clock
        run_one(ledger, clock)
    told: list[Any] = []
    pruner = asyncio.create_task(keep_pruned(tmp_path / "ledger.db", told.append, told.append))
    await eventually_async(lambda: told)
    pruner.cancel()
    (tmp_path / "bad.db").write_text("no database, but text that is long enough to be read as one")
    monkeypatch.setattr(pruning, "EVERY_SECONDS", 3600.0)
    failing = asyncio.create_task(keep_pruned(tmp_path / "bad.db", told.append, told.append))
    await eventually_async(lambda: len(told) == 2)
    failing.cancel()
    await asyncio.gather(pruner, failing, return_exceptions=True)
    assert isinstance(told[0], int)
    assert "bad.db" in told[1]
