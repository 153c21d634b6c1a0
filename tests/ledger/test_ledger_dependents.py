"""What the end of a task means for those that wait for it."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.core.model import OnFailed, Outcome, TaskState
from swarm.ledger import Ledger, NewTask, SqliteLedger
from swarm.wire.lifeline import Finished

AGENT, AGENT_ID = "swarm-builder-001", "a" * 16
SKIP, RUN, HOLD = OnFailed.SKIP, OnFailed.RUN, OnFailed.HOLD


def add(ledger: Ledger, *after: str, on_failed: OnFailed = HOLD) -> str:
    return ledger.submit(NewTask("x", after=after, on_failed=on_failed))


def end(ledger: Ledger, task: str, outcome: Outcome = Outcome.SUCCEEDED) -> None:
    claimed = ledger.claim(task, AGENT, AGENT_ID, 90.0)
    assert claimed is not None
    ledger.finish(Finished(task, claimed.fence, outcome, reason="so", result="all good"), AGENT)


def state(ledger: Ledger, task: str) -> str:
    found = ledger.task(task)
    assert found is not None
    return str(found.state)


def states(ledger: Ledger, tasks: Iterable[str]) -> list[str]:
    return [state(ledger, task) for task in tasks]


def free(ledger: Ledger, task: str) -> bool:
    found = ledger.task(task)
    return found is not None and found.state is TaskState.QUEUED and not found.blocked


def kinds(ledger: Ledger, task: str) -> list[str]:
    return [event.kind for event in ledger.events(task=task)]


def test_a_task_is_released_by_its_last_dependency(ledger: Ledger) -> None:
    one, two = add(ledger), add(ledger)
    last = add(ledger, one, two)
    end(ledger, one)
    assert not free(ledger, last)
    assert kinds(ledger, last) == ["submitted"]
    end(ledger, two)
    assert free(ledger, last)
    assert kinds(ledger, last) == ["submitted", "released"]


@pytest.mark.parametrize("how", ["failed", "cancelled", "given up", "lost thrice"])
def test_a_bad_end_does_with_each_dependent_what_that_one_wants(ledger: Ledger, how: str) -> None:
    one = add(ledger)
    skips, runs, holds = (add(ledger, one, on_failed=each) for each in (SKIP, RUN, HOLD))
    below = [add(ledger, skips, on_failed=each) for each in (SKIP, RUN, HOLD)]
    if how == "failed":
        end(ledger, one, Outcome.FAILED)
    elif how == "cancelled":
        ledger.cancel(one)
    elif how == "given up":
        assert ledger.give_up(one, "no money")
    else:
        for _ in range(3):
            claimed = ledger.claim(one, AGENT, AGENT_ID, 90.0)
            assert claimed is not None
            ledger.begin(one, claimed.fence, AGENT, 1.0)
            ledger.requeue(one, claimed.fence, "died")
            ledger.hasten(3600.0)
    assert states(ledger, [skips, runs, holds]) == ["skipped", "queued", "queued"]
    assert free(ledger, runs)
    assert not free(ledger, holds)
    assert states(ledger, below) == ["skipped", "queued", "queued"]
    assert free(ledger, below[1])
    assert kinds(ledger, skips)[-1] == "skipped"
    was = "was cancelled" if how == "cancelled" else "failed"
    assert ledger.reason(skips) == f"skipped, as {one} {was}"
    assert ledger.reason(below[0]) == f"skipped, as {skips} was skipped"
    assert ledger.reason(holds) == f"waits for {one} which {was}"


def test_what_needs_a_person_only_holds(ledger: Ledger) -> None:
    one = add(ledger)
    after = [add(ledger, one, on_failed=each) for each in (SKIP, RUN, HOLD)]
    end(ledger, one, Outcome.DENIED)
    assert state(ledger, one) == "needs_human"
    assert states(ledger, after) == ["queued"] * 3
    assert not any(free(ledger, task) for task in after)


def test_a_retry_brings_back_what_was_skipped_because_of_it(ledger: Ledger) -> None:
    top = add(ledger)
    left, right = add(ledger, top, on_failed=SKIP), add(ledger, top, on_failed=SKIP)
    bottom = add(ledger, left, right, on_failed=SKIP)
    end(ledger, top, Outcome.FAILED)
    assert states(ledger, [left, right, bottom]) == ["skipped"] * 3
    ledger.retry(top)
    assert states(ledger, [left, right, bottom]) == ["queued"] * 3
    assert kinds(ledger, bottom)[-1] == "revived"
    for task in (top, left, right, bottom):
        assert free(ledger, task)
        end(ledger, task)
    assert states(ledger, [top, left, right, bottom]) == ["done"] * 4


def test_what_has_two_bad_dependencies_comes_back_with_the_second(ledger: Ledger) -> None:
    one, two = add(ledger), add(ledger)
    last = add(ledger, one, two, on_failed=SKIP)
    end(ledger, one, Outcome.FAILED)
    end(ledger, two, Outcome.FAILED)
    ledger.retry(one)
    assert state(ledger, last) == "skipped"
    assert ledger.reason(last) == f"skipped, as {two} failed"
    ledger.retry(two)
    assert state(ledger, last) == "queued"


def test_a_late_good_report_brings_back_what_its_loss_had_skipped(ledger: Ledger) -> None:
    one = add(ledger)
    last = add(ledger, one, on_failed=SKIP)
    for _ in range(3):
        claimed = ledger.claim(one, AGENT, AGENT_ID, 90.0)
        assert claimed is not None
        ledger.begin(one, claimed.fence, AGENT, 1.0)
        ledger.requeue(one, claimed.fence, "died")
        ledger.hasten(3600.0)
    assert states(ledger, [one, last]) == ["failed", "skipped"]
    ledger.finish(Finished(one, claimed.fence, Outcome.SUCCEEDED, result="yes"), AGENT)
    assert states(ledger, [one, last]) == ["done", "queued"]
    assert free(ledger, last)


def test_what_is_added_after_a_bad_end_is_done_with_at_once(ledger: Ledger) -> None:
    one = add(ledger)
    ledger.cancel(one)
    skips, runs, holds = (add(ledger, one, on_failed=each) for each in (SKIP, RUN, HOLD))
    assert states(ledger, [skips, runs, holds]) == ["skipped", "queued", "queued"]
    assert free(ledger, runs)
    assert not free(ledger, holds)


def test_a_skipped_task_that_is_retried_itself_waits_for_its_dependency(ledger: Ledger) -> None:
    one = add(ledger)
    last = add(ledger, one, on_failed=SKIP)
    end(ledger, one, Outcome.FAILED)
    ledger.retry(last)
    assert state(ledger, last) == "queued"
    assert ledger.reason(last) == f"waits for {one} which failed"
    ledger.retry(one)
    end(ledger, one)
    assert free(ledger, last)


def test_what_it_waited_for_is_told_to_whoever_takes_it(ledger: Ledger) -> None:
    one, other = add(ledger), ledger.submit(NewTask("y", title="The other"))
    last = add(ledger, one, other)
    end(ledger, one)
    end(ledger, other)
    claimed = ledger.claim(last, AGENT, AGENT_ID, 90.0)
    assert claimed is not None
    assert claimed.thread == (
        f"What this waited for: {one}, x: done (answer); it said:\nall good",
        f"What this waited for: {other}, The other: done (answer); it said:\nall good",
    )
    many = add(ledger, *[last] * 2, *(task for task in _done(ledger, 30)))
    ledger.cancel(last)
    ledger.skip(last, release=True)
    told = ledger.claim(many, AGENT, AGENT_ID, 90.0)
    assert told is not None
    assert len(told.thread) == 20


def _done(ledger: Ledger, count: int) -> list[str]:
    tasks = [add(ledger) for _ in range(count)]
    for task in tasks:
        end(ledger, task)
    return tasks


def test_a_chain_of_thousands_is_one_loop(ledger: SqliteLedger) -> None:
    """Nothing is recursive, and the whole of it is one transaction."""
    chain = [add(ledger)]
    for _ in range(3000):
        chain.append(add(ledger, chain[-1], on_failed=SKIP))
    end(ledger, chain[0], Outcome.FAILED)
    assert state(ledger, chain[-1]) == "skipped"
    ledger.retry(chain[0])
    assert state(ledger, chain[-1]) == "queued"


MOVES = ("done", "failed", "cancel", "retry", "skip", "release")


@given(
    st.integers(0, 10_000),
    st.lists(st.tuples(st.sampled_from(MOVES), st.integers(0, 7)), max_size=30),
)
def test_a_task_is_free_exactly_when_nothing_it_needs_holds_it(
    seed: int, moves: list[tuple[str, int]]
) -> None:
    """``blocked`` is the number of unmet dependencies, and no end leaves a skip or run undone."""
    rng = random.Random(seed)
    folder = tempfile.TemporaryDirectory()
    with folder, SqliteLedger(Path(folder.name) / "ledger.db") as ledger:
        tasks: list[str] = []
        for _ in range(8):
            after = rng.sample(tasks, min(len(tasks), rng.randrange(3)))
            tasks.append(add(ledger, *after, on_failed=rng.choice([SKIP, RUN, HOLD])))
        for move, number in moves:
            _try(ledger, move, tasks[number])
            _sound(ledger, tasks)


def _try(ledger: SqliteLedger, move: str, task: str) -> None:
    now = state(ledger, task)
    if move in ("done", "failed") and free(ledger, task):
        end(ledger, task, Outcome.SUCCEEDED if move == "done" else Outcome.FAILED)
    elif move == "cancel" and now in ("queued", "needs_human"):
        ledger.cancel(task)
    elif move == "retry" and now not in ("queued", "running"):
        ledger.retry(task)
    elif move in ("skip", "release") and now != "done":
        ledger.skip(task, release=move == "release")


def _sound(ledger: SqliteLedger, tasks: list[str]) -> None:
    with ledger._database.reading() as db:
        for task in tasks:
            row = db.execute("SELECT * FROM tasks WHERE id = ?", (task,)).fetchone()
            needs = db.execute(
                "SELECT n.state AS state, d.met AS met FROM dependencies d"
                " JOIN tasks n ON n.seq = d.needs WHERE d.task = ?",
                (row["seq"],),
            ).fetchall()
            assert row["blocked"] == sum(not one["met"] for one in needs)
            assert not any(one["state"] == "done" and not one["met"] for one in needs)
            bad = [one for one in needs if not one["met"] and one["state"] in BAD]
            if row["state"] == "queued" and row["on_failed"] == "run":
                assert not bad


BAD = ("failed", "cancelled", "skipped")
