"""Doctor finds what is missing; init writes a configuration that it finds nothing wrong with."""

from __future__ import annotations

import json
import resource
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_fake import FakeSupervisor, Ran

from swarm.cli import checks
from swarm.cli.checks import Level
from swarm.cli.complete import known_agents, known_roles, known_tasks, script
from swarm.config.load import load_settings
from swarm.config.places import Places
from swarm.config.settings import ChatSettings, Limits, Settings

Cli = Callable[..., Ran]


@pytest.fixture
def free_port(places: Places) -> None:
    """The default port may be in use on the machine that runs the tests."""
    places.config.write_text('version: 1\nchat: {listen: "127.0.0.1:0"}\n')


def test_a_good_machine(cli: Cli, places: Places, free_port: None) -> None:
    ran = cli("doctor", "--json")
    told = json.loads(ran.out)
    assert told["version"] == 1
    assert ran.code == (0 if told["ok"] else 1)
    names = {check["name"] for check in told["checks"]}
    assert {"python", "git", "home", "swarm", "config", "ledger", "sandbox", "chat"} <= names
    bad = [check for check in told["checks"] if check["level"] == "bad"]
    assert not bad
    for check in told["checks"]:
        assert check["level"] == "ok" or check["remedy"], check
    lines = cli("doctor").out.splitlines()
    assert all(line.startswith(("ok    ", "warn  ", "bad   ")) for line in lines)


def test_each_problem_of_a_bad_configuration(cli: Cli, places: Places) -> None:
    places.config.write_text("version: 1\nlimits: {max_activ: 3}\nnonsense: 1\n")
    ran = cli("doctor")
    assert ran.code == 1
    assert len([line for line in ran.out.splitlines() if line.startswith("bad   config")]) == 2
    assert "mend the configuration first" in ran.out
    assert "6667" not in ran.out, "nothing is judged by defaults that are not in force"


def test_git_missing_old_and_broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "git"

    def made(text: str) -> checks.Check:
        fake.write_text(f"#!/bin/sh\n{text}\n")
        fake.chmod(0o755)
        return checks.check_git()

    monkeypatch.setattr(shutil, "which", lambda _name: str(fake))
    assert made("echo git version 2.50.1").level is Level.OK
    assert made("echo git version 2.37.9").level is Level.WARN
    assert made("echo git version 2.7.4").level is Level.BAD
    assert made("exit 3").level is Level.BAD
    fake.unlink()
    assert checks.check_git().level is Level.BAD
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert checks.check_git().remedy == "install git"


def test_the_home(places: Places, tmp_path: Path) -> None:
    def level(home: Path) -> Level:
        return next(checks.check_home(Places(home))).level

    assert level(places.home) is Level.OK
    assert level(tmp_path / "not" / "yet") is Level.OK
    places.home.chmod(0o755)
    assert level(places.home) is Level.WARN
    (tmp_path / "file").write_text("")
    assert level(tmp_path / "file") is Level.BAD
    long = Places(tmp_path / ("x" * 120))
    assert checks.check_socket(long).level is Level.BAD


def test_a_port_in_use(places: Places) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = checks.check_port(places, Settings(chat=ChatSettings(listen=f"127.0.0.1:{port}")))
    assert found.level is Level.BAD
    assert "127.0.0.1:0" in found.remedy
    elsewhere = Settings(chat=ChatSettings(url="wss://chat.example.org"))
    assert checks.check_port(places, elsewhere).level is Level.OK


def test_files_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_limit(hard: int) -> Level:
        monkeypatch.setattr(resource, "getrlimit", lambda _which: (hard, hard))
        return checks.check_files(Settings()).level

    assert [with_limit(n) for n in (100, 1024, 65536, resource.RLIM_INFINITY)] == [
        Level.BAD,
        Level.WARN,
        Level.OK,
        Level.OK,
    ]
    greedy = Settings(limits=Limits(min_free_memory_mb=1 << 40))
    assert checks.check_memory(greedy).level is Level.WARN
    assert checks.check_memory(Settings(limits=Limits(min_free_memory_mb=0))).level is Level.OK


def test_too_little_disk_for_a_session_is_told(places: Places) -> None:
    short = Settings(limits=Limits(min_free_disk_mb=1 << 40), workspace_base=str(places.home))
    found = checks.check_disk(places, short)
    assert found.level is Level.WARN
    assert "agentctl clean" in found.remedy
    wide = Settings(limits=Limits(min_free_disk_mb=0), workspace_base=str(places.home))
    assert checks.check_disk(places, wide).level is Level.OK


def test_a_ledger_that_is_none(places: Places) -> None:
    assert checks.check_ledger(places).level is Level.OK
    places.ledger.write_text("junk " * 1000)
    assert checks.check_ledger(places).level is Level.BAD


def test_a_role_that_names_no_runtime(cli: Cli, places: Places) -> None:
    places.roles.mkdir()
    (places.roles / "builder.yaml").write_text("runtime: nowhere\n")
    ran = cli("doctor")
    assert ran.code == 1
    assert "nowhere" in next(line for line in ran.out.splitlines() if "role builder" in line)


def test_init_writes_a_good_file_once(cli: Cli, places: Places, tmp_path: Path) -> None:
    assert cli("init").code == 0
    written = places.config.read_bytes()
    assert load_settings(places.config).settings == Settings()
    assert load_settings(places.config).ok
    again = cli("init")
    assert again.code == 2
    assert "not overwritten" in again.err
    assert places.config.read_bytes() == written
    other = tmp_path / "other.yaml"
    assert cli("init", "--config", str(other)).code == 0
    assert other.read_bytes() == written
    assert cli("init", "--config", str(tmp_path / "no" / "dir.yaml")).code == 2


def test_a_full_disk_leaves_no_half_configuration(
    cli: Cli, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, real[1]))
    try:
        ran = cli("init")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, real)
        signal.signal(signal.SIGXFSZ, before)
    assert ran.code == 1
    assert len(ran.err.splitlines()) == 1
    assert not places.config.exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, cli: Cli) -> None:
    ran = cli("completion", shell)
    assert ran.code == 0
    assert "_AGENTCTL_COMPLETE" in ran.out
    if shell == "bash" and shutil.which("bash"):
        assert subprocess.run(["bash", "-n"], input=script("bash").encode()).returncode == 0


def complete(words: str, home: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> str:
    monkeypatch.setenv("_AGENTCTL_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - (not words.endswith(" "))))
    return cli().out


def test_names_are_completed(
    supervisor: FakeSupervisor, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = supervisor.places.home
    task = cli("task", "add", "x").out.strip()
    assert "plain,swarm" in complete("agentctl sw", home, monkeypatch, cli)
    agents = complete("agentctl agent show swarm-b", home, monkeypatch, cli)
    assert agents.split() == ["plain,swarm-builder-001", "plain,swarm-builder-002"]
    assert task in complete("agentctl task show t-", home, monkeypatch, cli)
    assert "plain,auditor" in complete("agentctl task add --role a", home, monkeypatch, cli)
    assert "plain,builder=" in complete("agentctl swarm up --role b", home, monkeypatch, cli)


def test_completion_without_anything_is_silent(places: Places) -> None:
    assert known_agents() == []
    assert known_tasks() == []
    assert not places.ledger.exists()
    assert "builder" in known_roles()
