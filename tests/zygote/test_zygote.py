"""A real zygote, and children it forked."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from tests_support import eventually

from swarm.errors import SpawnError
from swarm.sandbox import kernel
from swarm.wire import lifeline
from swarm.wire.framing import LineBuffer
from swarm.wire.spawn import Forked, ForkFailed, FromZygote, ServiceSpec, ZygoteReady
from swarm.zygote import main as zygote_main
from swarm.zygote.port import Zygote
from swarm.zygote.process import become_subreaper


class Supervisor:
    """As much of a supervisor as a zygote needs; every child is reaped at the end."""

    def __init__(self, home: str) -> None:
        become_subreaper()
        self._home = home
        self.zygote = Zygote.start()
        self.replies: list[FromZygote] = []
        self.ended = asyncio.Event()
        self.lifelines: list[socket.socket] = []
        self._news = asyncio.Event()
        self.zygote.attach(asyncio.get_running_loop(), self._reply, self.ended.set)

    def _reply(self, reply: FromZygote) -> None:
        self.replies.append(reply)
        self._news.set()

    async def reply(self, kind: type[FromZygote], count: int = 1) -> list[FromZygote]:
        async with asyncio.timeout(20):
            while len(found := [r for r in self.replies if isinstance(r, kind)]) < count:
                await self._news.wait()
                self._news.clear()
        return found

    def fork(self, number: int, name: str = "chat", **config: object) -> socket.socket:
        spec = ServiceSpec(name=name, home=self._home, home_id="h", config=config)
        line = self.zygote.fork(number, "service", msgspec.json.encode(spec))
        self.lifelines.append(line)
        return line

    def close(self) -> None:
        self.zygote.close()
        for line in self.lifelines:
            line.close()
        forked = [r.pid for r in self.replies if isinstance(r, Forked)]
        for pid in (self.zygote.pid, *forked):
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                continue  # reaped by its test
        # Or this worker would adopt the orphans of every later test.
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 0)


@pytest.fixture
async def supervisor(home: Path) -> AsyncIterator[Supervisor]:
    made = Supervisor(str(home))
    yield made
    made.close()


async def test_a_child_is_ours_and_holds_nothing_but_its_own(supervisor: Supervisor) -> None:
    """The child's parent is the supervisor, and it has only its lifeline and standard streams."""
    await supervisor.reply(ZygoteReady)
    first = supervisor.fork(1, listen="127.0.0.1:0", channel="#agents")
    supervisor.fork(2, listen="127.0.0.1:0", channel="#agents")
    forked = await supervisor.reply(Forked, 2)
    pid = next(r.pid for r in forked if isinstance(r, Forked) and r.id == 1)
    hello = lifeline.from_child(
        LineBuffer().feed(await asyncio.get_running_loop().sock_recv(first, 4096))[0]
    )
    assert hello == lifeline.Hello(name="chat", pid=pid)
    with open(f"/proc/{pid}/stat") as stat:
        assert int(stat.read().rpartition(")")[2].split()[1]) == os.getpid()
    lifelines = {
        os.readlink(f"/proc/{pid}/fd/{fd}")
        for fd in os.listdir(f"/proc/{pid}/fd")
        if os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:") and int(fd) <= 3
    }
    assert len(lifelines) == 1


async def test_a_child_leaves_when_its_lifeline_closes(supervisor: Supervisor) -> None:
    await supervisor.reply(ZygoteReady)
    line = supervisor.fork(1, listen="127.0.0.1:0", channel="#agents")
    (forked,) = await supervisor.reply(Forked)
    assert isinstance(forked, Forked)
    line.close()
    assert eventually(lambda: os.waitpid(forked.pid, os.WNOHANG)[0], within=20) == forked.pid


async def test_what_cannot_be_forked_exits_with_the_crash_status(supervisor: Supervisor) -> None:
    await supervisor.reply(ZygoteReady)
    supervisor.fork(1, name="nothing-of-ours")
    (forked,) = await supervisor.reply(Forked)
    assert isinstance(forked, Forked)
    _pid, status = os.waitpid(forked.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 70


async def test_the_death_of_the_zygote_is_an_event_and_its_children_live(
    supervisor: Supervisor,
) -> None:
    await supervisor.reply(ZygoteReady)
    supervisor.fork(1, listen="127.0.0.1:0", channel="#agents")
    (forked,) = await supervisor.reply(Forked)
    assert isinstance(forked, Forked)
    os.kill(supervisor.zygote.pid, signal.SIGKILL)
    await asyncio.wait_for(supervisor.ended.wait(), 30)
    assert os.waitpid(forked.pid, os.WNOHANG) == (0, 0)


async def test_a_hundred_forks_are_all_answered(supervisor: Supervisor) -> None:
    """Requests are pipelined: more than the socket holds wait in order, none is lost."""
    for number in range(100):
        supervisor.fork(number, name="nothing-of-ours", filler="x" * 5000)
    forked = await supervisor.reply(Forked, 100)
    assert {r.id for r in forked if isinstance(r, Forked)} == set(range(100))
    assert not [r for r in supervisor.replies if isinstance(r, ForkFailed)]


async def test_a_spec_too_large_is_refused_before_it_is_sent(supervisor: Supervisor) -> None:
    with pytest.raises(SpawnError, match="shorten its role's prompt"):
        supervisor.fork(1, filler="x" * 300_000)


def test_its_children_leave_no_half_written_bytecode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr("swarm.zygote.warm.warm_up", lambda: None)
    monkeypatch.setattr("gc.freeze", lambda: None)
    zygote_main._preload(tls=False)
    assert sys.dont_write_bytecode


def test_it_imports_no_threads_before_it_forks() -> None:
    """A fork of a process that imported threads, logging or asyncio costs memory and safety."""
    code = (
        "import sys, swarm.zygote.main, swarm.zygote.warm as w; w.warm_up();"
        "print(*[m for m in ('threading', 'logging', 'asyncio', 'subprocess') if m in sys.modules])"
    )
    reading, writing = os.pipe()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", code],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, writing, 1)],
    )
    os.close(writing)
    with os.fdopen(reading) as output:
        assert output.read().split() == []
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
