"""Scale, pause and reload of a real swarm."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervisor_world import World, world
from tests_support import HELD, eventually

from swarm.core.model import Outcome, Review, TaskState
from swarm.errors import SwarmError
from swarm.ledger import NewTask, open_ledger
from swarm.ledger.records import Way
from swarm.wire import control
from swarm.wire.lifeline import Finished


@pytest.fixture
def swarm(home: Path) -> Iterator[World]:
    with world(home) as made:
        yield made


def test_scale_up_and_down_with_busy_agents(swarm: World) -> None:
    swarm.up()
    done = swarm.ask(control.Scale(total=4))
    assert done.lines == ("scaled 2 → 4: 2 starting",)
    swarm.ask(control.WaitReady())
    assert swarm.states() == ["idle"] * 4
    first, second = swarm.add(f"{HELD}\nanswer a"), swarm.add(f"{HELD}\nanswer b")
    active = eventually(lambda: len(found := swarm.active()) == 2 and found) or []
    busy = {agent["name"] for agent in active}
    done = swarm.ask(control.Scale(total=1))
    assert done.data["preserved"] == 1
    assert set(done.data["stopped"]).isdisjoint(busy)
    for agent in active:
        swarm.let_go(agent)
    assert swarm.done(first).state.value == "done"
    assert swarm.done(second).state.value == "done"
    eventually(lambda: len(swarm.agents()) == 1, 10.0)
    eventually(lambda: os.listdir(swarm.base) == list(swarm.agents()), 10.0)
    swarm.ask(control.Scale(total=0))
    assert swarm.wait() == 0


def test_pause_keeps_tasks_waiting_and_survives_a_restart(swarm: World) -> None:
    swarm.configure(count=1)
    swarm.up()
    swarm.ask(control.Pause(reason="lunch"))
    task = swarm.add("answer later")
    assert swarm.status()["swarm"]["paused"] == {"reason": "lunch", "until": None}
    assert swarm.stop() == 0
    swarm.up()
    assert swarm.status()["swarm"]["paused"] == {"reason": "lunch", "until": None}
    assert swarm.task(task).state.value == "queued"
    swarm.ask(control.Resume())
    assert swarm.done(task).state.value == "done"
    assert swarm.stop() == 0
    swarm.up()
    assert swarm.status()["swarm"]["paused"] is None
    assert swarm.stop() == 0


def test_reload_says_each_change_and_what_it_needs(swarm: World) -> None:
    swarm.up()
    swarm.ask(control.Scale(total=3))
    config = swarm.home / "swarm.yaml"
    good = config.read_text()
    config.write_text(
        good.replace("min_free_memory_mb: 0", "min_free_memory_mb: 0, max_active: 9").replace(
            'listen: "127.0.0.1:0"', 'listen: "127.0.0.1:1"'
        )
    )
    dry = swarm.ask(control.Reload(dry_run=True))
    assert swarm.status()["limits"]["max_active"] == 5
    done = swarm.ask(control.Reload())
    assert done.lines == dry.lines
    assert done.lines == (
        "chat.listen 127.0.0.1:0 → 127.0.0.1:1 (needs a restart of the swarm)",
        "limits.max_active 5 → 9 (live)",
    )
    assert swarm.status()["limits"]["max_active"] == 9
    assert len(swarm.agents()) == 3  # the file did not change it, so scale's word stands
    config.write_text(good.replace("count: 2", "count: 1"))
    done = swarm.ask(control.Reload())
    assert "agents.builder 2 → 1 (live)" in done.lines
    assert done.lines[-1].startswith("scaled 3 → 1")
    eventually(lambda: len(swarm.agents()) == 1, 10.0)
    assert swarm.ask(control.Reload()).lines == ("nothing changed",)
    assert swarm.stop() == 0


def test_a_reload_that_asks_for_no_approval_names_what_still_waits_for_one(swarm: World) -> None:
    swarm.configure(more="repo: {review: human}")
    waiting = [works(swarm, None), works(swarm, None), works(swarm, Review.HUMAN)]
    swarm.up()
    swarm.configure(more="repo: {review: none}")
    done = swarm.ask(control.Reload())
    assert done.lines == (
        "repo.review human → none (live)",
        f"2 tasks in review still wait for a person: {APPROVE}",
    )
    with open_ledger(swarm.places.ledger) as ledger:
        assert {one.id for one in ledger.in_review()} == set(waiting)
        ledger.cancel(waiting[0])
    swarm.configure(more="repo: {review: human}")
    assert swarm.ask(control.Reload()).lines == ("repo.review none → human (live)",)
    swarm.configure(more="repo: {review: none}")
    line = f"1 task in review still waits for a person: agentctl task approve {waiting[1]}"
    assert swarm.ask(control.Reload()).lines[-1] == line
    assert swarm.stop() == 0


APPROVE = "agentctl task approve ID; agentctl task list --state review"


def works(swarm: World, review: Review | None) -> str:
    """A task whose work waits for a person's approval; ``review`` is its own word on that."""
    with open_ledger(swarm.places.ledger) as ledger:
        task = ledger.submit(NewTask("x", role="qa", review=review))
        claimed = ledger.claim(task, "swarm-qa-001", "a" * 16, 90.0)
        assert claimed is not None
        good = Finished(task, claimed.fence, Outcome.SUCCEEDED, commit="1" * 40, commits=1)
        assert ledger.finish(good, "swarm-qa-001", way=Way(Review.HUMAN)).state is TaskState.REVIEW
    return task


