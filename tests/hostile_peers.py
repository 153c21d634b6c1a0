"""Peers that mean harm: a client of raw bytes, and a chat server that turns on its fleet."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from swarm.spawner.identity import Identity

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING = 0x81, 0x88, 0x89


def frame(payload: bytes | str, opcode: int = TEXT, *, mask: bool = True) -> bytes:
    """One WebSocket frame, masked with zeroes; nothing stops an odd opcode."""
    data = payload if isinstance(payload, bytes) else payload.encode("utf-8", "surrogatepass")
    size, bit = len(data), 0x80 if mask else 0
    if size < 126:
        head = bytes([opcode, bit | size])
    elif size < 65536:
        head = bytes([opcode, bit | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([opcode, bit | 127]) + size.to_bytes(8, "big")
    return head + (b"\0\0\0\0" if mask else b"") + data


def address_of(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("ws://").rstrip("/").rsplit(":", 1)
    return host, int(port)


def shake_hands(url: str, within: float = 20.0) -> socket.socket:
    """A socket past the opening handshake, that has said nothing yet."""
    host, port = address_of(url)
    link = socket.create_connection((host, port), timeout=within)
    link.sendall(
        f"GET / HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = link.recv(1)
        if not data:
            raise ConnectionError("closed in its handshake")
        answer += data
    return link


class RawClient:
    """Signs in, with a key or without, and then sends whatever bytes it is given."""

    def __init__(
        self, url: str, identity: Identity | None = None, *, join: bool = True, **more: object
    ) -> None:
        self.identity = identity
        self._buffer = b""
        self.link = shake_hands(url)
        try:
            self._sign_in(more)
            if join:
                self.send({"type": "JOIN", "channel": "#agents"})
                self.until("JOINED")
        except BaseException:
            self.link.close()
            raise

    def _sign_in(self, more: dict[str, object]) -> None:
        who = self.identity
        key = who.public_pem if who is not None else None
        name = who.name if who is not None else "anon"
        self.send({"type": "IDENTIFY", "name": name, "pubkey": key, **more})
        if who is not None:
            asked = self.until("CHALLENGE")
            now = int(time.time() * 1000)
            text = f"AGENTCHAT_AUTH|{asked['nonce']}|{asked['challenge_id']}|{now}"
            proof = base64.b64encode(who.sign(text.encode())).decode()
            self.send({"type": "VERIFY_IDENTITY", "challenge_id": asked["challenge_id"],
                       "signature": proof, "timestamp": now})  # fmt: skip
        self.until("WELCOME")

    def send(self, message: object) -> None:
        self.link.sendall(frame(json.dumps(message)))

    def say(self, content: str, **more: object) -> None:
        self.send({"type": "MSG", "to": "#agents", "content": content, **more})

    def until(self, kind: str, **fields: object) -> dict[str, object]:
        """The next frame of this type with these fields; ``ConnectionError`` at the end."""
        while True:
            opcode, payload = self._frame()
            if opcode == TEXT:
                found = json.loads(payload)
                if found["type"] == kind and fields.items() <= found.items():
                    return dict(found)
            elif opcode == CLOSE:
                raise ConnectionError(f"closed: {payload!r}")

    def closed(self) -> bytes:
        """Read to the end; what the close frame said."""
        with suppress(ConnectionError):
            while True:
                opcode, payload = self._frame()
                if opcode == CLOSE:
                    return payload
        return b""

    def _frame(self) -> tuple[int, bytes]:
        while True:
            whole = _cut(self._buffer)
            if whole is not None:
                opcode, payload, self._buffer = whole
                return opcode, payload
            data = self.link.recv(1 << 16)
            if not data:
                raise ConnectionError("closed")
            self._buffer += data

    def close(self) -> None:
        self.link.close()


def _cut(buffer: bytes) -> tuple[int, bytes, bytes] | None:
    if len(buffer) < 2:
        return None
    size, at = buffer[1] & 127, 2
    if size >= 126:
        wide = 2 if size == 126 else 8
        if len(buffer) < 2 + wide:
            return None
        size, at = int.from_bytes(buffer[2 : 2 + wide], "big"), 2 + wide
    mask = buffer[at : at + 4] if buffer[1] & 128 else b""
    at += len(mask)
    if len(buffer) < at + size or (buffer[1] & 128 and len(mask) < 4):
        return None
    payload = buffer[at : at + size]
    if mask:
        payload = bytes(b ^ mask[i % 4] for i, b in enumerate(payload))
    return buffer[0], payload, buffer[at + size :]


# -- a server that is not ours ---------------------------------------------------------------------


class Guest:
    """One connection to the turncoat: an agent of the fleet it means harm to."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.name = ""
        self.agent_id = ""


