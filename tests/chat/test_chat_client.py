"""The asyncio client over real sockets: in, out, lost, found, refused."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
from dataclasses import replace

import pytest
from chat_sockets import foreigner
from tests_support import eventually_async
from tls_support import certificate
from websockets.asyncio.server import ServerConnection, serve

from swarm.chat import client as client_module
from swarm.chat.client import ChatClient, Disconnected, backoff
from swarm.chat.guarded import guarded_by
from swarm.chat.keys import Clock, verify
from swarm.chat.server import FLEET_LIMITS, PROTOCOL_LIMITS, ChatHost, _silent, serve_chat
from swarm.errors import ChatError
from swarm.spawner.identity import Identity
from swarm.wire.agentchat.server import ChatServer
from swarm.wire.agentchat.session import Joined, Refused, Said, SignedIn

ME = Identity.create("coordinator")
OTHER = Identity.create("other")


def at_once(_failures: int) -> float:
    return 0.01


def client(url: str, identity: Identity | None = ME, **more) -> ChatClient:
    return ChatClient(url, identity, "#agents", wait=at_once, **more)


async def until(chat: ChatClient, kind: type, within: float = 10.0, **fields: object):
    async with asyncio.timeout(within):
        async for event in chat.events():
            if isinstance(event, kind) and all(
                getattr(event, name) == value for name, value in fields.items()
            ):
                return event
    raise AssertionError(f"no {kind.__name__}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def test_in_and_out():
    async with serve_chat(port=0, limits=FLEET_LIMITS) as running:
        async with client(running.address) as me, client(running.address, OTHER) as other:
            signed = await until(me, SignedIn)
            assert signed.agent_id == ME.agent_id == me.agent_id
            assert signed.messages_per_second == FLEET_LIMITS.messages_per_second
            await until(me, Joined)
            await other.joined()
            await me.tell("hello")
            heard = await until(other, Said)
            assert (heard.sender, heard.content) == (ME.agent_id, "hello")
            me.say("and again")
            await until(other, Said, content="and again")
            await eventually_async(lambda: me.pending == 0)
        await eventually_async(lambda: running.machine.connections == 0)


async def test_what_may_be_sent_is_sent_at_once_when_asked_to():
    async with (
        serve_chat(port=0, limits=FLEET_LIMITS) as running,
        client(running.address) as me,
        client(running.address, OTHER) as other,
    ):
        me.say("early")
        me.flush()  # harmless while there is no connection
        assert not me._pacer._flights
        await me.joined()
        await other.joined()
        me.say("status", priority=3)
        me.say("settled", priority=0)
        me.flush()
        sent = [one.content for one in me._pacer._flights if one.content != "early"]
        assert sent == ["settled", "status"], "most urgent first, and no loop turn later"
        await until(other, Said, content="settled")
        await until(other, Said, content="status")
        await eventually_async(lambda: me.pending == 0)


async def test_what_is_addressed_to_others_is_not_heard():
    async with (
        serve_chat(port=0, limits=FLEET_LIMITS) as running,
        client(running.address) as me,
        client(running.address, OTHER, quiet=True, addressed=True) as other,
    ):
        await me.joined()
        await other.joined()
        me.say("to somebody else", priority=0, to=("f" * 16,))
        me.say("to you", to=(OTHER.agent_id, "f" * 16))
        events = []
        async for event in other.events():
            events.append(event)
            if isinstance(event, Said):
                break
        assert events[-1].content == "to you"
        await eventually_async(lambda: me.pending == 0)


async def test_quiet_clients_hear_no_notices():
    async with serve_chat(port=0) as running, client(running.address, quiet=True) as me:
        await me.joined()
        async with foreigner(running.address) as loud:
            await loud.sign_in()
            await loud.join()
            await loud.say("hi")
            events = []
            async for event in me.events():
                events.append(event)
                if isinstance(event, Said):
                    break
        assert [type(e) for e in events] == [SignedIn, Joined, Said]


async def test_at_a_message_a_second_nothing_is_refused():
    """The server's own limit, not shortened: the pacing keeps us below it."""
    async with serve_chat(port=0) as running, client(running.address) as me:
        await me.joined()
        me.say("status 1", key="status", priority=3)
        me.say("status 2", key="status", priority=3)
        me.say("settled", priority=0)
        said = []
        async for event in me.events():
            assert not isinstance(event, Refused)
            if isinstance(event, Said):
                said.append(event.content)
            if len(said) == 2:
                break
        assert said == ["settled", "status 2"]