def test_a_bad_file_changes_nothing_and_is_shown(swarm: World) -> None:
    swarm.up()
    config = swarm.home / "swarm.yaml"
    good = config.read_text()
    config.write_text(good + "bogus: 1\nlimitz: {}\n")
    with pytest.raises(SwarmError) as refused:
        swarm.ask(control.Reload())
    assert "bogus" in str(refused.value)
    assert "limitz" in str(refused.value)
    shown = swarm.status()["swarm"]["config"]
    assert not shown["ok"]
    assert len(shown["problems"]) == 2
    config.write_text(good.replace("grace_seconds: 2", "grace_seconds: 3"))
    os.kill(swarm.pid, signal.SIGHUP)
    eventually(lambda: swarm.status()["swarm"]["config"]["ok"])
    assert swarm.journal("reloaded")[0]["changes"] == ["stop.grace_seconds 2 → 3 (live)"]
    config.write_text("[")
    os.kill(swarm.pid, signal.SIGHUP)
    eventually(lambda: not swarm.status()["swarm"]["config"]["ok"])
    assert swarm.stop() == 0  # works with any file


def test_quota_pauses_everyone_until_the_reset(swarm: World) -> None:
    swarm.configure(count=1)
    swarm.up()
    task = swarm.add("quota")
    paused = eventually(lambda: swarm.status()["swarm"]["paused"])
    assert "quota" in paused["reason"]
    assert paused["until"]
    eventually(lambda: swarm.task(task).state.value == "queued")
    swarm.ask(control.Resume())
    assert swarm.status()["swarm"]["paused"] is None
    swarm.ask(control.Stop(now=True))
    assert swarm.wait() == 0


def test_a_budget_that_is_spent_closes_the_gate(swarm: World) -> None:
    """It ends the session that spent it, whose task waits until there is a new one."""
    swarm.configure(count=1)
    config = swarm.home / "swarm.yaml"
    plain = config.read_text()
    config.write_text(plain.replace("{min_free", "{token_budget: 10, min_free"))
    swarm.up()
    task = swarm.add(f"usage 50 50\n{HELD}\nanswer dear")
    (busy,) = eventually(swarm.active) or []
    eventually(lambda: swarm.journal("session_kill_asked"), 10.0)
    assert "budget" in swarm.journal("session_kill_asked")[0]["reason"]
    swarm.let_go(busy)
    eventually(lambda: swarm.task(task).state.value == "queued", 10.0)
    assert "budget" in swarm.task(task).reason
    eventually(lambda: swarm.states() == ["idle"], 10.0)
    assert len(swarm.journal("promoted")) == 1
    config.write_text(plain)
    swarm.ask(control.Reload())
    assert swarm.done(task).state.value == "done"
    assert swarm.stop() == 0


@pytest.mark.parametrize(
    "command",
    [control.Scale(), control.Scale(total=-1), control.Scale(roles={"nobody": 1})],
)
def test_scale_of_nonsense_is_refused(home: Path, command: control.Scale) -> None:
    with world(home) as swarm:
        swarm.configure(count=1)
        swarm.up()
        with pytest.raises(SwarmError):
            swarm.ask(command)
        assert len(swarm.agents()) == 1
        assert swarm.stop() == 0
