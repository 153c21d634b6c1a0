"""The last step of an upgrade, and the steps around it that only an in-process test can reach."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fleet_plays import A, B, Play
from handover_values import a_document
from tests_support import eventually_async

from swarm.core import fleet_events as e
from swarm.errors import SwarmError
from swarm.supervisor import preflight
from swarm.supervisor.channel import Channel
from swarm.supervisor.shell import Shell
from swarm.supervisor.upgrade import HELD_BACK, Upgrade
from swarm.wire import lifeline


def upgrade_of(shell: Any) -> Upgrade:
    return Upgrade(shell, SimpleNamespace(callers=(), fd=1), "token", 0.0, 1, 2, 1)


def test_an_exec_that_fails_changes_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[str], dict[str, str], list[bool]]] = []
    pipes = [os.pipe(), os.pipe(), os.pipe()]
    (a, b), (c, d), (f, g) = pipes
    document = replace(a_document(home, a, b), listening=c, lock=d, stderr=f)

    def execve(path: str, argv: list[str], environ: dict[str, str]) -> None:
        inherited = [os.get_inheritable(fd) for fd in (*document.descriptors, int(argv[-2]))]
        seen.append((argv, environ, inherited))
        raise OSError(8, "Exec format error")

    monkeypatch.setattr(os, "execve", execve)
    manager = SimpleNamespace(variables={"NOTIFY_SOCKET": "/run/x"})
    before = set(os.listdir("/proc/self/fd"))
    try:
        with pytest.raises(SwarmError, match="Exec format error"):
            upgrade_of(SimpleNamespace(console=SimpleNamespace(manager=manager)))._execute(document)
        ((argv, environ, inherited),) = seen
        assert environ["NOTIFY_SOCKET"] == "/run/x"
        assert environ["AGENTCTL_HOME"] == str(home)
        assert all(inherited)
        assert argv[1:3] == ["-P", "-c"]
        assert not any(os.get_inheritable(fd) for fd in document.descriptors)
        assert set(os.listdir("/proc/self/fd")) == before
    finally:
        for fd in (a, b, c, d, f, g):
            os.close(fd)


async def test_it_waits_for_a_quiet_instant() -> None:
    fleet = SimpleNamespace(stop=None, ended=False, starting=False, started_daemons=True)
    loop = asyncio.get_running_loop()
    shell = SimpleNamespace(loop=loop, fleet=fleet, in_flight="an agent is being started")
    upgrade = upgrade_of(shell)
    waiting = asyncio.create_task(upgrade._quiet(loop.time() + 20))
    await asyncio.sleep(0)
    assert not waiting.done()
    shell.in_flight = ""
    await waiting
    shell.in_flight = "workspaces are being removed"
    with pytest.raises(SwarmError, match="workspaces are being removed, and that has not ended"):
        await upgrade._quiet(loop.time() - 1)
    fleet.starting = True
    with pytest.raises(SwarmError, match="starting"):
        await upgrade._quiet(loop.time() + 20)
    fleet.stop = "now"
    with pytest.raises(SwarmError, match="stopping"):
        await upgrade._quiet(loop.time() + 20)


async def test_a_refused_upgrade_leaves_no_signal_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop that arrives while the signals are held back ends the upgrade, not the swarm's ear."""
    fleet = SimpleNamespace(stop=None, ended=False, starting=False, started_daemons=True)
    loop = asyncio.get_running_loop()
    upgrade = upgrade_of(SimpleNamespace(loop=loop, fleet=fleet, in_flight=""))
    loop.call_soon(loop.call_soon, lambda: setattr(fleet, "stop", "now"))
    with pytest.raises(SwarmError, match="stopping"):
        await upgrade._hand_over(SimpleNamespace(), "1")
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & HELD_BACK


def test_who_waited_for_a_fork_is_asked_for_anew() -> None:
    play = Play().up()
    play.do(e.Exited(A, 1))
    play.do(e.Tick(), later=5.0)
    asked: list[str] = []
    shell: Any = SimpleNamespace(fleet=play.fleet, _spawn=asked.append)
    Shell.respawn(shell)
    assert asked == [A]
    assert play.fleet.agents[B].life.pid is not None


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("import time; time.sleep(60)", "has not said within 0.5 s"),
        ("import os; os.kill(os.getpid(), 9)", r"signal 9\): it says nothing"),
        ("print('fine')", r"exit 0\): fine"),
        ("import sys; print('one\\ntwo', file=sys.stderr); sys.exit(3)", r"exit 3\): two"),
        ("print('x' * 10**6); raise ImportError('no module')", "ImportError: no module"),
        ('print(\'{"error": "too old", "remedy": "do this"}\')', "^too old; do this$"),
    ],
)
async def test_a_program_that_cannot_say_yes_is_refused(
    program: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "_BOOT", program)
    if "sleep" in program:
        monkeypatch.setattr(preflight, "CHECK_SECONDS", 0.5)
    helpers: set[int] = set()
    with pytest.raises(SwarmError, match=says):
        await preflight.try_out(b"{}", helpers)
    assert not helpers
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # it was reaped


async def test_a_lifeline_goes_on_in_the_middle_of_a_line() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    loop = asyncio.get_running_loop()
    said: list[lifeline.ChildLine] = []
    words = lifeline.encode(lifeline.Hello(name="a", pid=1)) + lifeline.encode(lifeline.Beat(seq=7))
    first = Channel(loop, ours, "a", said.append, said.append)  # type: ignore[arg-type]
    first.open()
    theirs.send(words[:-5])
    await eventually_async(lambda: len(said) == 1)
    await eventually_async(lambda: first.heard.unread)
    heard = replace(first.heard, unsent=b"what it had not taken")
    loop.remove_reader(ours.fileno())
    second = Channel(loop, ours, "a", said.append, said.append, heard)  # type: ignore[arg-type]
    second.open()
    theirs.send(words[-5:])
    await eventually_async(lambda: len(said) == 2)
    assert said[1] == lifeline.Beat(seq=7)
    assert theirs.recv(100) == b"what it had not taken"
    second.close()
    theirs.close()