async def test_a_message_that_was_too_fast_is_sent_again():
    """The client believes in a faster server than there is."""
    limits = replace(PROTOCOL_LIMITS, messages_per_second=20)
    async with serve_chat(port=0, limits=limits) as running, client(running.address) as me:
        await me.joined()
        me._pacer.set_rate(100)
        for n in range(30):
            me.say(f"m{n}")
        said, refused = set(), 0
        async for event in me.events():
            refused += isinstance(event, Refused)
            if isinstance(event, Said):
                assert event.content not in said, "sent twice"
                said.add(event.content)
            if len(said) == 30:
                break
        assert refused
        await eventually_async(lambda: me.pending == 0)


async def test_a_restarted_server_is_found_again_and_nothing_is_lost():
    port = free_port()
    url = f"ws://127.0.0.1:{port}"
    async with client(url) as me:
        lost = await until(me, Disconnected)
        assert lost.attempts >= 1
        assert "refused" in lost.reason
        me.say("waited for the server")
        async with serve_chat(port=port, limits=FLEET_LIMITS):
            await until(me, Said, content="waited for the server")
        await until(me, Disconnected)
        me.say("waited again")
        async with serve_chat(port=port, limits=FLEET_LIMITS):
            await until(me, Said, content="waited again")
            await eventually_async(lambda: me.pending == 0)


async def test_reconnect_replays_only_what_was_missed():
    """The connection breaks, the server stays: its replay holds what we heard and what not."""
    async with serve_chat(port=0, limits=FLEET_LIMITS) as running:
        pipe = await Pipe.to(running.address)
        async with client(pipe.url) as me, foreigner(running.address) as other:
            await me.joined()
            await other.sign_in()
            await other.join()
            await other.say("heard")
            await until(me, Said, content="heard")
            await me.tell("mine")
            pipe.cut()
            await eventually_async(lambda: not me.connected)
            await other.say("missed")
            await other.until("MSG", content="missed")
            pipe.mend()
            got = []
            async for event in me.events():
                if isinstance(event, Said):
                    got.append((event.content, event.replay))
                if ("missed", True) in got:
                    break
            assert got == [("mine", False), ("missed", True)]
        await pipe.end()


async def test_an_echo_lost_with_the_connection_is_not_sent_twice():
    """The server took the message, the echo never came; the replay is the echo."""
    async with serve_chat(port=0, limits=FLEET_LIMITS) as running:
        pipe = await Pipe.to(running.address)
        async with client(pipe.url) as me, foreigner(running.address) as other:
            await me.joined()
            await other.sign_in()
            await other.join()
            pipe.deaf = True
            me.say("only once")
            await other.until("MSG", content="only once")
            pipe.cut()
            await eventually_async(lambda: not me.connected)
            pipe.mend()
            await until(me, Said, content="only once")
            await eventually_async(lambda: me.pending == 0)
            await me.tell("the next")
            await other.until("MSG", content="the next")
            texts = [f["content"] for f in other.heard if f["type"] == "MSG"]
            assert texts.count("only once") == 1
        await pipe.end()


