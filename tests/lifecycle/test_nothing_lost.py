"""Reports that nobody can hear when they are made: none is lost, and each counts once."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from swarm_support import Swarm, kill
from tests_support import HELD, eventually

from swarm.core.model import Outcome, TaskState
from swarm.daemon.outbox import load, read_outbox
from swarm.ledger import open_ledger

WORK = f"{HELD}\nusage 100 20 0.25\nwrite done.txt x\ncommit one\nwrite more.txt y\ncommit two"


def outbox_of(swarm: Swarm, agent: dict[str, Any]) -> Path:
    return swarm.root / "agents" / str(agent["name"]) / ".agentctl" / "outbox.jsonl"


def services(swarm: Swarm) -> dict[str, int]:
    return {one["name"]: one["pid"] for one in swarm.status()["services"]}


def hangs(swarm: Swarm, *names: str) -> list[int]:
    """Stop these services; without the coordinator neither way leads to the ledger."""
    found = services(swarm)
    for name in names:
        os.kill(found[name], signal.SIGSTOP)
    return [found[name] for name in names]


def working(swarm: Swarm, count: int = 3) -> tuple[list[str], list[dict[str, Any]]]:
    tasks = [swarm.add(WORK) for _ in range(count)]
    return tasks, swarm.active(count)


def reported(swarm: Swarm, agents: Iterable[dict[str, Any]]) -> None:
    """Let the sessions end, and wait until each has its report on disk.

    Its own: a report of the agent's task before may lie there too, until the channel settles it.
    """
    for agent in agents:
        (swarm.clone(agent) / "go").touch()
        eventually(lambda agent=agent: has_reported(swarm, agent), 30, "its report on disk")


def has_reported(swarm: Swarm, agent: dict[str, Any]) -> bool:
    """Whether the report of what it works on is in its outbox."""
    task = agent["task"]["id"]
    return any(one.task == task for one in read_outbox(outbox_of(swarm, agent)))


def settled_once(swarm: Swarm, tasks: list[str]) -> None:
    """Each task is done by its one attempt, and what it used was counted once."""
    for task in swarm.ended(tasks, within=60):
        assert task.state is TaskState.DONE, task
        (attempt,) = swarm.attempts(task.id)
        assert attempt.outcome is Outcome.SUCCEEDED
        assert (attempt.usage.input_tokens, attempt.cost_usd) == (100, 0.25)
    with open_ledger(swarm.places.ledger) as ledger:
        used = ledger.usage()
    assert used.usage.input_tokens == 100 * len(tasks)
    assert used.usage.output_tokens == 20 * len(tasks)
    assert used.cost_usd == 0.25 * len(tasks)


def outboxes_empty(swarm: Swarm) -> None:
    """Every report was settled at last, and forgotten."""

    def unsettled() -> list[Path]:
        found = (swarm.root / "agents").glob("*/.agentctl/outbox.jsonl")  # anew at each look
        return [path for path in found if load(str(path))]

    eventually(lambda: not unsettled(), 40, lambda: f"unsettled reports: {unsettled()}")


@pytest.mark.slow
def test_reports_nobody_can_hear_survive_every_death(swarm: Swarm) -> None:
    """Made while chat and coordinator hang; then daemons, services and the supervisor die."""
    swarm.configure(restart={"base_seconds": 0.05, "cap_seconds": 0.2, "max_restarts": 0})
    supervisor = swarm.up()
    tasks, agents = working(swarm)
    stopped = hangs(swarm, "chat", "coordinator")
    reported(swarm, agents)
    kill(agents[0]["pid"])  # after Ended went out, before anybody took it in
    for pid in stopped:
        kill(pid)
    settled_once(swarm, tasks)
    outboxes_empty(swarm)

    more, agents = working(swarm)
    hangs(swarm, "chat", "coordinator")
    reported(swarm, agents)
    kill(supervisor)
    swarm.gone(within=10)
    # What a crash may leave beside them: a line of nonsense, and one that is cut off.
    path = outbox_of(swarm, agents[0])
    whole = path.read_bytes()
    path.write_bytes(b'{"type":"nothing we know"}\n' + whole + whole[: len(whole) // 2])
    assert all(swarm.task(task).state is TaskState.RUNNING for task in more)
    swarm.up()
    settled_once(swarm, tasks + more)
    outboxes_empty(swarm)


@pytest.fixture
def orphaned(swarm: Swarm) -> tuple[Swarm, str, dict[str, Any]]:
    """A swarm with one report in an outbox, whose coordinator died and is not back yet."""
    swarm.configure(restart={"base_seconds": 120, "cap_seconds": 120})
    swarm.up()
    (task,), (agent,) = working(swarm, 1)
    kill(services(swarm)["coordinator"])
    reported(swarm, [agent])
    return swarm, task, agent


def test_stop_takes_in_what_no_coordinator_did(
    orphaned: tuple[Swarm, str, dict[str, Any]],
) -> None:
    """The workspaces go, and the outboxes with them."""
    swarm, task, _ = orphaned
    swarm.must("swarm", "stop")
    swarm.gone()
    assert not list((swarm.root / "agents").iterdir())
    settled_once(swarm, [task])


@pytest.mark.slow
def test_stop_keeps_the_workspace_of_a_report_that_no_ledger_takes(
    orphaned: tuple[Swarm, str, dict[str, Any]],
) -> None:
    """As with work that no hub takes: it stays, is named, and is taken in by the next ``up``."""
    swarm, task, agent = orphaned
    locked = sqlite3.connect(swarm.places.ledger, isolation_level=None)
    try:
        locked.execute("BEGIN EXCLUSIVE")
        said = swarm.must("swarm", "stop")
    finally:
        locked.close()
    assert f"{agent['name']} stays" in said
    assert outbox_of(swarm, agent).exists()
    assert swarm.task(task).state is TaskState.RUNNING
    swarm.up()
    settled_once(swarm, [task])


@pytest.mark.slow
def test_a_disk_that_takes_no_report_is_asked_until_it_does(swarm: Swarm) -> None:
    """People see why; the session's tree is gone meanwhile, and its work is in the hub."""
    swarm.up()
    (task,), (agent,) = working(swarm, 1)
    path = outbox_of(swarm, agent)
    path.mkdir()  # nothing can be written there, as on a full disk
    (swarm.clone(agent) / "go").touch()
    told = eventually(
        lambda: next((a for a in swarm.agents() if "cannot be written" in str(a["reason"])), None),
        20,
        "people are told",
    )
    assert told is not None
    assert told["name"] == agent["name"]
    assert swarm.task(task).state is TaskState.RUNNING
    path.rmdir()
    settled_once(swarm, [task])
    outboxes_empty(swarm)


@pytest.mark.slow
def test_a_broken_outbox_stops_no_agent(swarm: Swarm) -> None:
    swarm.configure(agents=[{"role": "builder", "count": 1}])
    supervisor = swarm.up()
    (agent,) = swarm.agents()
    kill(supervisor)
    swarm.gone(within=10)
    outbox_of(swarm, agent).mkdir()
    swarm.up()
    (again,) = swarm.agents()
    assert again["agent_id"] == agent["agent_id"]
    assert "outbox cannot be read" in str(again["reason"])
    (task,), (busy,) = working(swarm, 1)
    (swarm.clone(busy) / "go").touch()
    settled_once(swarm, [task])
