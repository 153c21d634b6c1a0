"""One place turns errors into a line and an exit code; nobody sees a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from cli_fake import Ran
from tests_support import eventually

from swarm import errors
from swarm.cli import main
from swarm.cli.lazy import Entry, LazyGroup

Cli = Callable[..., Ran]
AGENTCTL = [sys.executable, "-P", "-m", "swarm.cli"]


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (errors.SwarmError("it broke", "mend it"), 1, ["agentctl: it broke; mend it"]),
        (errors.UsageError("a\nb", "c"), 2, ["agentctl: a b; c"]),
        (
            errors.ConfigError(["f:1: x", "f:2: y"], "mend"),
            2,
            ["agentctl: f:1: x", "agentctl: f:2: y; mend"],
        ),
        (errors.TaskEndedBadly("t"), 3, ["agentctl: t"]),
        (errors.NotRunning("n"), 4, ["agentctl: n"]),
        (errors.AlreadyRunning("n"), 5, ["agentctl: n"]),
        (errors.WaitedTooLong("n"), 124, ["agentctl: n"]),
        (errors.Interrupted("n"), 130, ["agentctl: n"]),
        (click.Abort(), 130, ["agentctl: interrupted"]),
        (errors.SwarmError("evil \x1b[2J"), 1, ["agentctl: evil \\x1b[2J"]),
        (PermissionError(13, "Permission denied", "/x"), 1, ["agentctl: /x: Permission denied"]),
        (BrokenPipeError(32, "Broken pipe"), 1, []),
        (click.UsageError("bad thing."), 2, ["agentctl: bad thing"]),
    ],
)
def test_every_error_is_a_line_and_a_code(
    error: Exception, code: int, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.explain(error) == code
    assert capsys.readouterr().err.splitlines() == lines


def test_a_defect_is_one_line_and_a_traceback_only_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    def broken(ctx: click.Context, args: list[str]) -> None:
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr(main.app, "resolve_command", broken)
    ran = cli("task")
    assert ran.code == 1
    assert ran.err.startswith(
        "agentctl: a defect in agentctl: ZeroDivisionError: division by zero;"
    )
    assert len(ran.err.splitlines()) == 1
    monkeypatch.setenv("AGENTCTL_DEBUG", "1")
    assert "Traceback" in cli("task").err


def test_interrupted_is_130(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    def interrupted(ctx: click.Context, args: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main.app, "resolve_command", interrupted)
    ran = cli("task")
    assert ran.code == 130
    assert ran.err.strip() == "agentctl: interrupted"


def test_version_and_help(cli: Cli) -> None:
    assert cli("--version").out.startswith("agentctl 0.")
    helped = cli("--help")
    assert helped.code == 0
    assert "agentctl demo" in helped.out
    assert "\x08" not in helped.out


@pytest.mark.parametrize("group", [[], ["swarm"], ["task"], ["agent"]])
def test_a_group_without_a_verb_teaches_and_is_a_usage_error(cli: Cli, group: list[str]) -> None:
    ran = cli(*group)
    assert ran.code == 2
    assert "Commands:" in ran.err
    assert "Example" in ran.err or "Begin here" in ran.err


def walk(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    ctx = click.Context(group)
    found: list[tuple[str, ...]] = []
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None, name
        found.append((*path, name))
        if isinstance(command, click.Group):
            found += walk(command, (*path, name))
    return found


def test_every_command_of_the_contract_is_there_and_has_help(cli: Cli) -> None:
    commands = walk(main.app)
    contract = """init demo doctor swarm/up swarm/stop swarm/status swarm/scale swarm/reload
        swarm/pause swarm/resume swarm/logs swarm/story agent/show agent/stop agent/restart
        agent/kill-session task/add task/list task/show task/logs task/wait task/retry task/cancel
        task/diff chat/serve chat/send chat/tail chat/who completion"""
    assert {tuple(name.split("/")) for name in contract.split()} <= set(commands)
    for command in commands:
        ran = cli(*command, "--help")
        assert ran.code == 0, command
        assert len(ran.out.splitlines()) > 3
        assert "\x08" not in ran.out
    assert cli("swarm", "start", "--help").code == cli("swarm", "down", "--help").code == 0


def test_the_list_says_the_same_as_the_lazy_entries() -> None:
    """A command's name in a group is its own name, aliases aside."""
    for command in walk(main.app):
        group: click.Command = main.app
        for name in command:
            assert isinstance(group, click.Group)
            found = group.get_command(click.Context(group), name)
            assert found is not None
            assert found.name == name
            group = found


def test_nothing_is_imported_for_the_list_of_commands() -> None:
    group = LazyGroup("g", {"one": Entry("nowhere.at.all:x", "short words")}, help="h")
    assert "short words" in group.get_help(click.Context(group))


def test_a_wrong_command_is_told_the_right_one(cli: Cli) -> None:
    assert "did you mean 'status'?" in cli("swarm", "statsu").err
    assert "did you mean 'status'?" in cli("swarm", "stat").err
    assert "there are: up, stop" in cli("swarm", "zzzz").err


def test_a_start_imports_little() -> None:
    """What ``--version`` and ``task add`` need not read stays unread."""
    script = (
        "import sys; sys.argv = ['agentctl', *sys.argv[1:]]\n"
        "from swarm.cli.main import run\n"
        "run(sys.argv[1:])\n"
        "print(*sorted(set(sys.modules) & {'rich', 'websockets', 'asyncio', 'yaml', 'psutil',"
        " 'cryptography', 'sqlite3', 'msgspec', 'subprocess'}))"
    )

    def imported(*arguments: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-P", "-c", script, *arguments], capture_output=True, text=True
        )
        return done.stdout.splitlines()[-1].split()

    assert imported("--version") == []
    assert imported("task", "add", "") == ["msgspec", "sqlite3"]


def test_the_program_exits_with_the_code(home: Path) -> None:
    done = subprocess.run([*AGENTCTL, "swarm", "status"], capture_output=True, text=True)
    assert done.returncode == 4
    assert (
        done.stderr
        == f"agentctl: no swarm is running in {home}; start one with 'agentctl swarm up'\n"
    )
    assert subprocess.run([*AGENTCTL, "--nope"], capture_output=True).returncode == 2


def test_ctrl_c_while_it_is_read_in_is_a_line_too(home: Path) -> None:
    """Not a traceback out of an import, which takes most of a short command's time."""
    script = (
        "import runpy, sys\n"
        "class CtrlC:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'click':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, CtrlC())\n"
        "runpy.run_module('swarm.cli', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "agentctl: interrupted\n")


def test_a_reader_that_goes_away_is_no_news(home: Path) -> None:
    process = subprocess.Popen(
        [*AGENTCTL, "completion", "bash"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() in (0, 1)


def test_a_full_disk_is_told(home: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*AGENTCTL, "--help"], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == [
        "agentctl: cannot write the output: No space left on device"
    ]


def test_ctrl_c_ends_a_wait_with_130(home: Path) -> None:
    added = subprocess.run([*AGENTCTL, "task", "add", "x"], capture_output=True, text=True)
    process = subprocess.Popen(
        [*AGENTCTL, "task", "wait", added.stdout.strip()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    assert "queued" in process.stdout.readline()
    stat = Path(f"/proc/{process.pid}/stat")  # told, it waits: no import, no half-written line
    eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "S", 20)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "agentctl: interrupted"
