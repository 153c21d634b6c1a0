"""The embedded server over real sockets, spoken to by hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from dataclasses import replace

import pytest
from chat_sockets import Foreigner, foreigner
from tests_support import eventually_async
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Response

from swarm.chat import server as server_module
from swarm.chat.server import FLEET_LIMITS, PROTOCOL_LIMITS, read_listen, serve_chat
from swarm.errors import ChatError
from swarm.logs import JsonLog


def serving(**more):
    return serve_chat("127.0.0.1", 0, **more)


async def closed_with(client: Foreigner) -> tuple[int, str]:
    """Read to the end of the connection; how the server closed it."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await client.next()
    ended = client.socket.protocol.close_rcvd
    assert ended is not None, "closed without a close frame"
    return ended.code, ended.reason


async def test_somebody_elses_client_signs_in_and_talks():
    async with serving() as running, foreigner(running.address, "their-agent") as client:
        welcome = await client.sign_in()
        assert welcome["agent_id"] == "@" + client.identity.agent_id
        assert welcome["name"] == "their-agent"
        joined = await client.join()
        assert joined["agents"] == [
            {"id": "@" + client.identity.agent_id, "name": "their-agent", "verified": False}
        ]
        await client.say("TASK builder: fix the typo")
        echo = await client.until("MSG", to="#agents")
        assert echo["content"] == "TASK builder: fix the typo"
        assert echo["from"] == "@" + client.identity.agent_id


async def test_a_wrong_signature_is_refused_and_the_connection_stays():
    async with serving() as running, foreigner(running.address) as client:
        await client.send({"type": "IDENTIFY", "name": "x", "pubkey": client.identity.public_pem})
        await client.prove(await client.until("CHALLENGE"), tamper=True)
        assert (await client.until("ERROR"))["code"] == "VERIFICATION_FAILED"
        await client.sign_in()


@pytest.mark.parametrize("pubkey", ["-----BEGIN PUBLIC KEY-----\nnonsense\n",
                                    "-----BEGIN PUBLIC KEY-----\nü\ud800"])  # fmt: skip
async def test_a_key_that_is_none_is_refused(pubkey: str):
    async with serving() as running, foreigner(running.address) as client:
        await client.send({"type": "IDENTIFY", "name": "x", "pubkey": pubkey})
        answer = await client.next()
        if answer["type"] == "CHALLENGE":
            await client.prove(answer)
            answer = await client.next()
        assert answer["code"] in ("VERIFICATION_FAILED", "INVALID_MSG")


async def test_replay_for_who_comes_late():
    async with serving(limits=FLEET_LIMITS) as running:
        async with foreigner(running.address) as early:
            await early.sign_in()
            await early.join()
            for n in range(3):
                await early.say(f"m{n}")
                await early.until("MSG", content=f"m{n}")
        async with foreigner(running.address, None) as late:
            assert (await late.sign_in())["lurk"] is True
            await late.join()
            replayed = [await late.next() for _ in range(3)]
            assert [(m["content"], m["replay"]) for m in replayed] == [
                ("m0", True), ("m1", True), ("m2", True)
            ]  # fmt: skip


async def test_a_take_over_displaces_and_a_rapid_one_waits():
    limits = replace(PROTOCOL_LIMITS, takeover_base=200)
    async with serving(limits=limits) as running, foreigner(running.address) as first:
        await first.sign_in()
        async with connect(running.address, proxy=None) as raw:
            second = Foreigner(raw, first.identity)
            await second.sign_in()
            assert (await first.until("SESSION_DISPLACED"))["reason"]
            code, reason = await closed_with(first)
            assert (code, reason) == (1000, "Another connection proved this identity")
            await second.join()


async def test_rate_limits_floods_and_garbage():
    async with serving() as running, foreigner(running.address) as client:
        await client.sign_in()
        await client.join()
        await client.say("one")
        await client.say("two")
        await client.until("MSG", content="one")
        assert (await client.until("ERROR"))["code"] == "RATE_LIMITED"
        for garbage in ("not json", "[" * 100_000, '{"type":' * 9999, '{"type":"DANCE"}', "\x00"):
            await client.send(garbage)
            assert (await client.until("ERROR"))["code"] == "INVALID_MSG"
        for _ in range(60):
            await client.send({"type": "PING"})
        assert await closed_with(client) == (1008, "too many frames")


async def test_a_flood_before_sign_in_is_closed():
    async with serving() as running, foreigner(running.address) as client:
        for _ in range(11):
            await client.send("{}")
        assert (await closed_with(client))[0] == 1008


async def test_frames_above_two_mebibytes_are_closed_with_1009():
    async with serving() as running:
        async with foreigner(running.address) as client:
            await client.sign_in()
            await client.send("x" * (2**21 + 1))
            assert (await closed_with(client))[0] == 1009
        async with foreigner(running.address) as other:
            await other.sign_in()


async def test_bytes_that_are_no_websocket_do_no_harm():
    async with serving() as running:
        host, port = running.address.removeprefix("ws://").split(":")
        for junk in (b"\x16\x03\x01 not tls\r\n\r\n", b"GET /\r\n\r\n", b"", b"x" * 100_000):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(junk)
            writer.write_eof()
            await reader.read()
            writer.close()
            await writer.wait_closed()
        async with foreigner(running.address) as client:
            await client.sign_in()


async def get(address: str, path: str, header: str = "") -> tuple[str, str]:
    """The status line and the body of a plain GET."""
    host, port = address.removeprefix("ws://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{header}\r\n".encode())
    text = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    head, _, body = text.partition("\r\n\r\n")
    return head, body


