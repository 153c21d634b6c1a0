"""Our end of a lifeline, with a child that misbehaves at the other."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from tests_support import eventually_async

from swarm.errors import BadMessage
from swarm.supervisor import channel as channel_module
from swarm.supervisor.channel import Channel
from swarm.wire import lifeline

HELLO = lifeline.encode(lifeline.Hello(name="a", pid=1))


class Ears:
    """Keeps what a channel delivers."""

    def __init__(self) -> None:
        self.lines: list[lifeline.ChildLine] = []
        self.garbage: list[str] = []
        self.refuse = False

    def hear(self, line: lifeline.ChildLine) -> None:
        if self.refuse:
            raise BadMessage("not its to say")
        self.lines.append(line)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


def opened(ours: socket.socket) -> tuple[Channel, Ears]:
    ears = Ears()
    channel = Channel(asyncio.get_running_loop(), ours, "a", ears.hear, ears.garbage.append)
    channel.open()
    return channel, ears


async def test_lines_arrive_in_order_however_they_are_cut(pair) -> None:
    ours, theirs = pair
    channel, ears = opened(ours)
    data = HELLO + lifeline.encode(lifeline.Beat(seq=1)) + lifeline.encode(lifeline.Idle(warm=True))
    for byte in range(len(data)):
        theirs.send(data[byte : byte + 1])
    await eventually_async(lambda: len(ears.lines) == 3)
    assert ears.lines[1:] == [lifeline.Beat(seq=1), lifeline.Idle(warm=True)]
    assert ears.garbage == []
    channel.close()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"hello\n", "lifeline message"),
        (lifeline.encode(lifeline.Beat(seq=1)), "Hello"),
        (lifeline.encode(lifeline.Hello(name="b", pid=1)), "Hello"),
        (lifeline.encode(lifeline.Hello(name="a", pid=1, version=99)), "version 99"),
        (HELLO + b"\xff\n", "lifeline message"),
        (HELLO + lifeline.encode(lifeline.Poke()), "lifeline message"),
    ],
)
async def test_garbage_is_told_once_and_nothing_after_it_is_heard(pair, data, says) -> None:
    ours, theirs = pair
    channel, ears = opened(ours)
    theirs.send(data + lifeline.encode(lifeline.Beat(seq=2)))
    await eventually_async(lambda: ears.garbage)
    theirs.send(lifeline.encode(lifeline.Beat(seq=3)))
    channel.drain()
    assert len(ears.garbage) == 1
    assert says in ears.garbage[0]
    assert not [line for line in ears.lines if isinstance(line, lifeline.Beat)]
    channel.close()


async def test_what_is_not_the_childs_to_say_is_garbage(pair) -> None:
    ours, theirs = pair
    channel, ears = opened(ours)
    ears.refuse = True
    theirs.send(HELLO)
    await eventually_async(lambda: ears.garbage == ["not its to say"])
    channel.close()


async def test_a_child_that_does_not_read_is_wedged_and_blocks_nobody(pair, monkeypatch) -> None:
    monkeypatch.setattr(channel_module, "MAX_UNREAD", 300_000)
    ours, _theirs = pair
    channel, ears = opened(ours)
    line = lifeline.Leave(grace_seconds=1.0)
    for _ in range(30_000):
        channel.send(line)
        if ears.garbage:
            break
    assert ears.garbage == ["it does not read its lifeline"]
    channel.close()


async def test_a_slow_reader_gets_everything_in_order(pair) -> None:
    ours, theirs = pair
    channel, _ears = opened(ours)
    theirs.setblocking(False)
    for fence in range(5000):
        channel.send(lifeline.Renew(task="t" * 100, fence=fence))
    received = bytearray()
    while received.count(b"\n") < 5000:
        try:
            received += theirs.recv(10_000)
        except BlockingIOError:
            await asyncio.sleep(0)
    fences = [lifeline.from_parent(line).fence for line in received.splitlines()]
    assert fences == list(range(5000))
    channel.close()


async def test_the_last_words_of_the_dead_are_heard_and_sending_to_them_does_nothing(pair) -> None:
    ours, theirs = pair
    ears = Ears()
    channel = Channel(asyncio.get_running_loop(), ours, "a", ears.hear, ears.garbage.append)
    channel.open()
    theirs.send(HELLO + lifeline.encode(lifeline.CannotStart(error="no key")))
    theirs.close()
    channel.drain()
    assert ears.lines[-1] == lifeline.CannotStart(error="no key")
    channel.send(lifeline.Poke())
    channel.close()
    channel.send(lifeline.Poke())
