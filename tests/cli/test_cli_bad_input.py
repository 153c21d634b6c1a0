"""Bad input: one line that names what and how to mend it, the right code, nothing changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cli_fake import FakeSupervisor, Ran

from swarm.config.places import Places

Cli = Callable[..., Ran]

USAGE = [
    (["--nope"], "--nope"),
    (["nope"], "nope"),
    (["swarm", "nope"], "nope"),
    (["init", "extra"], "extra"),
    (["demo", "--nope"], "--nope"),
    (["doctor", "extra"], "extra"),
    (["completion"], "bash"),
    (["completion", "tcsh"], "tcsh"),
    (["swarm", "up", "-n", "0"], "-n"),
    (["swarm", "up", "-n", "-3"], "-n"),
    (["swarm", "up", "-n", "many"], "many"),
    (["swarm", "up", "-n", "99999999"], "-n"),
    (["swarm", "up", "-n", "2", "--role", "builder=0"], "no agents"),
    (["swarm", "up", "--role", "builder"], "ROLE=N"),
    (["swarm", "up", "--role", "builder=-1"], "-1"),
    (["swarm", "up", "--role", "builder=x"], "builder"),
    (["swarm", "up", "--role", "builder=²"], "²"),
    (["swarm", "up", "--role", "../x=1"], "../x"),
    (["swarm", "up", "--role", "builder=0"], "no agents"),
    (["swarm", "up", "--role", "nobody=1"], "there are auditor, builder"),
    (["swarm", "up", "--role", "builder=1", "--role", "builder=2"], "twice"),
    (["swarm", "up", "--config", "/nonexistent/swarm.yaml"], "/nonexistent/swarm.yaml"),
    (["swarm", "up", "extra"], "extra"),
    (["swarm", "stop", "--now", "--drain"], "exclude"),
    (["swarm", "stop", "--drain", "soon"], "soon"),
    (["swarm", "stop", "--drain=-1"], "-1"),
    (["swarm", "stop", "--drain", "nan"], "not a finite number"),
    (["swarm", "stop", "--drain", "inf"], "not a finite number"),
    (["swarm", "status", "--every", "0"], "--every"),
    (["swarm", "scale"], "N | ROLE=N"),
    (["swarm", "scale", "many"], "many"),
    (["swarm", "scale", "-1"], "-1"),
    (["swarm", "scale", "3", "4"], "ROLE=N"),
    (["swarm", "scale", "builder=1", "builder=2"], "twice"),
    (["swarm", "scale", "builder=1e3"], "1e3"),
    (["swarm", "scale", "99999999999"], "99999999999"),
    (["swarm", "logs", "../../etc/passwd"], "../../etc/passwd"),
    (["swarm", "logs", "-n", "-1"], "-n"),
    (["swarm", "logs", "nobody"], "swarm-builder-003"),
    (["swarm", "story"], "AGENT"),
    (["swarm", "story", "x y"], "x y"),
    (["agent", "show"], "AGENT"),
    (["agent", "stop", "\x1b[2J"], "\\x1b[2J"),
    (["agent", "restart", "supervisor"], "supervisor"),
    (["agent", "kill-session", ""], "names no agent"),
    (["task", "add"], "empty"),
    (["task", "add", "  "], "empty"),
    (["task", "add", "--role", "Builder!", "x"], "Builder!"),
    (["task", "add", "--role", "nobody", "x"], "there are auditor, builder, general, planner, qa"),
    (["task", "add", "--priority", "high", "x"], "high"),
    (["task", "add", "--priority", "1000000", "x"], "-100"),
    (["task", "add", "--component", "a b", "x"], "a b"),
    (["task", "add", "--after", "zzzz", "x"], "zzzz"),
    (["task", "add", "--repo", "--upload-pack=x", "x"], "--upload-pack=x"),
    (["task", "add", "a\x00b"], "NUL"),
    (["task", "list", "--state", "sleeping"], "sleeping"),
    (["task", "list", "-n", "0"], "-n"),
    (["task", "show"], "ID"),
    (["task", "show", "zzzz"], "zzzz"),
    (["task", "show", ""], "no task"),
    (["task", "show", "%s' OR 1=1 --"], "no task"),
    (["task", "logs", "zzzz"], "zzzz"),
    (["task", "logs", "zzzz", "0"], "ATTEMPT"),
    (["task", "wait"], "ID"),
    (["task", "wait", "zzzz"], "zzzz"),
    (["task", "wait", "zzzz", "--timeout", "-1"], "--timeout"),
    (["task", "wait", "zzzz", "--timeout", "nan"], "--timeout"),
    (["plan", "wait", "zzzz", "--timeout", "nan"], "--timeout"),
    (["lane", "wait", "--timeout", "nan"], "--timeout"),
    (["lane", "claim", "--wait", "inf"], "--wait"),
    (["clean", "--older-than", "nan"], "--older-than"),
    (["task", "retry", "zzzz"], "zzzz"),
    (["task", "cancel"], "ID"),
    (["task", "diff", "zzzz"], "zzzz"),
    (["task", "show", "x\udcff"], "UTF-8"),
    (["task", "add", "--after", "x\udcff", "x"], "UTF-8"),
    (["task", "add", "--response-to", "/x\udcff", "x"], "UTF-8"),
    (["plan", "status", "x\udcff"], "UTF-8"),
    (["chat", "send", "x\udcff"], "UTF-8"),
]


@pytest.mark.parametrize(("arguments", "named"), USAGE, ids=[" ".join(a) for a, _ in USAGE])
def test_wrong_usage_is_one_line_and_exit_2(
    arguments: list[str], named: str, cli: Cli, places: Places
) -> None:
    ran = cli(*arguments)
    assert ran.code == 2, ran
    assert ran.out == ""
    [line] = ran.err.splitlines()
    assert line.startswith("agentctl: ")
    assert named in line
    assert "\x1b" not in line
    assert not places.pid_file.exists()


NEEDS_SWARM = [
    ["swarm", "status"],
    ["swarm", "status", "--json"],
    ["swarm", "status", "--watch"],
    ["swarm", "stop"],
    ["swarm", "stop", "--now"],
    ["swarm", "scale", "3"],
    ["swarm", "scale", "0"],
    ["swarm", "scale", "builder=2"],
    ["swarm", "reload"],
    ["swarm", "upgrade"],
    ["swarm", "pause"],
    ["swarm", "resume"],
    ["agent", "show", "swarm-builder-001"],
    ["agent", "stop", "builder-001"],
    ["agent", "restart", "builder-001"],
    ["agent", "kill-session", "builder-001"],
]


@pytest.mark.parametrize("arguments", NEEDS_SWARM, ids=" ".join)
def test_without_a_swarm_exit_4(arguments: list[str], cli: Cli, home: Path) -> None:
    ran = cli(*arguments)
    assert ran.code == 4, ran
    assert (
        ran.err == f"agentctl: no swarm is running in {home}; start one with 'agentctl swarm up'\n"
    )
    assert list(home.iterdir()) == []


def test_a_second_up_exits_5_and_touches_nothing(supervisor: FakeSupervisor, cli: Cli) -> None:
    for more in ([], ["--detach"], ["-n", "3"]):
        ran = cli("swarm", "up", *more)
        assert ran.code == 5
        assert "already running" in ran.err
    assert supervisor.heard == []


@pytest.mark.parametrize("verb", [["up"], ["up", "--detach"]])
def test_a_bad_configuration_is_told_problem_by_problem(
    verb: list[str], cli: Cli, places: Places
) -> None:
    places.config.write_text("version: 1\nlimits:\n  max_activ: 3\n  warn_at: 7\nnonsense: 1\n")
    ran = cli("swarm", *verb)
    assert ran.code == 2
    lines = ran.err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("agentctl: ") for line in lines)
    assert "max_active" in ran.err
    assert not places.pid_file.exists()


def test_a_configuration_named_by_the_environment(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTCTL_SWARM_CONFIG", str(tmp_path / "gone.yaml"))
    ran = cli("swarm", "up")
    assert ran.code == 2
    assert "gone.yaml" in ran.err


def test_a_home_whose_socket_path_is_too_long(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTCTL_HOME", str(tmp_path / ("x" * 120)))
    ran = cli("swarm", "up")
    assert ran.code == 2
    assert "choose a shorter AGENTCTL_HOME" in ran.err
    assert cli("swarm", "status").code == 4


def test_a_ledger_that_is_none(cli: Cli, places: Places) -> None:
    places.ledger.write_text("this is no database at all\n" * 100)
    before = places.ledger.read_bytes()
    for command in (["task", "list"], ["task", "add", "x"], ["task", "show", "x"]):
        ran = cli(*command)
        assert ran.code == 1
        assert len(ran.err.splitlines()) == 1
    assert places.ledger.read_bytes() == before


def test_a_home_that_is_a_file(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "home"
    path.write_text("")
    monkeypatch.setenv("AGENTCTL_HOME", str(path))
    for command, code in ((["task", "list"], 1), (["swarm", "status"], 4), (["init"], 1)):
        ran = cli(*command)
        assert ran.code == code, ran
        assert len(ran.err.splitlines()) == 1
    assert path.read_text() == ""


def test_git_is_missing(cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(home))
    ran = cli("swarm", "up")
    assert ran.code == 1
    assert ran.err.splitlines()[-1].endswith("install git")


def test_a_repository_that_does_not_exist(cli: Cli, home: Path) -> None:
    ran = cli("task", "add", "--repo", str(home / "nowhere"), "x")
    assert ran.code in (1, 2)
    assert "nowhere" in ran.err
    assert len(ran.err.splitlines()) == 1
    assert cli("task", "list").out == "no tasks; 'agentctl task add' adds one\n"
