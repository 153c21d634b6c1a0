"""The server's sockets in the hands of guests who want all of it: time, memory, connections."""

from __future__ import annotations

import asyncio
import json
import random
import resource
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, cast

import pytest
from chat_sockets import Foreigner, foreigner
from hostile_peers import PING, TEXT, frame
from tests_support import eventually_async
from websockets.exceptions import ConnectionClosed

from swarm.chat import guarded
from swarm.chat import server as server_module
from swarm.chat.guarded import Guard, Unread
from swarm.chat.server import FLEET_LIMITS, ChatHost, serve_chat, within_open_files
from swarm.chat.share import Share
from swarm.chat.tap import Tap
from swarm.logs import JsonLog

BADGE = "the-fleets-own"
HELLO = b'{"type":"IDENTIFY","name":"anon"}'


def serving(**limits: object):
    made = replace(FLEET_LIMITS, **limits)  # type: ignore[arg-type]
    return serve_chat("127.0.0.1", 0, limits=made, badge=BADGE)


class Raw:
    """A socket that sends bytes; what comes back is read only when asked."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def handshake(self) -> None:
        self.writer.write(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert b" 101 " in await self.reader.readuntil(b"\r\n\r\n")

    async def ended(self) -> bool:
        """Whether the server has closed; waits for it."""
        with suppress(OSError):
            while await asyncio.wait_for(self.reader.read(1 << 16), 10):
                pass
        return True


@asynccontextmanager
async def raw(running: ChatHost, *, opened: bool = True) -> AsyncIterator[Raw]:
    host, port = running.address.removeprefix("ws://").split(":")
    made = Raw(*await asyncio.open_connection(host, int(port)))
    try:
        if opened:
            await made.handshake()
        yield made
    finally:
        made.writer.transport.abort()


async def talk(running: ChatHost, one: Foreigner, other: Foreigner, times: int = 5) -> None:
    """Members of the fleet hear each other."""
    for n in range(times):
        await one.say(f"word {n}")
        await other.until("MSG", content=f"word {n}")
        await one.until("MSG", content=f"word {n}")  # unread, it would hold up its own closing


@asynccontextmanager
async def two_daemons(running: ChatHost) -> AsyncIterator[tuple[Foreigner, Foreigner]]:
    async with (
        foreigner(running.address, "d1") as one,
        foreigner(running.address, "d2") as two,
    ):
        for daemon in (one, two):
            await daemon.sign_in(badge=BADGE, quiet=True)
            await daemon.join()
        yield one, two


# -- connections ----------------------------------------------------------------------------------


async def test_whoever_does_not_sign_in_makes_room_for_who_does():
    """Silent sockets, half handshakes and opened ones that say nothing: the oldest goes first."""
    async with serving(arriving=6) as running:
        async with AsyncExitStack() as stack:
            held = []
            for n in range(20):
                held.append(await stack.enter_async_context(raw(running, opened=n % 3 == 0)))
                if n % 3 == 1:
                    held[-1].writer.write(b"GET / HTTP/1.1\r\nHost:")
                await eventually_async(lambda: len(running.guard.arriving) <= 6)
            assert await held[0].ended()
            async with foreigner(running.address) as client:
                await client.sign_in(badge=BADGE)
                await client.join()
        await eventually_async(lambda: running.guard.open == 0)
        assert not running.guard.arriving
        assert running.guard.unfinished == 0


async def test_a_handshake_that_dribbles_is_ended(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server_module, "OPEN_SECONDS", 0.2)
    async with serving() as running, raw(running, opened=False) as slow:
        slow.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")
        assert await slow.ended()
        await eventually_async(lambda: running.guard.open == 0)


def test_there_are_never_more_connections_than_open_files(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (256, 4096))
    limits = within_open_files(FLEET_LIMITS)
    assert limits.connections == 256 - server_module.SPARE_FILES
    assert limits.arriving + limits.guests <= limits.connections // 2, "half of it is the fleet's"
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (10**6, 10**6))
    assert within_open_files(FLEET_LIMITS) is FLEET_LIMITS


async def test_more_sockets_than_it_has_room_for_are_turned_away_at_once():
    async with (
        serving(connections=5, arriving=50) as running,
        two_daemons(running) as (one, two),
        AsyncExitStack() as held,
    ):
        for _ in range(10):
            await held.enter_async_context(raw(running, opened=False))
        await eventually_async(lambda: running.guard.open <= 5)
        await talk(running, one, two)


# -- time -----------------------------------------------------------------------------------------


async def pour(attacker: Raw, data: bytes, times: int) -> None:
    with suppress(OSError):
        for _ in range(times):
            if attacker.writer.transport.is_closing():
                return
            attacker.writer.write(data)
            await attacker.writer.drain()


@pytest.mark.parametrize(
    "flood",
    [
        frame(b"", PING) * 10_000,
        frame("{}") * 10_000,
        frame(json.dumps({"type": "JOIN", "channel": "#agents"})) * 2_000,
        frame(b"", 0x01) + frame(b"", 0x00) * 10_000,
    ],
    ids=["pings", "junk", "joins", "fragments"],
)
async def test_a_flood_of_guests_leaves_the_fleet_its_time(flood: bytes):
    """The fleet has talked before a tenth of what the guests sent was looked at."""
    async with serving() as running, two_daemons(running) as (one, two):
        stack, poured = AsyncExitStack(), []
        try:
            for _ in range(20):
                attacker = await stack.enter_async_context(raw(running))
                attacker.writer.write(frame(HELLO))
                poured.append(asyncio.create_task(pour(attacker, flood, 50)))
            await eventually_async(lambda: running.guard.guests_fed > 20 * len(HELLO))
            await talk(running, one, two, 8)
            looked_at = running.guard.guests_fed
            assert looked_at < len(flood) * 50 * 20 / 10, looked_at
        finally:
            for task in poured:
                task.cancel()
            await asyncio.gather(*poured, return_exceptions=True)
            await stack.aclose()
        await eventually_async(lambda: running.guard.open == 2)
        assert running.guard.unfinished == 0
        await talk(running, one, two)


def test_a_share_is_paid_off_by_time():
    share = Share(rate=0.5, burst=1.0)
    share.spend(1.0, 100.0)
    assert share.wait(100.0) == 0.0
    share.spend(1.0, 100.0)
    assert share.wait(100.0) == pytest.approx(2.0)
    assert share.wait(102.0) == 0.0
    share.spend(0.1, 1000.0)
    assert share.debt == pytest.approx(0.1), "nothing is saved up beyond the burst"


class FakeTransport:
    def __init__(self) -> None:
        self.reading = True
        self.size = 0
        self.aborted = False

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.aborted

    def get_write_buffer_size(self) -> int:
        return self.size

    def abort(self) -> None:
        self.aborted = True


def test_a_tap_is_open_only_when_both_want_it():
    transport = FakeTransport()
    tap = Tap(cast("asyncio.BaseTransport", transport))
    tap.shut()
    tap.resume_reading()
    assert not transport.reading, "the protocol above cannot open what its owner shut"
    tap.pause_reading()
    tap.open()
    assert not transport.reading
    tap.resume_reading()
    assert transport.reading
    assert tap.get_write_buffer_size() == 0, "all else goes straight through"


# -- memory ---------------------------------------------------------------------------------------


class FakeConnection:
    def __init__(self) -> None:
        self.transport = FakeTransport()
        self.unread = 0
        self.unfinished = 0
        self.guest = True

    def owes(self, size: int) -> Any:
        self.transport.size = size
        return cast("guarded.GuardedConnection", self)


def test_who_reads_least_is_cut_when_all_together_owe_too_much():
    unread = Unread(each=100, total=150)
    slow, slower, fast = FakeConnection(), FakeConnection(), FakeConnection()
    assert unread.look(slow.owes(60)) == []
    assert unread.look(slower.owes(80)) == []
    assert unread.look(fast.owes(20)) == [slower]
    assert slower.transport.aborted
    assert not slow.transport.aborted
    # What was read meanwhile is seen before anybody is cut.
    slow.owes(0)
    assert unread.look(fast.owes(99)) == []
    assert unread.look(fast.owes(101)) == [fast]
    unread.forget(slow.owes(0))
    assert unread._sum == 0


def test_messages_that_never_end_are_bounded_together(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guarded, "MAX_UNFINISHED", 1000)
    monkeypatch.setattr(guarded, "BIG_UNFINISHED", 100)
    guard = Guard(10, 10, lambda *_args, **_more: None)
    many = [FakeConnection() for _ in range(11)]
    for each in many:
        assert guard.began(each.owes(0), 90)
    assert guard.began(many[0].owes(0), 10), "nobody with little is cut"
    assert not guard.began(many[0].owes(0), 1)
    guard.finished(many[0].owes(0))
    assert guard.unfinished == 900


async def test_a_log_does_not_grow_with_a_flood(tmp_path):
    log = JsonLog(tmp_path / "chat.log")
    limits = replace(FLEET_LIMITS, arriving=1)
    async with serve_chat("127.0.0.1", 0, limits=limits, log=log) as running:
        for _ in range(200):
            async with raw(running, opened=False):
                pass
        await eventually_async(lambda: running.guard.open == 0)
        running._noting = (0, 300)
        running._note("dropped", reason="later")
    entries = [json.loads(line) for line in (tmp_path / "chat.log").read_text().splitlines()]
    assert len(entries) < 150
    assert {"kind": "more", "entries": 290}.items() <= entries[-2].items()


# -- anything at all ------------------------------------------------------------------------------


async def test_whatever_bytes_come_the_server_goes_on():
    """Random frames, valid and not, in random pieces, before and after signing in."""
    chance = random.Random(20261120)
    async with serving() as running, two_daemons(running) as (one, two):
        for _ in range(60):
            with suppress(OSError, ConnectionClosed, asyncio.IncompleteReadError):
                async with raw(running) as peer:
                    if chance.random() < 0.5:
                        peer.writer.write(frame(HELLO))
                    for _ in range(chance.randrange(1, 6)):
                        peer.writer.write(_anything(chance))
                        await asyncio.sleep(0)
                    if chance.random() < 0.3:
                        peer.writer.write_eof()
                    await asyncio.wait_for(peer.reader.read(4096), 0.05)
            await asyncio.sleep(0)
        await talk(running, one, two)
        await eventually_async(lambda: running.guard.open == 2)
        assert running.machine.connections == 2


FIELDS = ["name", "pubkey", "channel", "to", "content", "for", "msg_id", "started_at", "timestamp",
          "signature", "challenge_id"]  # fmt: skip
VALUES: list[object] = [None, 1, -1, 10**30, "", "#agents", "\ud800", [], {}, "x" * 99]


def _anything(chance: random.Random) -> bytes:
    body = chance.randbytes(chance.randrange(0, 300))
    match chance.randrange(7):
        case 0:
            return body
        case 1:
            return frame(body, chance.randrange(256))
        case 2:
            return frame(body, TEXT, mask=False)
        case 3:
            return bytes([TEXT, 0xFF]) + chance.randbytes(8) + body
        case 4:
            return bytes([0xC1, 0x80]) + body
        case 5:
            kind = chance.choice(["IDENTIFY", "VERIFY_IDENTITY", "JOIN", "MSG", "RESPONDING_TO"])
            fields = {chance.choice(FIELDS): chance.choice(VALUES) for _ in range(4)}
            return frame(json.dumps({"type": kind, **fields}))
        case _:
            return frame('{"type":"MSG","content":"' + "[" * 5000)
