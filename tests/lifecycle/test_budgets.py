"""Budgets on real processes: what ends, what waits with which reason, and what goes on after."""

from __future__ import annotations

import json
from typing import Any

import pytest
from swarm_support import Swarm, kill
from tests_support import eventually

from swarm.core.budget import Amount
from swarm.core.model import Outcome, TaskState
from swarm.ledger import open_ledger


def shown(swarm: Swarm, task: str) -> dict[str, Any]:
    """``task show --json``."""
    found: dict[str, Any] = json.loads(swarm.must("task", "show", "--json", task))
    return found


def spent(swarm: Swarm) -> Amount:
    """What the ledger has counted in all."""
    with open_ledger(swarm.places.ledger) as ledger:
        amounts = ledger.spending().agents.values()
    return Amount(sum(one.tokens or 0 for one in amounts))


def printed(swarm: Swarm, beginning: str) -> list[str]:
    """What the supervisor told the person, of lines that begin so."""
    lines = (swarm.places.logs / "supervisor.log").read_text().splitlines()
    told = [entry["text"] for line in lines if (entry := json.loads(line))["kind"] == "told"]
    return [text for text in told if text.startswith(beginning)]


def waits(swarm: Swarm, task: str, reason: str) -> None:
    """It is queued, and says why."""
    eventually(lambda: swarm.task(task).state is TaskState.QUEUED, 15, swarm.log_tail)
    eventually(lambda: reason in str(shown(swarm, task)["reason"]), 10)


def test_a_task_over_its_own_budget_dies_with_its_children_and_keeps_its_work(
    swarm: Swarm,
) -> None:
    swarm.configure(agents=[{"role": "builder", "count": 1}])
    swarm.up()
    before = swarm.processes()
    lines = ("write half.txt so far", "setsid 300", "daemonize 300", "usage 80 40", "hang")
    task = swarm.add("\n".join(lines), "builder", "--token-budget", "100", "--usd-budget", "$5")
    (ended,) = swarm.ended([task])
    (attempt,) = swarm.attempts(task)
    assert (ended.state, attempt.outcome) == (TaskState.FAILED, Outcome.OVER_BUDGET)
    assert attempt.reason.startswith("the task's token budget is spent: 120 of 100")
    eventually(lambda: not swarm.processes().keys() - before.keys(), 5, "its children live on")
    assert ended.branch is not None
    assert swarm.git("show", f"{ended.branch}:half.txt", cwd=swarm.hub()) == "so far"
    budget = shown(swarm, task)["budget"]
    assert budget["tokens"] == {"limit": 100, "spent": 120, "left": 0}
    assert budget["usd"]["limit"] == 5.0
    assert "120 of 100 tokens spent, 0 left" in swarm.must("task", "show", task)
    refused = swarm.agentctl("task", "retry", task)
    assert refused.returncode == 2
    assert "--token-budget" in refused.stderr
    swarm.must("task", "retry", task, "--token-budget", "1k")
    assert swarm.task(task).budget == Amount(1000, 5.0)


def test_the_swarms_budget_ends_all_sessions_and_a_raised_one_finishes_their_tasks(
    swarm: Swarm,
) -> None:
    limits = {"min_free_memory_mb": 0, "token_budget": 100, "warn_at": 0.5}
    swarm.configure(agents=[{"role": "builder", "count": 2}], limits=limits)
    swarm.up()
    tasks = [swarm.add("usage 60 0\nonce hang\nanswer done") for _ in range(2)]
    reason = "the token budget is spent: 120 of 100"
    for task in tasks:
        waits(swarm, task, reason)
        assert swarm.attempts(task)[0].outcome is Outcome.OVER_BUDGET
    listed = json.loads(swarm.must("task", "list", "--json"))["tasks"]
    assert [one["reason"] for one in listed] == [reason, reason]
    patient = swarm.agentctl("task", "wait", tasks[0], "--timeout", "0.5")
    assert patient.returncode == 124
    assert reason in patient.stdout
    budget = swarm.status()["budget"]
    assert (budget["window"], budget["resets_at"], budget["warning"]) == ("total", None, reason)
    assert budget["tokens"] == {"limit": 100, "spent": 120, "share": 1.2}
    assert budget["usd"]["limit"] is None
    assert f"{reason}" in swarm.must("swarm", "status")
    assert len(printed(swarm, "warning: 60% of the swarm's token budget is spent")) == 1
    assert len(printed(swarm, "warning: 120% of the swarm's token budget is spent")) == 1
    swarm.configure(
        agents=[{"role": "builder", "count": 2}], limits={**limits, "token_budget": 900}
    )
    swarm.must("swarm", "reload")
    assert [task.state for task in swarm.ended(tasks)] == [TaskState.DONE, TaskState.DONE]
    assert spent(swarm) == Amount(240)
    assert len(printed(swarm, "warning: ")) == 2


