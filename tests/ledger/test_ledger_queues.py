"""Queues: what the same agents can take waits together, and hides nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.core.matching import needs_of
from swarm.errors import UsageError
from swarm.ledger import Ledger, NewTask, SqliteLedger
from swarm.ledger.plan_records import Changes


def queue_of(ledger: Ledger, task: str) -> int:
    found = ledger.task(task)
    assert found is not None
    return found.queue


def test_what_needs_the_same_waits_in_one_queue(ledger: Ledger) -> None:
    one = ledger.submit(NewTask("x", lane="reviews", labels={"vendor": "a", "area": "b"}))
    same = ledger.submit(NewTask("y", lane="reviews", labels={"area": "b", "vendor": "a"}))
    others = [
        ledger.submit(NewTask("z")),
        ledger.submit(NewTask("z", lane="reviews")),
        ledger.submit(NewTask("z", lane="reviews", labels={"vendor": "a"})),
        ledger.submit(NewTask("z", role="qa", lane="reviews", labels={"vendor": "a", "area": "b"})),
    ]
    assert queue_of(ledger, one) == queue_of(ledger, same)
    assert len({queue_of(ledger, task) for task in (one, *others)}) == 5
    waiting = {queue.id: needs_of(queue) for queue in ledger.waiting_queues()}
    needs = waiting[queue_of(ledger, one)]
    assert (needs.role, needs.lane, dict(needs.labels)) == (
        *("builder", "reviews"),
        {"vendor": "a", "area": "b"},
    )
    found = ledger.task(one)
    assert found is not None
    assert needs_of(found) == needs


def test_only_queues_in_which_something_waits_are_told(ledger: Ledger) -> None:
    first = ledger.submit(NewTask("x"))
    ledger.submit(NewTask("y", role="qa", after=(first,)))
    assert [queue.role for queue in ledger.waiting_queues()] == ["builder"]
    assert ledger.claim(first, "swarm-builder-001", "a" * 16, 90.0)
    assert ledger.waiting_queues() == []


def test_of_several_queues_the_first_come_first(ledger: Ledger) -> None:
    low = ledger.submit(NewTask("low", priority=-1))
    urgent = ledger.submit(NewTask("urgent", lane="a", priority=5))
    for number in range(20):
        ledger.submit(NewTask(f"many {number}", lane="b", priority=9))
    mine = [queue_of(ledger, low), queue_of(ledger, urgent)]
    assert [task.id for task in ledger.ready(mine, 5)] == [urgent, low]
    assert [task.id for task in ledger.ready(mine, 1)] == [urgent]
    assert ledger.ready([], 5) == []
    assert len(ledger.ready([queue_of(ledger, urgent) + 1], 5)) == 5


def test_a_changed_task_moves_to_its_queue(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("x"))
    before = queue_of(ledger, task)
    ledger.edit(task, Changes(lane="reviews", labels={"effort": "high"}, priority=7))
    after = queue_of(ledger, task)
    assert after != before
    assert ledger.ready([before], 5) == []
    (found,) = ledger.ready([after], 5)
    assert (found.id, found.lane, found.labels, found.priority) == (
        *(task, "reviews"),
        *({"effort": "high"}, 7),
    )


def test_tasks_are_listed_by_what_they_need(ledger: Ledger) -> None:
    plain = ledger.submit(NewTask("x"))
    lane = ledger.submit(NewTask("x", lane="reviews", thread="t-1"))
    both = ledger.submit(NewTask("x", lane="reviews", labels={"a": "1", "b": "2"}))
    one = ledger.submit(NewTask("x", labels={"a": "1"}))

    def ids(**wanted: object) -> list[str]:
        return [task.id for task in ledger.tasks(**wanted)]  # type: ignore[arg-type]

    assert ids(lane="reviews") == [lane, both]
    assert ids(lane="") == [plain, one]
    assert ids(labels={"a": "1"}) == [both, one]
    assert ids(labels={"a": "1", "b": "2"}) == [both]
    assert ids(labels={"a": "2"}) == []
    assert ids(thread="t-1") == [lane]
    assert ids(plan="p-none") == []


@pytest.mark.parametrize(
    "new",
    [
        NewTask("x", lane="No Lane"),
        NewTask("x", lane="*"),
        NewTask("x", labels={"": "x"}),
        NewTask("x", labels={"key": ""}),
        NewTask("x", labels={"key": "x" * 65}),
        NewTask("x", labels={"key": "a\nb"}),
        NewTask("x", labels={f"k{number}": "x" for number in range(17)}),
        NewTask("x", thread="a b"),
        NewTask("x", parent="t-nothere0"),
    ],
)
def test_what_cannot_be_needed_is_refused(ledger: Ledger, new: NewTask) -> None:
    with pytest.raises(UsageError):
        ledger.submit(new)
    assert ledger.waiting_queues() == []


def test_many_notes_are_one_change(ledger: Ledger) -> None:
    ledger.note_all({"queue:1": "nobody", "queue:2": "nobody", "gate": "full"})
    ledger.note_all({"queue:1": "", "queue:3": "x"})
    assert ledger.notes() == {"queue:2": "nobody", "gate": "full", "queue:3": "x"}


def test_a_thousand_queues_and_many_tasks_cost_one_seek_a_queue(tmp_path: Path) -> None:
    """Said in SQLite's own steps, not in seconds: 20 tasks in each queue are never walked."""
    with SqliteLedger(tmp_path / "ledger.db") as ledger:
        ledger.submit(NewTask("first", labels={"area": "n0"}))
        with ledger._database.writing() as db:
            row = dict(db.execute("SELECT * FROM tasks").fetchone())
            del row["seq"], row["id"], row["queue"]
            columns, marks = ", ".join(row), ", ".join("?" * len(row))
            for number in range(2, 1001):
                db.execute(
                    "INSERT INTO queues (id, role, lane, labels) VALUES (?, 'builder', '', ?)",
                    (number, f'{{"area":"n{number}"}}'),
                )
                db.executemany(
                    f"INSERT INTO tasks (id, queue, {columns}) VALUES (?, ?, {marks})",
                    [(f"t-{number}-{n}", number, *row.values()) for n in range(20)],
                )
        steps = [0]

        def step() -> int:
            steps[0] += 1
            return 0

        with ledger._database.reading() as db:
            db.set_progress_handler(step, 100)
        assert len(ledger.waiting_queues()) == 1000
        first = steps[0]
        assert len(ledger.waiting_queues()) == 1000
        with ledger._database.reading() as db:
            db.set_progress_handler(None, 0)
    assert steps[0] - first <= 1000, "more than a hundred steps a queue"