async def test_health_over_plain_http():
    async with serving(channels=["#work"]) as running, foreigner(running.address) as client:
        await client.sign_in()
        head, body = await get(running.address, "/health")
        assert head.startswith("HTTP/1.1 200")
        assert "Content-Type: application/json" in head
        health = json.loads(body)
        assert health["status"] == "healthy"
        assert health["agents"] == {"connected": 1, "sockets": 1}
        assert health["channels"]["list"]["#work"] == 1
        head, _ = await get(running.address, "/elsewhere")
        assert head.startswith("HTTP/1.1 426")


async def test_web_pages_are_turned_away():
    """A browser sends Origin; no page may talk to the server on its visitor's loopback."""
    async with serving() as running:
        with pytest.raises(InvalidStatus) as refused:
            async with connect(running.address, origin="https://evil.example", proxy=None):
                pass
        assert isinstance(refused.value.response, Response)
        assert refused.value.response.status_code == 403


async def test_connections_of_one_address_are_capped():
    limits = replace(PROTOCOL_LIMITS, connections_per_address=2)
    async with serving(limits=limits) as running, foreigner(running.address) as one:
        async with foreigner(running.address), foreigner(running.address) as three:
            assert await closed_with(three) == (1008, "too many connections from your address")
        await one.sign_in()


async def test_challenges_and_silence_run_out_on_their_own():
    limits = replace(PROTOCOL_LIMITS, sign_in=50)
    async with serving(limits=limits) as running, foreigner(running.address) as client:
        await client.send({"type": "IDENTIFY", "name": "x", "pubkey": client.identity.public_pem})
        assert (await client.until("ERROR"))["code"] == "VERIFICATION_EXPIRED"
        assert (await closed_with(client))[0] == 1008
    limits = replace(PROTOCOL_LIMITS, idle=100)
    async with serving(limits=limits) as running, foreigner(running.address) as client:
        await client.sign_in()
        assert await closed_with(client) == (1000, "silent for too long")


async def test_a_reader_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setattr(server_module, "MAX_GUEST_BACKLOG", 100_000)
    log = JsonLog(tmp_path / "chat.log")
    limits = replace(FLEET_LIMITS, content_bytes=2**20)
    async with serving(limits=limits, log=log) as running:
        host, port = running.address.removeprefix("ws://").split(":")
        slow = socket.create_connection((host, int(port)))
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        slow.sendall(
            f"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{key}"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        for text in (b'{"type":"IDENTIFY","name":"slow"}', b'{"type":"JOIN","channel":"#agents"}'):
            mask = b"\0\0\0\0"
            slow.sendall(b"\x81" + bytes([0x80 | len(text)]) + mask + text)
        await eventually_async(lambda: running.machine.health()["channels"]["list"]["#agents"] == 1)
        async with foreigner(running.address) as talker:
            await talker.sign_in()
            await talker.join()
            for _ in range(40):
                await talker.say("x" * 500_000)
                await talker.until("MSG", to="#agents")
                if running.machine.connections == 1:
                    break
            await eventually_async(lambda: running.machine.connections == 1)
        slow.close()
    assert "slow_reader" in (tmp_path / "chat.log").read_text()


async def test_sixty_members_hear_one_message_encoded_once(monkeypatch: pytest.MonkeyPatch):
    encoded = []
    real = server_module.broadcast
    monkeypatch.setattr(
        server_module, "broadcast", lambda to, text: (encoded.append(len(to)), real(to, text))
    )
    async with serving(limits=FLEET_LIMITS) as running, asyncio.TaskGroup() as group:
        members: list[Foreigner] = []
        leave = asyncio.Event()

        async def member() -> None:
            async with foreigner(running.address, None) as client:
                await client.sign_in(quiet=True)
                await client.join()
                members.append(client)
                await client.until("MSG", content="to all", within=30)
                await leave.wait()

        for _ in range(60):
            group.create_task(member())
        await eventually_async(lambda: len(members) == 60, within=30)
        async with foreigner(running.address) as talker:
            await talker.sign_in(quiet=True)
            await talker.join()
            encoded.clear()
            await talker.say("to all")
            await talker.until("MSG", content="to all")
            leave.set()
    assert 61 in encoded


async def test_a_port_in_use_is_told_with_a_remedy():
    async with serving() as running:
        port = int(running.address.rpartition(":")[2])
        with pytest.raises(ChatError, match="something else does already") as told:
            async with serve_chat("127.0.0.1", port):
                pass
        assert "port 0" in told.value.remedy


async def test_an_address_that_is_not_ours_is_told():
    with pytest.raises(ChatError, match="cannot listen on"):
        async with serve_chat("192.0.2.1", 0):
            pass


@pytest.mark.parametrize(
    ("text", "means"),
    [("127.0.0.1:6667", ("127.0.0.1", 6667)), ("localhost:0", ("localhost", 0)),
     ("[::1]:80", ("::1", 80))],
)  # fmt: skip
def test_listen_addresses(text: str, means: tuple[str, int]):
    assert read_listen(text) == means


@pytest.mark.parametrize("text", ["", "6667", "host", "host:", "host:x", "host:99999", "a b:1",
                                  "::1:80", "host:1\n", "ws://host:1"])  # fmt: skip
def test_listen_addresses_that_are_none(text: str):
    with pytest.raises(ChatError, match="cannot listen on"):
        read_listen(text)


async def test_the_end_closes_every_socket_properly():
    async with serving() as running:
        clients = [Foreigner(await connect(running.address, proxy=None), None) for _ in range(5)]
        for client in clients:
            await client.sign_in()
    for client in clients:
        assert (await closed_with(client))[0] == 1001
        await client.socket.close()