class Turncoat:
    """Relays politely, from memory and by the protocol, until it is told how to misbehave.

    ``attack(guest)`` gives the bytes that every member is sent, again and again as fast as it
    takes them; ``greeting`` is what WELCOME says beside the usual.
    """

    def __init__(self) -> None:
        self.url = ""
        self.members: list[Guest] = []
        self.said: list[dict[str, object]] = []
        self.attack: Callable[[Guest], bytes] | None = None
        self.greeting: dict[str, object] = {"limits": {"messages_per_second": 100}}
        self.mute = False
        """It takes what is said and asked, and passes nothing on."""
        self.sent = 0
        """Bytes of attacks."""
        self.came = 0
        """Connections that joined."""

    def member(self, name: str) -> Guest:
        """Whoever signed in under a name last."""
        return [guest for guest in self.members if guest.name == name][-1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        guest = Guest(writer)
        harm: asyncio.Task[None] | None = None
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            key = next(line.split(b": ")[1] for line in head.split(b"\r\n") if b"-Key:" in line)
            accept = base64.b64encode(hashlib.sha1(key + GUID.encode()).digest()).decode()
            writer.write(
                "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
            )
            buffer = b""
            while data := await reader.read(1 << 16):
                buffer += data
                while (whole := _cut(buffer)) is not None:
                    opcode, payload, buffer = whole
                    if opcode == TEXT:
                        self._obey(guest, json.loads(payload))
                    elif opcode == CLOSE:
                        return
                if guest in self.members and harm is None:
                    harm = asyncio.create_task(self._harm(guest))
        except (OSError, asyncio.IncompleteReadError):
            pass  # its client has gone
        finally:
            if harm is not None:
                harm.cancel()
            if guest in self.members:
                self.members.remove(guest)
            writer.transport.abort()

    async def _harm(self, guest: Guest) -> None:
        with suppress(OSError):
            while True:
                if self.attack is None:
                    await asyncio.sleep(0.02)
                    continue
                data = self.attack(guest)
                self.sent += len(data)
                if guest.writer.is_closing():
                    return
                guest.writer.write(data)
                await guest.writer.drain()
                await asyncio.sleep(0.001 if data else 0.02)

    def _obey(self, guest: Guest, said: dict[str, object]) -> None:
        match said["type"]:
            case "IDENTIFY":
                guest.name = str(said["name"])
                public = str(said["pubkey"]).encode()
                guest.agent_id = hashlib.sha256(public).hexdigest()[:16]
                self.tell(guest, type="WELCOME", agent_id=f"@{guest.agent_id}", **self.greeting)
            case "JOIN":
                self.members.append(guest)
                self.came += 1
                self.tell(guest, type="JOINED", channel=said["channel"], agents=[])
            case "PING":
                self.tell(guest, type="PONG")
            case "LIST_AGENTS" if not self.mute:
                self.tell(guest, type="AGENTS", channel=said["channel"], list=[])
            case "MSG":
                self.said.append({**said, "from_name": guest.name})
                if not self.mute:
                    self.relay(guest.agent_id, guest.name, str(said["content"]))

    def relay(self, sender: str, name: str, content: str, **more: object) -> None:
        """Tell every member that somebody said something, true or not."""
        for member in self.members:
            self.tell(member, **message(sender, name, content, **more))

    @staticmethod
    def tell(guest: Guest, **fields: object) -> None:
        guest.writer.write(frame(json.dumps(fields), mask=False))


def message(sender: str, name: str, content: str, **more: object) -> dict[str, object]:
    """A ``MSG`` as a server says it."""
    return {
        "type": "MSG",
        "ts": int(time.time() * 1000),
        "from": f"@{sender}",
        "from_name": name,
        "to": "#agents",
        "content": content,
        **more,
    }


@contextmanager
def turncoat() -> Iterator[Turncoat]:
    """One that listens, on a thread of its own."""
    made = Turncoat()
    loop = asyncio.new_event_loop()
    started, stop = threading.Event(), asyncio.Event()

    async def run() -> None:
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(made.serve(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=1 << 22)
        host, port = server.sockets[0].getsockname()
        made.url = f"ws://{host}:{port}"
        started.set()
        await stop.wait()
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def work() -> None:
        loop.run_until_complete(run())
        loop.close()

    thread = threading.Thread(target=work)
    thread.start()
    assert started.wait(10)
    try:
        yield made
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