def test_a_burst_of_quick_tasks_overspends_by_no_more_than_what_ran_and_that_is_kept(
    swarm: Swarm,
) -> None:
    """The budget outlives the supervisor and the coordinator."""
    limits = {"min_free_memory_mb": 0, "token_budget": 60, "max_active": 3}
    swarm.configure(limits=limits)
    tasks = [swarm.add("usage 30 0\nanswer quick") for _ in range(8)]
    pid = swarm.up()
    over = "the token budget is spent"
    eventually(lambda: over in str(swarm.status()["swarm"]["gate"]["reason"]), 20)
    eventually(lambda: not swarm.agents("active") and not swarm.agents("promoting"), 15)
    left = [task for task in tasks if not swarm.task(task).state.ended]
    assert len(left) >= 3, "more than the budget and three sessions pay for"
    waits(swarm, left[-1], over)
    ended = len(tasks) - len(left)
    assert eventually(lambda: (spent(swarm).tokens or 0) >= 30 * ended, 10)
    kill(pid)
    swarm.gone(10)
    swarm.up()
    eventually(lambda: over in str(swarm.status()["swarm"]["gate"]["reason"]), 10)
    assert not [agent for agent in swarm.agents() if agent["task"]]
    swarm.configure(limits={**limits, "token_budget": 10_000})
    swarm.must("swarm", "reload")
    assert {task.state for task in swarm.ended(tasks)} == {TaskState.DONE}


@pytest.mark.slow
def test_an_agents_own_budget_ends_its_session_and_another_goes_on(swarm: Swarm) -> None:
    role = swarm.places.roles / "builder.yaml"
    role.write_text("runtime: scripted\nlimits: {token_budget: 50}\n")
    swarm.configure(agents=[{"role": "builder", "count": 2}])
    swarm.up()
    task = swarm.add("once usage 60 0\nonce hang\nanswer done")
    (ended,) = swarm.ended([task])
    assert ended.state is TaskState.DONE
    first, second = swarm.attempts(task)
    assert (first.outcome, second.outcome) == (Outcome.OVER_BUDGET, Outcome.SUCCEEDED)
    assert first.agent != second.agent
    swarm.must("agent", "stop", second.agent)
    third = swarm.add("answer later")
    waits(swarm, third, f"the token budget of {first.agent} is spent: 60 of 50")
    assert swarm.status()["swarm"]["gate"]["open"]
    found = json.loads(swarm.must("agent", "show", first.agent, "--json"))["budget"]
    assert found["tokens"] == {"limit": 50, "spent": 60, "share": 1.2}
    role.write_text("runtime: scripted\nlimits: {token_budget: 5000}\n")
    swarm.must("swarm", "reload")
    swarm.ended([third])


@pytest.mark.slow
def test_a_runtime_that_says_nothing_of_usage_is_held_to_its_estimate(swarm: Swarm) -> None:
    (swarm.places.roles / "builder.yaml").write_text("runtime: mute\nestimate: {tokens: 70}\n")
    swarm.configure(
        agents=[{"role": "builder", "count": 1}],
        limits={"min_free_memory_mb": 0, "token_budget": 100},
        runtimes={"mute": {"adapter": "command", "command": ["/bin/echo", "done"]}},
    )
    swarm.up()
    tasks = [swarm.add(f"job {n}") for n in range(3)]
    swarm.ended(tasks[:2])
    waits(swarm, tasks[2], "the token budget is spent: 140 of 100")
    (attempt,) = shown(swarm, tasks[0])["attempts"]
    assert attempt["usage"]["input_tokens"] is None
    assert (attempt["usage_estimated"], attempt["estimate"]["tokens"]) == (True, 70)
    status = json.loads(swarm.must("swarm", "status", "--json"))
    assert status["usage"]["input_tokens"] is None
    assert status["budget"]["tokens"]["spent"] == 140
