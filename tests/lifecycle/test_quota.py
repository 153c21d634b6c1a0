"""A provider's quota on real processes: what is parked, for how long, and how it goes on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest
from swarm_support import Swarm, kill
from tests_support import HELD, eventually

from swarm.cli.control import ask
from swarm.core.model import Outcome, TaskState
from swarm.ledger import Attempt, NewTask, open_ledger
from swarm.wire import control

HITS = f"once {HELD}\nonce quota in {{}} seconds\nwrite done.txt yes\ncommit done"
"""Held until told, then out of quota; resumed, it is done."""


@pytest.fixture
def fleet(swarm: Swarm) -> Swarm:
    """Builders on one runtime, qa on another; the first one's quota is used up by a file."""
    (swarm.places.roles / "qa.yaml").write_text("runtime: second\n")
    (swarm.places.roles / "builder.yaml").write_text(f"runtime: scripted\nread: [{swarm.root}/q]\n")
    swarm.configure(
        agents=[{"role": "builder", "count": 5}, {"role": "qa", "count": 1}],
        limits={"max_active": 6, "min_free_memory_mb": 0, "quota_probe_minutes": 0.02},
        runtimes={
            "scripted": {"env": {"SCRIPTED_QUOTA": f"{swarm.root}/q"}},
            "second": {"adapter": "scripted"},
        },
    )
    return swarm


def submit(swarm: Swarm, prompts: Sequence[str], role: str = "builder") -> list[str]:
    """Many tasks at once; the coordinator looks."""
    with open_ledger(swarm.places.ledger) as ledger:
        tasks = [ledger.submit(NewTask(prompt=prompt, role=role)) for prompt in prompts]
    ask(swarm.places, control.PokeLedger())
    return tasks


def let_go(swarm: Swarm, tasks: Sequence[str]) -> None:
    """End the wait of these tasks' sessions."""
    for agent in swarm.agents("active"):
        if agent["task"]["id"] in tasks:
            (swarm.clone(agent) / "go").touch()


def quotas(swarm: Swarm) -> list[dict[str, Any]]:
    return list(swarm.status()["swarm"]["quotas"])


def parked(swarm: Swarm) -> dict[str, Any]:
    """Wait until a runtime is parked."""
    return eventually(lambda: quotas(swarm), 15.0, lambda: f"parked\n{swarm.log_tail()}")[0]


def told(swarm: Swarm, kind: str) -> list[dict[str, Any]]:
    """The journal's entries of one kind."""
    lines = (swarm.places.home / "journal" / "journal.jsonl").read_bytes().splitlines()
    return [entry for line in lines if (entry := json.loads(line))["kind"] == kind]


def went_on(swarm: Swarm, task: str) -> Attempt:
    """Its second attempt, which went on with the first one's session, in the same workspace."""
    first, second = swarm.attempts(task)
    assert (first.outcome, second.outcome) == (Outcome.QUOTA, Outcome.SUCCEEDED)
    assert first.session_id
    assert second.session_id == first.session_id
    assert (second.agent, second.agent_id) == (first.agent, first.agent_id)
    return second


def test_two_of_five_hit_their_quota_and_go_on_when_it_is_over(fleet: Swarm) -> None:
    fleet.up()
    hitting = submit(fleet, [HITS.format(9)] * 2)
    others = submit(fleet, [f"{HELD}\nwrite other.txt yes\ncommit other"] * 3)
    fleet.active(5)
    let_go(fleet, hitting)
    quota = parked(fleet)
    (elsewhere,) = submit(fleet, ["answer elsewhere"], role="qa")
    late = submit(fleet, ["answer late"])
    assert quota["runtime"] == "scripted"
    assert "usage limit" in quota["reason"]
    assert fleet.status()["swarm"]["paused"] is None
    assert "quota   scripted parked until 20" in fleet.must("swarm", "status")
    eventually(lambda: [fleet.task(t).state for t in hitting] == [TaskState.QUEUED] * 2, 10.0)
    let_go(fleet, others)

    ended = fleet.ended([*hitting, *others, *late, elsewhere])
    assert [task.state for task in ended] == [TaskState.DONE] * 7
    assert [task.lost for task in ended] == [0] * 7
    (hit, *_) = told(fleet, "quota_hit")
    until = max(entry["until"] for entry in told(fleet, "quota_hit"))
    for task in hitting:
        again = went_on(fleet, task)
        assert again.started_at is not None
        assert again.started_at >= until - 0.1
    for task in (*others, elsewhere):
        (only,) = fleet.attempts(task)
        assert only.outcome is Outcome.SUCCEEDED
    (waited,) = fleet.attempts(late[0])
    assert waited.started_at is not None
    assert waited.started_at >= until - 0.1, "a promotion in spite of the quota"
    (started,) = [a.started_at for a in fleet.attempts(elsewhere)]
    assert started is not None
    assert started < until, "the other runtime was stopped too"
    assert datetime.fromisoformat(quota["until"]).timestamp() >= hit["until"] - 1.0
    assert not quotas(fleet)
    assert fleet.status()["swarm"]["paused"] is None


def test_the_park_outlives_its_supervisor_and_its_coordinator(fleet: Swarm) -> None:
    supervisor = fleet.up()
    (task,) = submit(fleet, [HITS.format(3600)])
    fleet.active(1)
    let_go(fleet, [task])
    before = parked(fleet)
    eventually(lambda: fleet.task(task).state is TaskState.QUEUED, 10.0)
    (coordinator,) = [s for s in fleet.status()["services"] if s["name"] == "coordinator"]
    kill(coordinator["pid"])
    eventually(
        lambda: any(
            s["name"] == "coordinator" and s["state"] == "running" and s["restarts"]
            for s in fleet.status()["services"]
        ),
        10.0,
    )
    kill(supervisor)
    fleet.gone(within=5.0)
    fleet.up()
    (after,) = quotas(fleet)
    assert after["runtime"] == before["runtime"]
    assert after["until"][:18] == before["until"][:18]
    assert fleet.task(task).state is TaskState.QUEUED
    assert "resumed" in fleet.must("swarm", "resume")
    assert not quotas(fleet)
    fleet.ended([task])
    went_on(fleet, task)


def test_without_a_known_end_it_is_probed_until_a_probe_succeeds(fleet: Swarm) -> None:
    """A restart of the supervisor goes on with the probing."""
    used_up = fleet.root / "q"
    used_up.touch()
    supervisor = fleet.up()
    (task,) = submit(fleet, ["write done.txt yes\ncommit done"])
    assert parked(fleet)["runtime"] == "scripted"
    eventually(lambda: told(fleet, "quota_probed"), 15.0)
    kill(supervisor)
    fleet.gone(within=5.0)
    probed = len(told(fleet, "quota_probed"))
    fleet.up()
    eventually(lambda: len(told(fleet, "quota_probed")) > probed, 15.0)
    assert {entry["outcome"] for entry in told(fleet, "quota_probed")} == {"quota"}
    assert len(fleet.attempts(task)) == 1
    used_up.unlink()
    (ended,) = fleet.ended([task])
    assert ended.state is TaskState.DONE
    went_on(fleet, task)
    assert told(fleet, "quota_probed")[-1]["outcome"] == "succeeded"
    assert told(fleet, "quota_lifted")[-1]["reason"] == "a probe succeeded"
