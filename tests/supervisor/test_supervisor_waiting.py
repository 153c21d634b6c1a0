"""Tasks that a real swarm sends back to wait: for its budget, for a quota."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from supervisor_world import World, world
from tests_support import HELD, eventually

from swarm.wire import control


@pytest.fixture
def swarm(home: Path) -> Iterator[World]:
    with world(home) as made:
        yield made


def test_a_session_beyond_the_swarms_budget_leaves_its_task_queued(swarm: World) -> None:
    swarm.configure(count=1)
    config = swarm.home / "swarm.yaml"
    config.write_text(config.read_text().replace("{min_free", "{token_budget: 10, min_free"))
    swarm.up()
    task = swarm.add(f"usage 50 50\n{HELD}\nanswer dear")
    eventually(lambda: swarm.journal("session_kill_asked"), 10.0)
    eventually(lambda: swarm.task(task).state.value == "queued", 10.0)
    (attempt,) = swarm.attempts(task)
    assert attempt.outcome.value == "over_budget"
    assert "budget is spent" in swarm.task(task).reason
    swarm.ask(control.PokeLedger())
    assert swarm.task(task).fence == 1
    assert swarm.stop() == 0


def test_resumed_during_a_quota_its_task_goes_at_once(swarm: World) -> None:
    swarm.configure(count=1)
    swarm.up()
    task = swarm.add("quota 2099-01-01T00:00Z")
    eventually(lambda: swarm.status()["swarm"]["paused"], 10.0)
    eventually(lambda: swarm.task(task).not_before is not None, 10.0)  # the ledger is told next
    swarm.ask(control.Resume())
    eventually(lambda: len(swarm.attempts(task)) == 2, 10.0)
    assert swarm.stop() == 0
