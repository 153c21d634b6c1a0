"""The chat link over real sockets: connecting, coming back, TLS, and what people are told."""

from __future__ import annotations

import asyncio
import json
import os
import select
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests_support import eventually_async
from tls_support import certificate
from websockets.asyncio.server import ServerConnection, serve

from swarm.chat.server import ChatHost, serve_chat
from swarm.daemon.link import ChatLink, LinkEvent, resolve, retry_delay
from swarm.daemon.state import ChatClosed, ChatDown, ChatFailing, ChatRefuses, ChatUp
from swarm.errors import ChatError
from swarm.spawner.identity import Identity
from swarm.wire.agentchat.limits import ServerLimits
from swarm.wire.agentchat.session import Said

ME = Identity.create("swarm-builder-001")
OTHER = Identity.create("swarm-builder-002")
FAST = ServerLimits(messages_per_second=100, takeover_base=0)


class Driven:
    """A link polled from the test's event loop, with a clock that can be moved on."""

    def __init__(self, url: str, identity: Identity = ME) -> None:
        self.events: list[LinkEvent] = []
        self.ahead = 0.0
        self.looked_up: list[tuple[str, int]] = []
        self.link = ChatLink(
            url,
            "#agents",
            identity,
            lookup=lambda host, port: self.looked_up.append((host, port)),
            jitter=lambda: 0.0,
        )

    def now(self) -> float:
        return time.monotonic() + self.ahead

    def of(self, kind: type) -> list[LinkEvent]:
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, condition: Callable[[], object], within: float = 10.0) -> None:
        await eventually_async(condition, within, f"{self.events}")

    def hurry(self) -> None:
        """Move the clock on while the link only waits for its next attempt."""
        if self.link.fileno < 0:
            self.ahead += 31.0

    async def drive(self) -> None:
        while True:
            if self.link.fileno >= 0:
                poll = select.poll()
                poll.register(self.link.fileno, self.link.interest)
                for _, mask in poll.poll(0):
                    self.events += self.link.ready(mask, self.now())
            at = self.link.deadline()
            if at is not None and self.now() >= at:
                self.events += self.link.tick(self.now())
            await asyncio.sleep(0.001)  # lets the servers of the same loop run


@asynccontextmanager
async def driven(url: str, identity: Identity = ME) -> AsyncIterator[Driven]:
    one = Driven(url, identity)
    one.events += one.link.connect(one.now())
    driving = asyncio.ensure_future(one.drive())
    try:
        yield one
    finally:
        driving.cancel()
        await asyncio.gather(driving, return_exceptions=True)
        one.link.close(one.now())
        one.ahead += 5.0
        one.link.tick(one.now())


@asynccontextmanager
async def server(port: int = 0) -> AsyncIterator[ChatHost]:
    async with serve_chat("127.0.0.1", port, limits=FAST) as host:
        yield host


def test_the_retry_delay_doubles_to_thirty_seconds() -> None:
    assert [retry_delay(n, 0.0) for n in (1, 2, 3, 4, 5, 6, 60)] == [1, 2, 4, 8, 16, 30, 30]
    assert retry_delay(1, 0.999) >= 0.75
    assert all(retry_delay(n, 0.999) < retry_delay(n, 0.0) <= 30 for n in range(1, 99))


def test_a_url_that_is_none_is_refused() -> None:
    with pytest.raises(ChatError):
        Driven("http://example.org")


async def test_it_joins_and_hears_others_but_not_itself() -> None:
    async with server() as host, driven(host.address) as one:
        await one.until(lambda: one.of(ChatUp))
        async with driven(host.address, OTHER) as two:
            await two.until(lambda: two.of(ChatUp))
            one.events += one.link.say("k", "hello from one", 2, one.now())
            await two.until(lambda: two.of(Said))
            (said,) = two.of(Said)
            assert isinstance(said, Said)
            assert (said.sender, said.content) == (ME.agent_id, "hello from one")
            assert not one.of(Said)


async def test_what_is_addressed_to_others_does_not_wake_it() -> None:
    third = Identity.create("swarm-builder-003")
    async with (
        server() as host,
        driven(host.address) as one,
        driven(host.address, OTHER) as two,
        driven(host.address, third) as three,
    ):
        await three.until(lambda: one.of(ChatUp) and two.of(ChatUp) and three.of(ChatUp))
        one.events += one.link.say("a", "to two", 0, one.now(), (OTHER.agent_id,))
        one.events += one.link.say("b", "to all", 1, one.now())
        await two.until(lambda: len(two.of(Said)) == 2)
        await three.until(lambda: three.of(Said))
        assert [said.content for said in three.of(Said)] == ["to all"]


async def test_what_was_said_before_it_joined_is_said_then() -> None:
    async with server() as host, driven(host.address, OTHER) as two:
        await two.until(lambda: two.of(ChatUp))
        async with driven(host.address) as one:
            one.events += one.link.say("a", "first", 3, one.now())
            one.events += one.link.say("b", "urgent", 0, one.now())
            one.events += one.link.say("a", "newest", 3, one.now())
            await two.until(lambda: len(two.of(Said)) == 2)
            assert [said.content for said in two.of(Said)] == ["urgent", "newest"]