class Pipe:
    """A TCP relay that can go deaf, be cut, and be mended."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.url = ""
        self.deaf = False
        self.broken = False
        self.writers: set[asyncio.StreamWriter] = set()
        self.server: asyncio.Server | None = None

    @classmethod
    async def to(cls, address: str) -> Pipe:
        host, port = address.removeprefix("ws://").split(":")
        pipe = cls(host, int(port))
        pipe.server = await asyncio.start_server(pipe.relay, "127.0.0.1", 0)
        pipe.url = f"ws://127.0.0.1:{pipe.server.sockets[0].getsockname()[1]}"
        return pipe

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.broken:
            writer.transport.abort()
            return
        up_reader, up_writer = await asyncio.open_connection(*self.target)
        self.writers |= {writer, up_writer}
        try:
            await asyncio.gather(self.copy(reader, up_writer, False),
                                 self.copy(up_reader, writer, True))  # fmt: skip
        finally:
            self.writers -= {writer, up_writer}

    async def copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: bool
    ) -> None:
        try:
            while data := await reader.read(65536):
                if not (back and self.deaf):
                    writer.write(data)
        except OSError:
            pass
        writer.close()

    def cut(self) -> None:
        self.broken = True
        for writer in self.writers:
            writer.transport.abort()

    def mend(self) -> None:
        self.broken = self.deaf = False

    async def end(self) -> None:
        self.cut()
        assert self.server is not None
        self.server.close()
        await eventually_async(lambda: not self.writers)


# -- refusals -----------------------------------------------------------------------------------


async def test_once_no_server_is_one_clear_line():
    url = f"ws://127.0.0.1:{free_port()}"
    async with client(url, once=True) as me:
        with pytest.raises(ChatError, match="cannot reach the chat server at ws://127") as told:
            await me.joined()
        assert "agentctl swarm up" in told.value.remedy
        with pytest.raises(ChatError, match="cannot reach"):
            await me.tell("x")
        with pytest.raises(ChatError, match="cannot reach"):
            await until(me, Said)


async def test_once_a_server_that_is_none():
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with client(f"ws://127.0.0.1:{port}", once=True) as me:
            with pytest.raises(ChatError, match="HTTP 404"):
                await me.joined()


async def test_an_unknown_channel():
    async with (
        serve_chat(port=0) as running,
        ChatClient(running.address, ME, "#nope", once=True) as me,
    ):
        with pytest.raises(ChatError, match="Channel #nope not found"):
            await me.joined()


async def test_reading_only_is_told_at_once():
    async with serve_chat(port=0) as running, client(running.address, None, once=True) as me:
        await me.joined()
        with pytest.raises(ChatError, match="lets us only read"):
            await me.tell("x")
        assert me.held_back


async def test_a_message_the_server_does_not_take():
    async with serve_chat(port=0) as running, client(running.address, once=True) as me:
        await me.joined()
        with pytest.raises(ChatError, match="Message too long"):
            await me.tell("x" * (2**21 - 4200))
        assert me.pending == 0


def scripted(frames_to_send: list[object]):
    """A server that answers IDENTIFY with these frames, whatever the client says."""

    async def handle(connection: ServerConnection) -> None:
        await connection.recv()
        for frame in frames_to_send:
            await connection.send(frame if isinstance(frame, (str, bytes)) else json.dumps(frame))
        await connection.wait_closed()

    return serve(handle, "127.0.0.1", 0)


def url_of(server) -> str:
    return f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ([{"type": "ERROR", "code": "BANNED", "message": "rude"}], "rude .BANNED."),
        ([{"type": "ERROR", "code": "NOT_ALLOWED", "message": "x\x1b[2J"}], "NOT_ALLOWED"),
        ([{"type": "CAPTCHA_CHALLENGE", "captcha_id": "1", "question": "7*6?"}], "7.6"),
        ([{"type": "WELCOME", "agent_id": "@1"}, {"type": "SESSION_DISPLACED", "reason": "y"}],
         "signed in elsewhere"),
        ([b"\x00binary", "garbage", "[" * 9999, {"type": "ERROR", "code": "X", "message": "end"}],
         "end"),
    ],
)  # fmt: skip
async def test_once_refusals_are_one_line(answers: list[object], says: str):
    async with scripted(answers) as server, client(url_of(server), once=True) as me:
        with pytest.raises(ChatError, match=says) as told:
            await me.joined()
        assert str(told.value).isprintable()


async def test_a_refusal_does_not_end_a_client_that_stays():
    """A supervisor's coordinator goes on trying; people are told by the event."""
    answers: list[object] = [{"type": "ERROR", "code": "BANNED", "message": "rude"}]
    async with scripted(answers) as server, client(url_of(server)) as me:
        assert await until(me, Refused) == Refused("BANNED", "rude")
        assert "rude" in (await until(me, Disconnected)).reason
        assert (await until(me, Disconnected)).attempts == 2


