"""Plans in the ledger: taken in whole, ordered about, changed while they run."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from queue_values import ready

from swarm.core.budget import Amount
from swarm.core.model import OnFailed, Outcome, TaskKind, TaskState
from swarm.errors import LedgerError, UsageError
from swarm.ledger import (
    Changes,
    Ledger,
    NewPlan,
    NewTask,
    PlannedTask,
    PlanState,
    SqliteLedger,
    open_ledger,
)
from swarm.wire.lifeline import Finished

AGENT, AGENT_ID = "swarm-builder-001", "a" * 16


def planned(
    key: str, *after: str, on_failed: OnFailed = OnFailed.HOLD, **more: object
) -> PlannedTask:
    return PlannedTask(key, NewTask(f"do {key}", on_failed=on_failed, **more), after)  # type: ignore[arg-type]


DIAMOND = (planned("d", "b", "c"), planned("a"), planned("b", "a"), planned("c", "a"))


def end(ledger: Ledger, task: str, outcome: Outcome = Outcome.SUCCEEDED, **more: object) -> None:
    claimed = ledger.claim(task, AGENT, AGENT_ID, 90.0)
    assert claimed is not None
    ledger.finish(Finished(task, claimed.fence, outcome, **more), AGENT)  # type: ignore[arg-type]


def queued(ledger: Ledger) -> list[str]:
    return [task.plan_key for task in ready(ledger, ["builder"], 100)]


def state(ledger: Ledger, plan: str) -> PlanState:
    return ledger.find_plan(plan).state


def test_a_plan_is_taken_in_whole_with_its_order(ledger: Ledger) -> None:
    done = ledger.apply_plan(NewPlan(DIAMOND, title="  The\nplan ", source="text"))
    assert done.fresh
    assert list(done.tasks) == ["d", "a", "b", "c"]
    found = ledger.find_plan(done.id)
    assert (found.title, found.state, found.total) == ("The plan", PlanState.ACTIVE, 4)
    assert ledger.plan_source(done.id) == "text"
    assert [task.plan_key for task in ledger.plan_tasks(done.id)] == ["d", "a", "b", "c"]
    assert ledger.plan_needs(done.id)[done.tasks["d"]] == (done.tasks["b"], done.tasks["c"])
    assert ledger.plan_task(done.id, "b") == done.tasks["b"]
    assert ledger.find(f"{done.id}/b").id == done.tasks["b"]
    assert ledger.find_plan(done.id[2:7]).id == done.id
    for key, then in (("a", ["b", "c"]), ("b", ["c"]), ("c", ["d"]), ("d", [])):
        assert key in queued(ledger)
        end(ledger, done.tasks[key])
        assert queued(ledger) == then
    assert state(ledger, done.id) is PlanState.DONE
    assert ledger.find_plan(done.id).ended_at is not None
    (over,) = [event for event in ledger.events() if event.kind == "plan"]
    assert (over.task, over.detail) == (done.tasks["d"], f"{done.id} is over: 4 done")


@pytest.mark.parametrize(
    ("tasks", "told"),
    [
        ((), "holds no task"),
        ((planned("a"), planned("a")), "two tasks have the key 'a'"),
        ((planned("a b"),), "cannot be a task's key"),
        ((planned("a", "z"),), "a is after 'z', which no task of the plan is"),
        ((planned("a", "b"), planned("b", "a")), "wait for each other: a, b"),
        ((planned("a", "a"),), "wait for each other: a"),
        ((planned("a"), PlannedTask("b", NewTask(""))), "the task's text is empty"),
        ((planned("a"), planned("b", role="No")), "cannot be a role's name"),
        ((planned("a"), PlannedTask("b", NewTask("x", after=("t-nothere0",)))), "no task 't-noth"),
    ],
)
def test_what_cannot_be_takes_in_nothing(
    ledger: Ledger, tasks: tuple[PlannedTask, ...], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        ledger.apply_plan(NewPlan(tasks))
    assert ledger.plans() == []
    assert sum(ledger.counts().values()) == 0
    assert ledger.last_event() == 0


def test_a_killed_apply_leaves_nothing(tmp_path: Path) -> None:
    """All of it is one transaction: the file of a process killed in the middle holds no task."""
    path = tmp_path / "ledger.db"
    with SqliteLedger(path) as ledger:
        ledger._database._db.execute(
            "CREATE TRIGGER full BEFORE INSERT ON tasks WHEN NEW.plan_key = 'c'"
            " BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
        with pytest.raises(LedgerError):
            ledger.apply_plan(NewPlan(DIAMOND))
        assert ledger.plans() == []
        assert ledger.tasks() == []


def test_the_same_reference_is_the_same_plan(ledger: Ledger) -> None:
    first = ledger.apply_plan(NewPlan(DIAMOND, reference="sha256:1"))
    again = ledger.apply_plan(NewPlan((planned("other"),), reference="sha256:1"))
    assert (again.id, again.tasks, again.fresh) == (first.id, first.tasks, False)
    assert ledger.apply_plan(NewPlan(DIAMOND)).id != first.id
    assert ledger.apply_plan(NewPlan(DIAMOND)).fresh
    assert len(ledger.plans()) == 3


def test_submits_in_one_moment_never_collide(tmp_path: Path, ledger: Ledger) -> None:
    """Ids say nothing of the clock: many at once, of several processes, are all there."""
    path = tmp_path / "many.db"
    open_ledger(path).close()
    found: list[str] = []

    def submit() -> None:
        with open_ledger(path, 30.0) as own:
            found.extend(own.submit(NewTask("x")) for _ in range(50))
            found.extend(own.apply_plan(NewPlan((planned("a"), planned("b")))).tasks.values())

    threads = [threading.Thread(target=submit) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == len(found) == 6 * 52
    with open_ledger(path) as own:
        assert len(own.tasks(limit=1000)) == 6 * 52
        assert len({plan.id for plan in own.plans()}) == 6


def test_a_paused_plan_starts_nothing(ledger: Ledger) -> None:
    plan = ledger.apply_plan(NewPlan(DIAMOND, paused=True))
    assert queued(ledger) == []
    assert state(ledger, plan.id) is PlanState.PAUSED
    assert ledger.reason(plan.tasks["a"]) == "its plan is paused"
    assert ledger.claim(plan.tasks["a"], AGENT, AGENT_ID, 90.0) is None
    assert ledger.resume_plan(plan.id).state is PlanState.ACTIVE
    end(ledger, plan.tasks["a"])
    assert ledger.pause_plan(plan.id).state is PlanState.PAUSED
    assert queued(ledger) == []
    ledger.extend_plan(plan.id, [planned("e")])
    assert queued(ledger) == []
    ledger.resume_plan(plan.id)
    assert queued(ledger) == ["b", "c", "e"]


def test_a_cancelled_plan_ends_all_that_lives(ledger: Ledger) -> None:
    tasks = (*DIAMOND, planned("e", "a", on_failed=OnFailed.SKIP))
    plan = ledger.apply_plan(NewPlan(tasks))
    outside = ledger.submit(NewTask("x", after=(plan.tasks["d"],), on_failed=OnFailed.RUN))
    end(ledger, plan.tasks["a"])
    running = ledger.claim(plan.tasks["b"], AGENT, AGENT_ID, 90.0)
    assert running is not None
    cancelled = ledger.cancel_plan(plan.id)
    assert {task.plan_key: task.held for task in cancelled} == {
        "b": True,
        "c": False,
        "d": False,
        "e": False,
    }
    assert state(ledger, plan.id) is PlanState.CANCELLED
    assert ledger.counts()["skipped"] == 0
    assert queued(ledger) == [""]
    assert ready(ledger, ["builder"], 5)[0].id == outside
    ledger.finish(Finished(plan.tasks["b"], running.fence, Outcome.SUCCEEDED), AGENT)
    assert state(ledger, plan.id) is PlanState.CANCELLED
    for order in (ledger.cancel_plan, ledger.pause_plan, ledger.resume_plan):
        with pytest.raises(UsageError):
            order(plan.id)
    with pytest.raises(UsageError, match="is cancelled"):
        ledger.extend_plan(plan.id, [planned("f")])
    ledger.retry(plan.tasks["c"])
    assert state(ledger, plan.id) is PlanState.ACTIVE


def test_a_plan_that_cannot_go_on_has_failed(ledger: Ledger) -> None:
    """``hold`` keeps what waits, but nothing of it moves by itself: people must see that."""
    outside = ledger.submit(NewTask("x"))
    plan = ledger.apply_plan(
        NewPlan((planned("a"), planned("b", "a"), PlannedTask("c", NewTask("x", after=(outside,)))))
    )
    end(ledger, plan.tasks["a"], Outcome.FAILED)
    assert state(ledger, plan.id) is PlanState.ACTIVE  # c may still run
    ledger.cancel(outside)
    assert state(ledger, plan.id) is PlanState.FAILED
    assert ledger.find_plan(plan.id).ended_at is None
    ledger.retry(plan.tasks["a"])
    assert state(ledger, plan.id) is PlanState.ACTIVE
    end(ledger, plan.tasks["a"], Outcome.DENIED)
    assert state(ledger, plan.id) is PlanState.ACTIVE  # a person may answer
    ledger.skip(plan.tasks["a"], release=True)
    end(ledger, plan.tasks["b"])
    ledger.skip(plan.tasks["c"])
    assert state(ledger, plan.id) is PlanState.FAILED
    assert ledger.find_plan(plan.id).ended_at is not None


def test_a_follow_up_begins_when_the_earlier_plan_is_through(ledger: Ledger) -> None:
    first = ledger.apply_plan(NewPlan(DIAMOND))
    end(ledger, first.tasks["a"])
    key = PlannedTask("y", NewTask("y", after=(first.tasks["a"],)))
    then = ledger.apply_plan(NewPlan((planned("x"), key, planned("z", "x")), follows=first.id))
    assert ledger.find_plan(then.id).follows == first.id
    assert set(queued(ledger)) == {"b", "c", "y"}
    for one in ("b", "c", "d"):
        end(ledger, first.tasks[one])
    assert queued(ledger) == ["x", "y"]
    late = ledger.apply_plan(NewPlan((planned("x"),), follows=first.id))
    assert ledger.claim(late.tasks["x"], AGENT, AGENT_ID, 90.0) is not None
    with pytest.raises(UsageError, match="there is no plan"):
        ledger.apply_plan(NewPlan(DIAMOND, follows="p-nothere0"))


def test_tasks_are_added_to_a_plan_while_it_runs(ledger: Ledger) -> None:
    plan = ledger.apply_plan(NewPlan((planned("a"),)))
    end(ledger, plan.tasks["a"])
    assert state(ledger, plan.id) is PlanState.DONE
    ledger.extend_plan(plan.id, [planned("b", "a", "c"), planned("c")])
    assert state(ledger, plan.id) is PlanState.ACTIVE
    assert ledger.find_plan(plan.id).ended_at is None
    assert queued(ledger) == ["c"]
    for bad, told in (
        (planned("a"), "two tasks have the key"),
        (planned("d", "nowhere"), "no task of the plan"),
    ):
        with pytest.raises(UsageError, match=told):
            ledger.extend_plan(plan.id, [bad])
    assert ledger.find_plan(plan.id).total == 3


def test_a_plan_that_a_session_wrote_is_kept(ledger: Ledger) -> None:
    task = ledger.submit(NewTask("the goal", role="planner", kind=TaskKind.PLAN))
    assert ledger.made_plan(task) == ""
    end(ledger, task, review="- {key: a, text: x}\n\ttab", result="made it")
    assert ledger.made_plan(task) == "- {key: a, text: x}\n\ttab"
    found = ledger.task(task)
    assert found is not None
    assert found.state is TaskState.DONE
    ledger.retry(task)
    end(ledger, task, review="- better")
    assert ledger.made_plan(task) == "- better"
    other = ledger.submit(NewTask("x"))
    end(ledger, other, review="- {text: x}")
    assert ledger.made_plan(other) == ""


def test_a_waiting_task_can_be_changed(ledger: Ledger) -> None:
    first, second = ledger.submit(NewTask("one")), ledger.submit(NewTask("two", priority=1))
    last = ledger.submit(NewTask("three", after=(first,)))
    changed = ledger.edit(
        last,
        Changes(
            prompt="Better words",
            role="qa",
            component="parser",
            priority=9,
            labels={"effort": "low"},
            after=(second,),
            on_failed=OnFailed.RUN,
            budget=Amount(tokens=5),
        ),
    )
    assert (changed.title, changed.role, changed.component) == ("Better words", "qa", "parser")
    assert (changed.priority, changed.labels, changed.blocked) == (9, {"effort": "low"}, 1)
    assert (changed.on_failed, changed.budget) == (OnFailed.RUN, Amount(tokens=5))
    assert ledger.prompt(last) == "Better words"
    assert [task.id for task in ledger.waits_for(last)] == [second]
    end(ledger, first)
    end(ledger, second)
    assert [task.id for task in ready(ledger, ["qa"], 5)] == [last]
    (event,) = [one for one in ledger.events(task=last) if one.kind == "edited"]
    assert event.detail == "prompt role component priority labels after on_failed budget"
    ledger.edit(last, Changes(title="Named"))
    assert ledger.edit(last, Changes(prompt="Other words")).title == "Named"
    assert ledger.edit(last, Changes(after=())).blocked == 0


def test_what_cannot_be_changed_is_refused_and_stays(ledger: Ledger) -> None:
    one = ledger.submit(NewTask("one"))
    two = ledger.submit(NewTask("two", after=(one,)))
    three = ledger.submit(NewTask("three", after=(two,)))

    def refused(task: str, changes: Changes, told: str) -> None:
        with pytest.raises(UsageError, match=told) as caught:
            ledger.edit(task, changes)
        assert caught.value.remedy

    refused(one, Changes(), "nothing to change")
    refused(one, Changes(after=(three,)), f"cannot wait for {three}, which waits for it")
    refused(one, Changes(after=(one,)), "which waits for it")
    refused(one, Changes(after=("t-nothere0",)), "there is no task")
    refused(one, Changes(role="No"), "cannot be a role's name")
    refused(one, Changes(prompt=" ", priority=5), "text is empty")
    refused(one, Changes(priority=101), "out of range")
    assert ledger.prompt(one) == "one"
    claimed = ledger.claim(one, AGENT, AGENT_ID, 90.0)
    assert claimed is not None
    refused(one, Changes(prompt="x", priority=5), "is running: its prompt cannot be changed")
    assert ledger.edit(one, Changes(priority=5)).priority == 5
    ledger.finish(Finished(one, claimed.fence, Outcome.SUCCEEDED), AGENT)
    refused(one, Changes(priority=6), "is done")


def test_a_changed_mind_about_failures_counts_at_once(ledger: Ledger) -> None:
    one = ledger.submit(NewTask("one"))
    runs, skips = (ledger.submit(NewTask("x", after=(one,))) for _ in range(2))
    end(ledger, one, Outcome.FAILED)
    assert queued(ledger) == []
    assert ledger.edit(runs, Changes(on_failed=OnFailed.RUN)).blocked == 0
    assert ledger.edit(skips, Changes(on_failed=OnFailed.SKIP)).state is TaskState.SKIPPED


def test_a_task_is_left_out_by_hand(ledger: Ledger) -> None:
    one = ledger.submit(NewTask("one"))
    held = ledger.submit(NewTask("x", after=(one,)))
    skips = ledger.submit(NewTask("x", after=(one,), on_failed=OnFailed.SKIP))
    assert ledger.skip(one).state is TaskState.SKIPPED
    assert ledger.reason(one) == "skipped by hand"
    assert ledger.reason(held) == f"waits for {one} which was skipped"
    assert ledger.reason(skips) == f"skipped, as {one} was skipped"
    ledger.skip(skips)
    ledger.retry(one)
    assert ledger.reason(skips) == "skipped by hand"  # it stays out
    ledger.skip(one, release=True)
    assert [task.id for task in ready(ledger, ["builder"], 5)] == [held]
    claimed = ledger.claim(held, AGENT, AGENT_ID, 90.0)
    assert claimed is not None
    with pytest.raises(UsageError, match="is running"):
        ledger.skip(held)
    ledger.finish(Finished(held, claimed.fence, Outcome.SUCCEEDED), AGENT)
    with pytest.raises(UsageError, match="is done"):
        ledger.skip(held)


def test_finding_a_plan(ledger: Ledger) -> None:
    ids = [ledger.apply_plan(NewPlan((planned("a"),))).id for _ in range(40)]
    for nothing in ("", "p-", "zzzzzzzz", "%", "p-' OR 1=1"):
        with pytest.raises(UsageError):
            ledger.find_plan(nothing)
    crowded = next(one[:3] for one in ids if sum(other[:3] == one[:3] for other in ids) > 1)
    with pytest.raises(UsageError, match="more than one plan"):
        ledger.find_plan(crowded)
    assert [plan.id for plan in ledger.plans(3)] == ids[-3:]


def test_an_end_looks_at_few_rows_of_a_large_plan(tmp_path: Path) -> None:
    """By an index, newest first: a task's end costs the same in a plan of any size."""
    with SqliteLedger(tmp_path / "ledger.db") as ledger:
        plan = ledger.apply_plan(NewPlan(tuple(planned(str(n)) for n in range(3000))))
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        db: sqlite3.Connection = ledger._database._db
        db.set_progress_handler(count, 100)
        end(ledger, plan.tasks["0"])
        db.set_progress_handler(None, 0)
    assert steps < 50  # hundreds of rows would be thousands of steps of SQLite's machine
