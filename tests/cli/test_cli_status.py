"""The status object and page; the short verbs of ``swarm`` and ``agent``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from cli_fake import STATUS, FakeSupervisor, Ran

from swarm.cli.fleet_view import LISTED, page, select
from swarm.core.model import TaskState
from swarm.ledger import NewTask, open_ledger
from swarm.wire import control

Cli = Callable[..., Ran]


def test_the_json_object_is_the_contract_s(supervisor: FakeSupervisor, cli: Cli) -> None:
    with open_ledger(supervisor.places.ledger) as ledger:
        ledger.submit(NewTask(prompt="x"))
    ran = cli("swarm", "status", "--json")
    assert ran.code == 0
    told = json.loads(ran.out)
    assert told["version"] == 1
    assert {k: told[k] for k in STATUS} == STATUS
    assert told["tasks"]["queued"] == 1
    assert set(told["tasks"]) == {str(state) for state in TaskState}
    assert told["usage"] == {"input_tokens": None, "output_tokens": None, "cost_usd": None}


def test_without_a_ledger_its_parts_are_unknown(supervisor: FakeSupervisor, cli: Cli) -> None:
    told = json.loads(cli("swarm", "status", "--json").out)
    assert told["tasks"] == {}
    assert told["usage"]["cost_usd"] is None
    assert not supervisor.places.ledger.exists(), "a question must not make the ledger"


def test_a_bad_ledger_does_not_hide_the_fleet(supervisor: FakeSupervisor, cli: Cli) -> None:
    supervisor.places.ledger.write_text("junk " * 1000)
    told = json.loads(cli("swarm", "status", "--json").out)
    assert told["ledger_error"]
    assert len(told["agents"]) == 2
    assert "ledger  " in cli("swarm", "status").out


def test_the_plain_page(supervisor: FakeSupervisor, cli: Cli) -> None:
    out = cli("swarm", "status").out
    assert "pid 4242" in out
    assert "1 idle, 1 active; at most 5 active" in out
    assert "cost unknown" in out
    lines = out.splitlines()
    head = next(line for line in lines if line.startswith("AGENT"))
    row = next(line for line in lines if line.startswith("swarm-builder-002"))
    assert row[head.index("STATE") :].startswith("active")
    assert row[head.index("TASK") :].startswith("t-00000001.1")
    assert row[head.index("MEMORY") :].startswith("-")
    assert "evil \\x1b[31m[bold]reason" in row
    assert any(line.startswith("chat") and "running" in line for line in lines)


def test_a_parked_runtime_is_told_once() -> None:
    why = "429: usage limit, resets at 17:57"
    told = f"quota: claude is parked: {why}"
    quota = {"runtime": "claude", "reason": why, "until": "2026-01-01T12:00:00.500Z"}
    swarm: dict[str, Any] = {
        "paused": {"reason": told, "until": None},
        "quotas": [quota],
        "gate": {"open": False},
    }
    agents = [{"name": "swarm-builder-001", "state": "idle", "reason": told}]
    text = str(page({"swarm": swarm, "agents": agents}, False, terminal=False))
    assert text.count(why) == 1
    assert f"quota   claude parked until 2026-01-01 12:00:00 UTC ({why})" in text
    assert text.rstrip().endswith("quota: claude is parked")


def test_a_degraded_agent_can_be_brought_back() -> None:
    agents = [{"name": "swarm-builder-001", "state": "degraded", "reason": "crashed"}]
    assert "agentctl agent restart" in str(page({"agents": agents}, False, terminal=False))


def test_pause_and_a_bad_config_are_shown(supervisor: FakeSupervisor, cli: Cli) -> None:
    swarm: dict[str, Any] = {
        **STATUS["swarm"],  # type: ignore[dict-item]
        "paused": {"reason": "quota", "until": "2026-01-01T12:00:00Z"},
        "config": {"path": "/c.yaml", "ok": False, "problems": ["/c.yaml:3: limits: no"]},
    }
    supervisor.replies[control.Status] = [control.Done(data={**STATUS, "swarm": swarm})]
    out = cli("swarm", "status").out
    assert "paused  quota, until 2026-01-01 12:00:00 UTC" in out
    assert "/c.yaml:3: limits: no" in out


def test_a_page_of_nothing_and_of_nonsense_is_still_a_page() -> None:
    assert "none" in str(page({}, False, terminal=False))
    junk = {"swarm": 3, "agents": [1, {"task": "x", "state": []}], "services": {}, "tasks": None}
    assert "AGENT" in str(page(junk, False, terminal=False))


def test_a_large_fleet_is_summed_up() -> None:
    idle = [{"name": f"swarm-qa-{n:03d}", "state": "idle"} for n in range(1000)]
    busy = [{"name": f"swarm-builder-{n:03d}", "state": "active"} for n in range(3)]
    shown, left_out = select([*idle, *busy])
    assert [agent["state"] for agent in shown] == ["active"] * 3
    assert left_out == 1000
    text = str(page({"agents": [*idle, *busy]}, False, terminal=False))
    assert "1000 idle, 3 active" in text
    assert "1000 more agents are not listed: --all" in text
    assert len(text.splitlines()) < LISTED + 12
    assert len(str(page({"agents": idle}, True, terminal=False)).splitlines()) > 1000


def test_a_terminal_gets_colours_and_no_markup_of_others(
    supervisor: FakeSupervisor, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swarm.cli.status.on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    out = cli("swarm", "status").out
    assert "evil \\x1b[31m[bold]reason" in out


def test_watch_goes_on_until_the_swarm_is_gone(supervisor: FakeSupervisor) -> None:
    """Plain: a page after another; when the swarm is gone it ends with 4."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "swarm.cli", "swarm", "status", "--watch", "--every", "0.1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    pages = 0
    while pages < 2:
        pages += process.stdout.readline().startswith("-- ")
    supervisor.unlock()
    _, err = process.communicate(timeout=20)
    assert process.returncode == 4
    assert "no swarm is running" in err


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["swarm", "scale", "7"], control.Scale(total=7)),
        (["swarm", "scale", "qa=0", "builder=3"], control.Scale(roles={"qa": 0, "builder": 3})),
        (["swarm", "reload"], control.Reload()),
        (["swarm", "reload", "--dry-run"], control.Reload(dry_run=True)),
        (["swarm", "pause", "--reason", "lunch"], control.Pause(reason="lunch")),
        (["swarm", "resume"], control.Resume()),
        (["agent", "stop", "builder-001"], control.AgentStop(agent="swarm-builder-001")),
        (["agent", "restart", "swarm-qa-012"], control.AgentRestart(agent="swarm-qa-012")),
        (
            ["agent", "kill-session", "qa-012", "--reason", "r"],
            control.AgentKillSession(agent="swarm-qa-012", reason="r"),
        ),
    ],
    ids=str,
)
def test_the_verbs_ask_for_what_they_say(
    arguments: list[str], command: control.Command, supervisor: FakeSupervisor, cli: Cli
) -> None:
    supervisor.replies[type(command)] = [
        control.Progress("on it"),
        control.Done(lines=("it is \x1b[1mdone",)),
    ]
    ran = cli(*arguments)
    assert ran.code == 0
    assert ran.out.endswith("it is \\x1b[1mdone\n")
    assert supervisor.heard == [command]
    supervisor.replies[type(command)] = [control.Refused("no such agent", "see status")]
    ran = cli(*arguments)
    assert (ran.code, ran.err) == (1, "agentctl: no such agent; see status\n")


