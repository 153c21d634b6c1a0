"""A real supervisor with real children, from up to stop."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervisor_world import World, children, family, gone, kill, world
from tests_support import eventually

from swarm.errors import SwarmError
from swarm.wire import control


@pytest.fixture
def swarm(home: Path) -> Iterator[World]:
    with world(home) as made:
        yield made


def test_up_status_and_stop_leave_nothing(swarm: World) -> None:
    """The one long story, as starting a fleet is the dear part of each test."""
    answer = swarm.up()
    assert answer["pid"] == swarm.pid
    assert answer["lines"][-1] == "ready: 2 agents"
    status = swarm.status()
    facts = status["swarm"]
    assert facts["pid"] == swarm.pid
    assert facts["home"] == str(swarm.home)
    assert facts["chat_url"].startswith("ws://127.0.0.1:")
    assert (swarm.home / "chat.address").read_text().strip() == facts["chat_url"]
    assert facts["paused"] is None
    assert facts["config"] == {"path": str(swarm.home / "swarm.yaml"), "ok": True, "problems": []}
    assert status["limits"]["max_active"] == 5
    assert [s["name"] for s in status["services"]] == ["chat", "coordinator"]
    first = status["agents"][0]
    assert (first["name"], first["state"], first["role"]) == (
        "swarm-builder-001",
        "idle",
        "builder",
    )
    assert first["task"] is None
    assert first["restarts"] == 0
    assert first["last_heartbeat"].endswith("Z")
    eventually(lambda: swarm.status()["agents"][0]["memory_mb"])
    # No threads, ever (architecture, "Processes").
    assert os.listdir(f"/proc/{swarm.pid}/task") == [str(swarm.pid)]
    for name in ("control.sock", "control.token", "swarm.pid", "home.id", "identity.json"):
        assert (swarm.home / name).stat().st_mode & 0o077 == 0, name
    assert swarm.home.stat().st_mode & 0o077 == 0
    below = family(swarm.pid)
    assert len(below) >= 5  # zygote, chat, coordinator, two daemons
    assert swarm.stop() == 0
    assert all(gone(pid) for pid in below)
    assert not (swarm.home / "control.sock").exists()
    assert (swarm.home / "swarm.pid").exists()
    assert os.listdir(swarm.base) == []
    assert swarm.journal("swarm_stopped")


def test_a_task_runs_and_a_second_up_leaves_the_first_alone(swarm: World) -> None:
    swarm.up()
    task = swarm.add("write a.txt hello\ncommit one\nusage 5 7\nanswer fine")
    assert swarm.done(task).state.value == "done"
    other = World(swarm.home)
    answer = other.start()
    assert other.wait() == 5
    assert answer["exit_code"] == 5
    assert str(swarm.pid) in answer["error"]
    assert swarm.states() == ["idle", "idle"]
    assert len(swarm.journal("session_started")) == 1
    assert swarm.stop() == 0


def test_killed_daemon_with_a_session_loses_nothing(swarm: World) -> None:
    swarm.up()
    task = swarm.add("write b.txt half\nonce think 60\nanswer second try")
    (victim,) = eventually(swarm.active)
    swarm.wrote(victim, "b.txt")
    session = victim["task"]["session_pid"]
    kill(victim["pid"])
    assert swarm.done(task).state.value == "done"
    assert gone(session)
    attempts = swarm.attempts(task)
    assert [a.outcome.value for a in attempts] == ["lost", "succeeded"]
    back = eventually(lambda: swarm.agents()[victim["name"]]["state"] == "idle")
    assert back
    assert swarm.agents()[victim["name"]]["restarts"] == 1
    (lost,) = swarm.journal("task_lost")
    assert lost["child"] == victim["name"]
    assert swarm.stop() == 0


def test_killed_supervisor_leaves_nothing_and_the_next_goes_on(swarm: World) -> None:
    swarm.up()
    task = swarm.add("once daemonize 60\nwrite b.txt half\nonce think 60\nanswer at last")
    (busy,) = eventually(swarm.active)
    swarm.wrote(busy, "b.txt")
    identity = busy["agent_id"]
    below = family(swarm.pid)
    kill(swarm.pid)
    swarm.wait()
    eventually(lambda: all(gone(pid) for pid in below), 2.0, "everything below died with it")
    swarm.up()
    assert swarm.done(task).state.value == "done"
    assert swarm.agents()[busy["name"]]["agent_id"] == identity
    assert swarm.journal("workspace_adopted")
    assert swarm.stop() == 0


def test_a_stopped_daemon_is_found_by_its_silence(swarm: World) -> None:
    swarm.configure(count=1, beat=0.2)
    swarm.up()
    victim = swarm.status()["agents"][0]
    os.kill(victim["pid"], signal.SIGSTOP)
    eventually(lambda: gone(victim["pid"]), 15.0)
    eventually(lambda: swarm.states() == ["idle"], 10.0)
    (unresponsive,) = swarm.journal("child_unresponsive")
    assert "heartbeats missed" in unresponsive["reason"]
    assert swarm.stop() == 0


@pytest.mark.parametrize("service", ["coordinator", "chat"])
def test_a_dead_service_comes_back_and_work_goes_on(swarm: World, service: str) -> None:
    swarm.up()
    before = swarm.services()[service]
    url = swarm.status()["swarm"]["chat_url"]
    kill(before["pid"])

    def back() -> bool:
        now = swarm.services()[service]
        return now["state"] == "running" and now["pid"] != before["pid"]

    eventually(back, 10.0)
    assert swarm.status()["swarm"]["chat_url"] == url
    task = swarm.add("answer still here")
    assert swarm.done(task, 30.0).state.value == "done"
    assert swarm.stop() == 0


def test_a_dead_zygote_is_replaced(swarm: World) -> None:
    swarm.up()
    known = {child["pid"] for child in (*swarm.agents().values(), *swarm.services().values())}
    # Daemons may be cloning: their own children are none of the supervisor's.
    (zygote,) = [pid for pid in children(swarm.pid) if pid not in known]
    kill(zygote)
    eventually(lambda: swarm.journal("zygote_died"))
    swarm.ask(control.Scale(total=3))
    eventually(lambda: swarm.states() == ["idle"] * 3, 10.0)
    assert swarm.stop() == 0


def test_a_port_in_use_is_named_and_nothing_stays(swarm: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = (swarm.home / "swarm.yaml").read_text()
        (swarm.home / "swarm.yaml").write_text(text.replace("127.0.0.1:0", f"127.0.0.1:{port}"))
        answer = swarm.start()
    assert swarm.wait() == 1
    assert str(port) in answer["error"]
    assert "Traceback" not in (swarm.home / "out.txt").read_text()


def test_a_fleet_that_cannot_come_up_says_who_and_why(swarm: World) -> None:
    swarm.base.write_text("a file where the workspaces should be")
    swarm.configure(count=2, more="")
    text = (swarm.home / "swarm.yaml").read_text()
    (swarm.home / "swarm.yaml").write_text(
        text.replace("base_seconds: 0.05", "base_seconds: 0, max_restarts: 1")
    )
    answer = swarm.start()
    assert swarm.wait() == 1
    assert "swarm-builder-001" in answer["error"]
    assert str(swarm.base) in answer["error"]


def test_ctrl_c_stops_and_a_second_one_skips_the_grace(swarm: World) -> None:
    swarm.configure(count=1, more="")
    text = (swarm.home / "swarm.yaml").read_text()
    (swarm.home / "swarm.yaml").write_text(text.replace("grace_seconds: 2", "grace_seconds: 60"))
    swarm.up()
    task = swarm.add("ignore-term\nwrite b.txt half\nthink 60")
    (busy,) = eventually(swarm.active)
    swarm.wrote(busy, "b.txt")
    os.kill(swarm.pid, signal.SIGINT)
    eventually(lambda: swarm.status()["swarm"]["stopping"])
    assert not gone(busy["task"]["session_pid"])
    os.kill(swarm.pid, signal.SIGINT)
    assert swarm.wait() == 0
    assert gone(busy["task"]["session_pid"])
    assert swarm.task(task).state.value == "queued"
    assert not os.listdir(swarm.base)


def test_stop_kills_a_session_that_ignores_term_and_queues_its_task(swarm: World) -> None:
    swarm.configure(count=1)
    swarm.up()
    task = swarm.add("ignore-term\nwrite b.txt half\nthink 60")
    (busy,) = eventually(swarm.active)
    swarm.wrote(busy, "b.txt")
    assert swarm.stop() == 0
    assert gone(busy["task"]["session_pid"])
    assert swarm.task(task).state.value == "queued"
    assert [a.outcome.value for a in swarm.attempts(task)] == ["lost"]


def test_drain_lets_the_session_finish(swarm: World) -> None:
    swarm.configure(count=1)
    swarm.up()
    task = swarm.add("think 1\nanswer whole")
    eventually(swarm.active)
    assert swarm.stop(drain=0.0) == 0
    assert swarm.task(task).state.value == "done"


def test_persist_keeps_workspaces_and_identities(swarm: World) -> None:
    swarm.configure(count=1, more="persist: true")
    swarm.up()
    identity = swarm.status()["agents"][0]["agent_id"]
    assert swarm.stop() == 0
    assert os.listdir(swarm.base) == ["swarm-builder-001"]
    swarm.up()
    assert swarm.status()["agents"][0]["agent_id"] == identity
    assert swarm.stop() == 0


def test_orders_for_one_agent(swarm: World) -> None:
    swarm.up()
    one, two = sorted(swarm.agents())
    swarm.ask(control.AgentStop(agent=one))
    assert swarm.states() == ["stopped", "idle"]
    task = swarm.add("think 60")
    (busy,) = eventually(swarm.active)
    assert busy["name"] == two
    shown = swarm.ask(control.AgentShow(agent=two)).data
    assert shown["workspace"] == str(swarm.base / two)
    swarm.ask(control.AgentKillSession(agent=two, reason="wrong one"))
    assert swarm.done(task).state.value == "cancelled"
    swarm.ask(control.AgentRestart(agent=one))
    eventually(lambda: swarm.states() == ["idle", "idle"], 10.0)
    assert swarm.agents()[one]["restarts"] == 0
    with pytest.raises(SwarmError, match="there is no agent 'swarm-x-001'"):
        swarm.ask(control.AgentStop(agent="swarm-x-001"))
    assert swarm.stop() == 0
