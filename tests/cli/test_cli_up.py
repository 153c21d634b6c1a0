"""Starting: what the supervisor is given, and what comes back from one in the background."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_fake import Ran
from tests_support import eventually

from swarm.cli import detach, up
from swarm.cli.lock import is_locked
from swarm.config.places import Places
from swarm.errors import Interrupted

Cli = Callable[..., Ran]

CHILD = """
import json, os, sys, time
arguments = sys.argv[1:]
given = os.environ["AGENTCTL_HOME"] + "/given.json"
with open(given + ".part", "w") as file:
    json.dump({"argv": arguments, "sid": os.getsid(0), "pid": os.getpid(),
               "fds": [os.readlink(f"/proc/self/fd/{n}") for n in (0, 1, 2)]}, file)
os.rename(given + ".part", given)
ready = int(arguments[arguments.index("--ready-fd") + 1])
answer = os.environ.get("ANSWER", "")
if answer:
    os.write(ready, answer.encode() + b"\\n")
    os.close(ready)
print(os.environ.get("LAST", ""), file=sys.stderr, flush=True)
time.sleep(float(os.environ.get("STAY", "0")))
sys.exit(int(os.environ.get("STATUS", "0")))
"""


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test stands inside a repository unless it says so."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch, places: Places) -> Iterator[None]:
    """A stand-in for ``python -m swarm.supervisor`` that does what its environment says."""
    monkeypatch.setattr(
        up, "supervisor_argv", lambda *rest: [sys.executable, "-S", "-c", CHILD, *rest]
    )
    yield
    given = places.home / "given.json"
    if given.exists():
        pid = json.loads(given.read_text())["pid"]
        try:
            os.kill(pid, 9)  # our own child, not waited for yet
        except ProcessLookupError:
            return
        os.waitpid(pid, 0)


def commit(project: Path) -> None:
    """A repository with one commit."""
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    who = ["-c", "user.name=n", "-c", "user.email=e@x"]
    command = ["git", "-C", str(project), *who, "commit", "-q", "--allow-empty", "-m", "first"]
    subprocess.run(command, check=True)


def given(places: Places) -> dict[str, object]:
    loaded: dict[str, object] = json.loads((places.home / "given.json").read_text())
    return loaded


def test_ready(child: None, cli: Cli, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "ANSWER", json.dumps({"ready": True, "pid": 7, "lines": ["ready: 3 agents"]})
    )
    monkeypatch.setenv("STAY", "60")
    ran = cli("swarm", "up", "--detach", "-n", "4")
    assert (ran.code, ran.out) == (0, "ready: 3 agents\n")
    told = given(places)
    assert told["sid"] == told["pid"], (
        "it has a session of its own: no terminal's signal reaches it"
    )
    log = str(places.logs / "stderr.log")
    assert told["fds"] == ["/dev/null", log, log]
    argv = told["argv"]
    assert isinstance(argv, list)
    overrides = json.loads(argv[argv.index("--overrides") + 1])
    assert overrides == {"n": 4, "roles": {}, "source": None}
    assert "--config" not in argv
    assert places.home.stat().st_mode & 0o077 == 0


def test_roles_config_and_the_repository_one_stands_in(
    child: None, cli: Cli, places: Places, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ANSWER", '{"ready":true,"pid":7}')
    project = tmp_path / "my project"
    (project / "deep").mkdir(parents=True)
    commit(project)
    (tmp_path / "c.yaml").write_text("version: 1\n")
    monkeypatch.chdir(project / "deep")
    ran = cli(
        "swarm", "up", "-d", "--role", "qa=2", "--role", "auditor=0", "--config", "../../c.yaml"
    )
    assert ran.code == 0
    assert f"working on {project}" in ran.err
    argv = given(places)["argv"]
    assert isinstance(argv, list)
    overrides = json.loads(argv[argv.index("--overrides") + 1])
    assert overrides == {"n": None, "roles": {"qa": 2, "auditor": 0}, "source": str(project)}
    assert os.path.samefile(argv[argv.index("--config") + 1], tmp_path / "c.yaml")


def test_a_configured_source_wins_over_where_one_stands(
    child: None, cli: Cli, places: Places, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ANSWER", '{"ready":true,"pid":7}')
    commit(tmp_path)
    places.config.write_text("version: 1\nrepo: {source: /srv/other}\n")
    ran = cli("swarm", "up", "-d")
    assert "working on" not in ran.err
    argv = given(places)["argv"]
    assert isinstance(argv, list)
    assert json.loads(argv[argv.index("--overrides") + 1])["source"] is None


def test_a_repository_without_a_commit_is_left_alone(
    child: None, cli: Cli, places: Places, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ANSWER", '{"ready":true,"pid":7}')
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert "has no commit yet" in cli("swarm", "up", "-d").err
    argv = given(places)["argv"]
    assert isinstance(argv, list)
    assert json.loads(argv[argv.index("--overrides") + 1])["source"] is None


@pytest.mark.parametrize("code", [1, 2, 5])
def test_a_refusal_is_relayed(
    code: int, child: None, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"error": "port 6667 is in use", "remedy": "set chat.listen", "exit_code": code}
    monkeypatch.setenv("ANSWER", json.dumps(answer))
    ran = cli("swarm", "up", "--detach")
    assert ran.code == code
    assert ran.err.splitlines()[-1] == "agentctl: port 6667 is in use; set chat.listen"


@pytest.mark.parametrize("answer", ["", "no json", "[1]"])
def test_a_death_without_a_word_is_told_with_its_last_words(
    answer: str, child: None, cli: Cli, monkeypatch: pytest.MonkeyPatch, places: Places
) -> None:
    monkeypatch.setenv("ANSWER", answer)
    monkeypatch.setenv("STATUS", "3")
    monkeypatch.setenv("LAST", "ImportError: no module \x1b[31mnamed x")
    ran = cli("swarm", "up", "--detach")
    assert ran.code == 1
    line = ran.err.splitlines()[-1]
    assert "exit status 3" in line
    assert "ImportError: no module \\x1b[31mnamed x" in line
    assert str(places.logs / "stderr.log") in line


def test_ctrl_c_ends_what_was_starting(
    child: None, cli: Cli, monkeypatch: pytest.MonkeyPatch, places: Places
) -> None:
    monkeypatch.setenv("STAY", "60")

    def interrupted(places: Places, reader: int) -> None:
        eventually((places.home / "given.json").exists)
        raise KeyboardInterrupt

    monkeypatch.setattr(detach, "_wait", interrupted)
    ran = cli("swarm", "up", "--detach")
    assert ran.code == Interrupted.exit_code
    eventually((places.home / "given.json").read_text)
    pid = given(places)["pid"]
    assert isinstance(pid, int)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_in_the_foreground_it_becomes_the_supervisor(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[tuple[str, list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda *rest: called.append(rest))
    assert cli("swarm", "start").code == 0
    [(program, argv, environment)] = called
    assert program == sys.executable
    assert argv[1:4] == ["-P", "-m", "swarm.supervisor"]
    assert environment["AGENTCTL_HOME"] == str(home)


def test_a_client_that_is_terminated_ends_the_swarm_it_was_starting(
    home: Path, tmp_path: Path
) -> None:
    places = Places(home)
    places.config.write_text(
        f'workspace_base: {tmp_path}/agents\nchat: {{listen: "127.0.0.1:0"}}\n'
    )
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "swarm.cli", "swarm", "up", "--detach"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as client:
        eventually(lambda: is_locked(places), within=10)
        client.terminate()
        assert client.wait(20) in (0, 130)
    if client.returncode == 130:
        eventually(lambda: not is_locked(places), within=10)
    else:  # it was ready just before
        subprocess.run(
            [sys.executable, "-P", "-m", "swarm.cli", "swarm", "stop", "--now"],
            stdout=subprocess.DEVNULL,
            check=True,
        )
