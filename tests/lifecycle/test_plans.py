"""Plans over a real fleet: order, landed work below a child's start, and a plan from a session."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from swarm_support import Swarm
from tests_support import HELD, eventually

from swarm.core.model import TaskResult, TaskState
from swarm.ledger import PlanState, open_ledger


def applied(swarm: Swarm, text: str, *options: str) -> tuple[str, dict[str, str]]:
    """Apply a plan by the command line; its id, and its tasks' ids by key."""
    file = swarm.root / "plan.yaml"
    file.write_text(text)
    told = json.loads(swarm.must("plan", "apply", str(file), "--json", *options))
    return told["id"], {one["key"]: one["id"] for one in told["tasks"]}


def test_a_child_starts_while_its_parents_siblings_still_run(swarm: Swarm) -> None:
    """No barrier between waves: what a task waits for are its own dependencies, nothing else."""
    swarm.up()
    _, ids = applied(
        swarm,
        "- {key: quick, text: answer the seven}\n"
        f"- {{key: slow, text: {json.dumps(HELD)}}}\n"
        "- {key: child, text: answer so, after: quick}\n"
        "- {key: last, text: answer end, after: [slow, child]}\n",
    )
    quick, child = swarm.ended([ids["quick"], ids["child"]])
    assert (quick.state, child.state) == (TaskState.DONE, TaskState.DONE)
    assert swarm.task(ids["slow"]).state is TaskState.RUNNING
    assert swarm.task(ids["last"]).state is TaskState.QUEUED
    (agent,) = swarm.agents("active")
    (swarm.clone(agent) / "go").touch()
    swarm.ended([ids["last"]])


@pytest.mark.slow
def test_a_child_starts_from_the_target_that_holds_its_parents_work(swarm: Swarm) -> None:
    """A dependency is done when it has landed, so whoever waits for it sees what it made."""
    swarm.configure(repo={"merge": "squash"})
    swarm.up()
    plan, ids = applied(
        swarm,
        '- {key: one, text: "write one.txt 1\\ncommit one"}\n'
        '- {key: two, text: "write two.txt 2\\ncommit two"}\n'
        '- {key: sum, text: "run cat one.txt two.txt > sum.txt\\ncommit sum", after: [one, two]}\n',
    )
    tasks = swarm.ended(list(ids.values()))
    assert [(task.state, task.result) for task in tasks] == [
        (TaskState.DONE, TaskResult.MERGED)
    ] * 3, swarm.log_tail()
    assert swarm.git("show", "main:sum.txt", cwd=swarm.hub()) == "1\n2"
    assert f"{plan} done: 3 of 3 done" in swarm.must("plan", "wait", plan)


@pytest.mark.slow
def test_a_session_makes_a_plan_that_the_fleet_carries_out(swarm: Swarm) -> None:
    swarm.configure(agents=[{"role": "builder", "count": 2}, {"role": "planner", "count": 1}])
    swarm.up()
    made = (
        "- {key: a, text: answer first}\\n"
        "- {key: b, text: answer second, after: a}\\n"
        "- {key: c, text: fail no, after: b}\\n"
        "- {key: d, text: answer never, after: c, on_failed: skip}\\n"
    )
    said = swarm.must("plan", "make", f"out plan.yaml {made}", "--apply", "--yes")
    plan = said.split()[-1]
    ended = swarm.agentctl("plan", "wait", plan)
    assert ended.returncode == 3
    assert "2 of 4 done, 1 failed, 1 skipped" in ended.stderr
    with open_ledger(swarm.places.ledger) as ledger:
        states = {task.plan_key: str(task.state) for task in ledger.plan_tasks(plan)}
        assert ledger.find_plan(plan).state is PlanState.FAILED
        (planning,) = [task for task in ledger.tasks() if task.kind == "plan"]
    assert states == {"a": "done", "b": "done", "c": "failed", "d": "skipped"}
    assert (planning.state, planning.result) == (TaskState.DONE, TaskResult.ANSWER)
    target = Path(swarm.root / "again.yaml")
    swarm.must("plan", "make", "--task", planning.id, "--out", str(target))
    assert target.read_text().startswith("- {key: a")


def test_a_cancelled_plan_ends_its_running_sessions(swarm: Swarm) -> None:
    swarm.up()
    plan, ids = applied(swarm, f"- {{key: a, text: {json.dumps(HELD)}}}\n- {{text: b, after: a}}\n")
    swarm.active(1)
    assert "is cancelled: 2 tasks; 1 of them run" in swarm.must("plan", "cancel", plan)
    eventually(lambda: not swarm.agents("active"), 15, "the session is gone")
    assert swarm.task(ids["a"]).state is TaskState.CANCELLED
