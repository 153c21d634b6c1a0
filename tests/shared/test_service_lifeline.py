"""A service's end of its lifeline."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from swarm.errors import ChatError
from swarm.service import ServiceLifeline, _run
from swarm.wire import lifeline
from swarm.wire.framing import LineBuffer


class Parent:
    """The supervisor's end, in a test's hands."""

    def __init__(self) -> None:
        self.ours, theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.fd = theirs.detach()
        self._buffer = LineBuffer()

    def say(self, line: lifeline.ParentLine) -> None:
        self.ours.send(lifeline.encode(line))

    async def hears(self) -> list[lifeline.ChildLine]:
        data = await asyncio.get_running_loop().sock_recv(self.ours, 65536)
        return [lifeline.from_child(raw) for raw in self._buffer.feed(data)]


@pytest.fixture
def parent() -> Parent:
    return Parent()


async def test_it_introduces_itself_hears_orders_and_leaves_when_told(parent: Parent) -> None:
    heard: list[lifeline.ParentLine] = []
    got = asyncio.Event()

    async def serve(line: ServiceLifeline) -> None:
        line.ready(agent_id="ab")
        async for said in line:
            heard.append(said)
            got.set()

    running = asyncio.create_task(_run(parent.fd, "chat", serve))
    said: list[lifeline.ChildLine] = []
    while not any(isinstance(line, lifeline.Ready) for line in said):
        said += await parent.hears()
    assert said[0] == lifeline.Hello(name="chat", pid=os.getpid())
    parent.say(lifeline.Poke())
    await asyncio.wait_for(got.wait(), 30)
    assert heard == [lifeline.Poke()]
    parent.say(lifeline.Leave(grace_seconds=1.0))
    assert await asyncio.wait_for(running, 30) == 0
    parent.ours.close()


async def test_what_was_said_before_leave_is_dealt_with_first(parent: Parent) -> None:
    heard: list[lifeline.ParentLine] = []
    begin = asyncio.Event()

    async def serve(line: ServiceLifeline) -> None:
        await begin.wait()
        async for said in line:
            heard.extend([said])

    running = asyncio.create_task(_run(parent.fd, "chat", serve))
    parent.say(lifeline.Poke())
    parent.say(lifeline.Renew(task="t-1", fence=1))
    parent.say(lifeline.Leave(grace_seconds=1.0))
    await parent.hears()
    begin.set()
    assert await asyncio.wait_for(running, 30) == 0
    assert heard == [lifeline.Poke(), lifeline.Renew(task="t-1", fence=1)]
    parent.ours.close()


async def test_it_ends_when_the_supervisor_is_gone(parent: Parent) -> None:
    async def serve(line: ServiceLifeline) -> None:
        await asyncio.Event().wait()

    running = asyncio.create_task(_run(parent.fd, "chat", serve))
    parent.ours.close()
    assert await asyncio.wait_for(running, 30) == 0


async def test_an_error_is_told_before_it_exits(
    parent: Parent, capsys: pytest.CaptureFixture[str]
) -> None:
    async def serve(line: ServiceLifeline) -> None:
        raise ChatError("port 6667 is in use", "choose another chat.listen")

    assert await asyncio.wait_for(_run(parent.fd, "chat", serve), 30) == 1
    said = await parent.hears()
    assert lifeline.CannotStart("port 6667 is in use; choose another chat.listen") in said
    assert "port 6667" in capsys.readouterr().err
    parent.ours.close()