async def test_a_closing_for_policy_is_a_reason():
    async def handle(connection: ServerConnection) -> None:
        await connection.close(1008, "too many connections")

    async with serve(handle, "127.0.0.1", 0) as server, client(url_of(server)) as me:
        lost = await until(me, Disconnected)
        assert lost.reason == "the server closed the connection: too many connections (1008)"


def test_an_address_that_is_none():
    for url in ("http://x", "ws://", "ws://h:0", "ws://h:70000", "ws://h/ä", "ws://a b", "x" * 999):
        with pytest.raises(ChatError, match="no chat address"):
            ChatClient(url, None, "#agents")


def test_waits_double_to_thirty_seconds_with_jitter():
    assert [backoff(n, 0.0) for n in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    assert backoff(6, 1.0) == 36
    assert backoff(10**6, 0.5) == 33


async def test_the_echo_that_does_not_come(monkeypatch: pytest.MonkeyPatch):
    welcome = [{"type": "WELCOME", "agent_id": "@1"}, {"type": "JOINED", "channel": "#agents"}]
    async with scripted(welcome) as server, client(url_of(server), once=True) as me:
        await me.joined()
        with pytest.raises(ChatError, match=r"not sent within 0\.05 s"):
            await me.tell("x", within=0.05)
        assert me.pending == 0


# -- TLS ----------------------------------------------------------------------------------------


async def test_wss_wants_a_valid_certificate(tmp_path):
    path, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    host = ChatHost(ChatServer(verify=verify, entropy=os.urandom), None)
    async with serve(
        host.handle,
        "127.0.0.1",
        0,
        ssl=context,
        logger=_silent,
        create_connection=guarded_by(host.guard),
    ) as server:
        url = url_of(server).replace("ws://", "wss://")
        async with client(url, once=True) as stranger:
            with pytest.raises(ChatError, match="certificate is not valid"):
                await stranger.joined()
        trusting = ssl.create_default_context(cafile=path)
        async with client(url, once=True, tls=trusting) as me:
            await me.joined()
            await me.tell("over TLS")
    await host.end()


# -- small things -------------------------------------------------------------------------------


def test_the_clock_never_runs_backwards(monkeypatch: pytest.MonkeyPatch):
    clock = Clock()
    first = clock()
    monkeypatch.setattr("time.time_ns", lambda: 0)
    assert clock() >= first


def test_verify_says_no_to_everything_else():
    good = ME.sign(b"text")
    assert verify(ME.public_pem, b"text", good)
    assert not verify(ME.public_pem, b"other", good)
    assert not verify(OTHER.public_pem, b"text", good)
    assert not verify("-----BEGIN PUBLIC KEY-----\nx", b"text", good)
    assert not verify("\ud800", b"text", good)
    assert not verify(ME.private_pem, b"text", good)


async def test_a_defect_inside_is_not_swallowed(monkeypatch: pytest.MonkeyPatch):
    """What nobody foresaw reaches whoever reads the events; it does not end in silence."""

    def broken(*_args: object) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(client_module.ChatClient, "_heard_back", broken)
    async with serve_chat(port=0, limits=FLEET_LIMITS) as running, client(running.address) as me:
        await me.joined()
        me.say("x")
        with pytest.raises((ZeroDivisionError, ExceptionGroup)):
            await until(me, Disconnected)
