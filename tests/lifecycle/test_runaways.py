"""Sessions that run away, on real processes: each ends alone, with all its children, work kept."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from typing import Any

import pytest
from swarm_support import Swarm
from tests_support import HELD, eventually

from swarm.core.model import Outcome, TaskState

STUBBORN = "ignore-term\nsetsid 600\ndaemonize 600\nwrite begun.txt yes\nprint 1 so far\n"
"""A session with children that called setsid, one of them without a parent, deaf to TERM."""


QUICK: dict[str, Any] = {
    "health": {"heartbeat_seconds": 0.3, "sample_seconds": 0.3, "misses": 100},
    "stop": {"grace_seconds": 0.5},
}


def started(swarm: Swarm, task: str) -> dict[str, Any]:
    """Wait until its session has written ``begun.txt``; the agent."""

    def look() -> dict[str, Any] | None:
        for agent in swarm.agents("active"):
            if (agent["task"] or {}).get("id") == task:
                return agent if (swarm.clone(agent) / "begun.txt").exists() else None
        return None

    found = eventually(look, 20, lambda: f"{task} has not begun\n{swarm.log_tail()}")
    assert found is not None
    return found


def tree(agent: dict[str, Any]) -> list[int]:
    """The session's processes, as its keeper's children tell."""
    from swarm.health.processes import Table

    members = [one.pid for one in Table.now().tree(int(agent["pid"]))]
    return [pid for pid in members if pid != agent["pid"]]


def must_have_ended(
    swarm: Swarm, task: str, agent: dict[str, Any], outcome: Outcome, reason: str
) -> None:
    """Its attempt ended so, nothing of its tree is left, and its work so far is kept."""
    (ended,) = swarm.ended([task], 20)
    assert ended.state is TaskState.FAILED
    (attempt,) = swarm.attempts(task)
    assert (attempt.outcome, reason in attempt.reason) == (outcome, True), attempt.reason
    assert swarm.git("show", f"{ended.branch}:begun.txt", cwd=swarm.hub()) == "yes"
    context = (swarm.root / "agents" / agent["name"] / "context.md").read_text()
    assert task in context
    assert reason in context
    log = swarm.places.logs / "sessions" / f"{task}.1.jsonl"
    assert "so far" in log.read_text()


@pytest.fixture
def bystander(swarm: Swarm) -> dict[str, Any]:
    """A swarm with a session that holds on beside whatever happens."""
    swarm.configure(**QUICK)
    swarm.up()
    task = swarm.add(f"write begun.txt yes\n{HELD}\nwrite a.txt a\ncommit a", "builder")
    return {**started(swarm, task), "held": task}


def finishes(swarm: Swarm, bystander: dict[str, Any]) -> None:
    """The session beside was never touched."""
    (swarm.clone(bystander) / "go").touch()
    (ended,) = swarm.ended([bystander["held"]], 20)
    assert ended.state is TaskState.DONE
    assert [one.outcome for one in swarm.attempts(ended.id)] == [Outcome.SUCCEEDED]
    swarm.must("swarm", "stop")
    swarm.gone()


def lower(swarm: Swarm, **limits: Any) -> None:
    """Set limits while sessions run: no cgroup knows of them, so the supervisor must see it."""
    config = json.loads(swarm.places.config.read_text())
    config["limits"].update(limits)
    swarm.places.config.write_text(json.dumps(config))
    swarm.must("swarm", "reload")


def test_one_that_takes_memory_and_one_that_forks_die_alone(
    swarm: Swarm, bystander: dict[str, Any]
) -> None:
    greedy = swarm.add(f"{STUBBORN}alloc 300\nhang")
    hungry = started(swarm, greedy)
    members = tree(hungry)
    assert len(members) >= 4
    lower(swarm, memory_mb=150)
    must_have_ended(
        swarm, greedy, hungry, Outcome.FAILED, "used more than limits.memory_mb: 150 MB"
    )
    assert not any(os.path.exists(f"/proc/{pid}") for pid in members)
    forking = swarm.add(f"{STUBBORN}fork 60\nhang")
    forker = started(swarm, forking)
    eventually(lambda: len(tree(forker)) > 60, 10)
    lower(swarm, max_processes=40)
    must_have_ended(
        swarm, forking, forker, Outcome.FAILED, "used more than limits.max_processes: 40"
    )
    eventually(lambda: not tree(forker), 1)
    assert len(swarm.agents("active")) == 1
    assert not any(agent["restarts"] for agent in swarm.agents())
    finishes(swarm, bystander)


def test_a_stalled_and_an_overlong_one_end_and_a_silent_one_that_works_does_not(
    swarm: Swarm,
) -> None:
    swarm.configure(limits={"stall_minutes": 0.025}, **QUICK)  # 1.5 s
    swarm.up()
    computes = "run setsid timeout 2.5 sh -c 'while :; do :; done'; true"
    working = swarm.add(f"write begun.txt yes\n{computes}\nanswer 42")
    silent = swarm.add(f"{STUBBORN}hang")
    stalled = started(swarm, silent)
    members = tree(stalled)
    must_have_ended(swarm, silent, stalled, Outcome.STALLED, "no output, processor time")
    assert not any(os.path.exists(f"/proc/{pid}") for pid in members)
    (ended,) = swarm.ended([working], 30)
    assert ended.state is TaskState.DONE, swarm.attempts(working)[0].reason
    lower(swarm, stall_minutes=0, max_task_minutes=0.02)
    overlong = swarm.add(f"{STUBBORN}burn 60")
    late = started(swarm, overlong)
    must_have_ended(
        swarm, overlong, late, Outcome.TIMED_OUT, "ran longer than limits.max_task_minutes: 0.02"
    )
    swarm.must("swarm", "stop")
    swarm.gone()


def test_a_stopped_daemon_with_a_session_is_replaced_and_its_task_finished_once(
    swarm: Swarm,
) -> None:
    swarm.configure(
        agents=[{"role": "builder", "count": 2}],
        health={"heartbeat_seconds": 0.4, "sample_seconds": 0.5, "misses": 4},
        stop={"grace_seconds": 0.5},
    )
    swarm.up()
    task = swarm.add("once setsid 600\nwrite begun.txt yes\nonce hang\nwrite done.txt yes\ncommit")
    agent = started(swarm, task)
    members = tree(agent)
    os.kill(agent["pid"], signal.SIGSTOP)
    (ended,) = swarm.ended([task], 30)
    assert ended.state is TaskState.DONE
    assert [a.outcome for a in swarm.attempts(task)] == [Outcome.LOST, Outcome.SUCCEEDED]
    assert not any(os.path.exists(f"/proc/{pid}") for pid in members)
    assert "heartbeats missed in a row" in swarm.must("swarm", "story", agent["name"])
    # One that goes on after it was given up on does no harm either.
    (other,) = [a for a in swarm.agents() if a["name"] != agent["name"]]
    os.kill(other["pid"], signal.SIGSTOP)
    eventually(lambda: swarm.agents("stopping") + swarm.agents("backoff"), 10)
    with suppress(ProcessLookupError):
        os.kill(other["pid"], signal.SIGCONT)
    again = swarm.add("answer yes")
    swarm.ended([again])
    assert [a.outcome for a in swarm.attempts(again)] == [Outcome.SUCCEEDED]
    eventually(lambda: len(swarm.agents("idle")) == 2, 10)
    assert not os.path.exists(f"/proc/{other['pid']}")


def test_a_stopped_daemon_whose_session_runs_away_is_not_waited_for(swarm: Swarm) -> None:
    """Its heartbeats would be missed only after minutes."""
    swarm.configure(
        agents=[{"role": "builder", "count": 1}],
        health={"heartbeat_seconds": 60, "sample_seconds": 0.5, "misses": 3},
        stop={"grace_seconds": 0.5},
    )
    swarm.up()
    task = swarm.add("write begun.txt yes\nonce alloc 200\nonce hang\nwrite done.txt y\ncommit")
    agent = started(swarm, task)
    members = tree(agent)
    os.kill(agent["pid"], signal.SIGSTOP)
    lower(swarm, memory_mb=100)
    eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in members), 15)
    (ended,) = swarm.ended([task], 20)
    assert ended.state is TaskState.DONE
    assert [a.outcome for a in swarm.attempts(task)] == [Outcome.LOST, Outcome.SUCCEEDED]


def test_a_closed_gate_says_why_in_the_status_and_beside_the_waiting_task(swarm: Swarm) -> None:
    swarm.configure(limits={"min_free_memory_mb": 1 << 30})
    swarm.up()
    task = swarm.add("answer yes")
    shown = eventually(
        lambda: s if "memory" in str((s := json.loads(
            swarm.must("task", "show", task, "--json")))["reason"]) else None, 20
    )  # fmt: skip
    assert shown is not None
    assert shown["attempts"] == []
    gate = swarm.status()["swarm"]["gate"]
    assert gate["open"] is False
    assert "limits.min_free_memory_mb is 1073741824" in gate["reason"]
    assert "limits.min_free_memory_mb" in swarm.must("swarm", "status")
    lower(swarm, min_free_memory_mb=0)
    (ended,) = swarm.ended([task])
    assert ended.state is TaskState.DONE
    assert swarm.status()["swarm"]["gate"] == {"open": True, "reason": None}


def test_daemons_killed_all_at_once_come_back_uncounted_into_whole_workspaces(
    swarm: Swarm,
) -> None:
    """With one restart allowed, a second death that counted would leave them degraded."""
    swarm.configure(
        agents=[{"role": "builder", "count": 6}],
        restart={"base_seconds": 0.1, "max_restarts": 1},
    )
    swarm.up()
    before = {a["name"]: a for a in swarm.agents()}
    workspace = swarm.root / "agents" / "swarm-builder-001"
    for name in (".gitignore", "CLAUDE.md", "context.md"):
        (workspace / name).unlink()
    eventually(lambda: (workspace / "repo" / ".git").is_dir(), 20)
    (workspace / "repo").rename(workspace / "elsewhere")
    (workspace / "repo").write_text("no folder")
    for wave in (1, 2):
        for agent in swarm.agents():
            os.kill(agent["pid"], signal.SIGKILL)
        down = eventually(lambda: swarm.agents("backoff"))
        assert down[0]["next_restart_at"]
        eventually(lambda n=wave: [a["restarts"] for a in swarm.agents("idle")] == [n] * 6, 20)
        if wave == 1:
            assert "children died within 10 s" in swarm.must("swarm", "story", down[0]["name"])
    assert {a["name"]: a["agent_id"] for a in swarm.agents()} == {
        name: a["agent_id"] for name, a in before.items()
    }
    for name in (".gitignore", "CLAUDE.md", "context.md"):
        assert (workspace / name).is_file()
    log = (swarm.places.logs / "agents" / "swarm-builder-001.log").read_text()
    assert "CLAUDE.md is missing" in log
    assert "repo/ is no directory" in log
    (ended,) = swarm.ended([swarm.add("write a.txt a\ncommit a") for _ in range(6)][:1])
    assert ended.state is TaskState.DONE