async def test_it_comes_back_and_says_again_what_was_not_heard() -> None:
    async with server() as host:
        port = int(host.address.rpartition(":")[2])
        one = Driven(host.address)
        one.events += one.link.connect(one.now())
        driving = asyncio.ensure_future(one.drive())
        await one.until(lambda: one.of(ChatUp))
    await one.until(lambda: one.of(ChatDown))
    one.events += one.link.say("r", "kept for later", 0, one.now())
    one.events.clear()
    async with server(port) as host, driven(host.address, OTHER) as two:
        await two.until(lambda: two.of(ChatUp))
        await one.until(lambda: one.of(ChatUp) or one.hurry())
        await two.until(lambda: two.of(Said))
        one.events += one.link.close(one.now())
        await one.until(lambda: one.of(ChatClosed))
        assert one.link.fileno == -1
    driving.cancel()
    await asyncio.gather(driving, return_exceptions=True)


async def test_every_failed_attempt_is_counted_until_one_succeeds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with driven(f"ws://127.0.0.1:{port}") as one:
        for n in range(1, 6):
            await one.until(lambda n=n: len(one.of(ChatFailing)) >= n)  # type: ignore[misc]
            one.ahead += 31.0
        attempts = [event.attempts for event in one.of(ChatFailing)]  # type: ignore[union-attr]
        assert attempts[:5] == [1, 2, 3, 4, 5]
        async with server(port):
            await one.until(lambda: one.of(ChatUp) or one.hurry())


async def test_a_server_that_says_nothing_is_given_up() -> None:
    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _reader.read()
        writer.close()

    mute = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with mute, driven(f"ws://127.0.0.1:{mute.sockets[0].getsockname()[1]}") as one:
        await one.until(lambda: one.link.fileno >= 0 and one.link.interest == select.POLLIN)
        one.ahead += 25.0
        await one.until(lambda: one.of(ChatFailing))


def frame(**fields: object) -> str:
    return json.dumps(fields)


@asynccontextmanager
async def odd_server(
    speak: Callable[[ServerConnection], Awaitable[None]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    async with serve(speak, "127.0.0.1", 0, ssl=tls) as running:
        yield next(iter(running.sockets)).getsockname()[1]


async def test_a_muted_identity_is_told_to_people_in_one_line() -> None:
    welcome = frame(
        type="WELCOME",
        ts=1,
        agent_id=f"@{ME.agent_id}",
        name="x",
        server="s",
        lurk=True,
        lurk_until=9999999999999,
        lurk_reason="New identities must wait.",
    )

    async def speak(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(welcome)
        await socket.recv()
        await socket.send('{"type":"JOINED","ts":2,"channel":"#agents","agents":[]}')
        await socket.wait_closed()

    async with odd_server(speak) as port, driven(f"ws://127.0.0.1:{port}") as one:
        await one.until(lambda: one.of(ChatUp))
        (refusal,) = one.of(ChatRefuses)
        assert isinstance(refusal, ChatRefuses)
        assert "New identities must wait." in refusal.reason
        one.events += one.link.say("k", "held back", 0, one.now())


async def test_a_question_for_people_is_told_and_not_asked_again() -> None:
    async def speak(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(
            '{"type":"CAPTCHA_CHALLENGE","ts":1,"captcha_id":"c","question":"2+2?","hint":""}'
        )
        await socket.wait_closed()

    async with odd_server(speak) as port, driven(f"ws://127.0.0.1:{port}") as one:
        await one.until(lambda: one.of(ChatRefuses))
        assert one.link.deadline() is None


async def test_hostile_bytes_end_the_connection_not_the_daemon() -> None:
    async def speak(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send("no json")
        await socket.send('{"type":"CHALLENGE"}')
        await socket.send(b"\x00\x01")

    async with odd_server(speak) as port, driven(f"ws://127.0.0.1:{port}") as one:
        await one.until(lambda: one.of(ChatFailing))


async def test_a_name_is_looked_up_elsewhere() -> None:
    async with server() as host:
        port = int(host.address.rpartition(":")[2])
        async with driven(f"ws://chat.example:{port}") as one:
            await one.until(lambda: one.looked_up)
            assert one.looked_up == [("chat.example", port)]
            dead = (int(socket.AF_INET), "127.0.0.2")
            one.events += one.link.found([dead, (int(socket.AF_INET), "127.0.0.1")], one.now())
            await one.until(lambda: one.of(ChatUp))
        async with driven(f"ws://nowhere.example:{port}") as one:
            one.events += one.link.found([], one.now())
            assert "nowhere.example" in one.of(ChatFailing)[0].reason  # type: ignore[union-attr]


def test_resolving_gives_numeric_addresses() -> None:
    assert (int(socket.AF_INET), "127.0.0.1") in resolve("localhost", 80)


async def test_tls_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cert, key = certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    big = "x" * 300_000

    async def speak(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(
            frame(type="WELCOME", ts=1, agent_id=f"@{ME.agent_id}", name="x", server="s")
        )
        await socket.recv()
        await socket.send('{"type":"JOINED","ts":2,"channel":"#agents","agents":[]}')
        await socket.send(
            frame(
                type="MSG",
                ts=3,
                **{"from": f"@{OTHER.agent_id}"},
                from_name="o",
                to="#agents",
                content=big,
                msg_id="1",
            )
        )
        await socket.wait_closed()

    async with odd_server(speak, tls) as port:
        async with driven(f"wss://127.0.0.1:{port}") as one:
            await one.until(lambda: one.of(ChatFailing))
            assert "TLS" in one.of(ChatFailing)[0].reason  # type: ignore[union-attr]
        monkeypatch.setenv("SSL_CERT_FILE", cert)
        async with driven(f"wss://127.0.0.1:{port}") as one:
            await one.until(lambda: one.of(Said))
            (said,) = one.of(Said)
            assert isinstance(said, Said)
            assert said.content == big, "more than one TLS record, read to its end"
    assert os.environ["SSL_CERT_FILE"] == cert