def test_agent_show(supervisor: FakeSupervisor, cli: Cli) -> None:
    agents: Any = STATUS["agents"]
    supervisor.replies[control.AgentShow] = [control.Done(data=agents[1])]
    told = json.loads(cli("agent", "show", "builder-002", "--json").out)
    assert told == {"version": 1, **agents[1]}
    out = cli("agent", "show", "builder-002").out
    assert "restarts" in out
    assert "id t-00000001, attempt 1, session_pid 4245, started_at -" in out
    assert "\x1b" not in out


def test_a_closed_gate_and_the_next_restart_are_shown() -> None:
    soon = {"name": "swarm-qa-001", "state": "backoff", "reason": "crashed, signal 9"}
    facts = {
        "swarm": {"gate": {"open": False, "reason": "the load is 9.0 a processor"}, "paused": None},
        "agents": [{**soon, "next_restart_at": "2999-01-01T00:00:00Z"}],
        "services": [],
    }
    text = str(page(facts, True, terminal=False))
    assert "gate    no session starts: the load is 9.0 a processor" in text
    assert "d: crashed, signal 9" in text
    assert "again in " in text
    paused = {"open": False, "reason": "paused"}
    facts["swarm"] = {"gate": paused, "paused": {"reason": "lunch", "until": None}}
    assert "gate" not in str(page(facts, True, terminal=False))
