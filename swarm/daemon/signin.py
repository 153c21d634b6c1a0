"""Signing in to a plain ``ws://`` server by blocking calls, for a helper process.

The daemon opens no connection itself while it dozes: the code that signs in would cost it half a
megabyte of its own for good (measured).  The helper shares the daemon's socket, so that when it
ends the daemon simply holds a connection that has joined its channel.
"""

from __future__ import annotations

import os
import socket
import time

import msgspec

from swarm.errors import ChatError, WireError
from swarm.spawner.identity import load_identity
from swarm.wire import websocket
from swarm.wire.address import ChatAddress
from swarm.wire.agentchat import session as chat

CONNECT_SECONDS = 20.0
"""Longest wait for TCP and the WebSocket's handshake; ``WELCOME`` may take 75 s after it."""
JOIN_SECONDS = 110.0
"""Longest wait for everything after TCP, however busily the server talks meanwhile."""
RETRY_CAP_SECONDS = 30.0
MAX_HELD_BACK = 8 * 1024 * 1024
"""Bytes of a replay that may be read before the channel is joined."""


class Joined(msgspec.Struct, frozen=True):
    """A connection that has joined, as a helper hands it to the daemon."""

    key: bytes
    handshake: bytes
    """What opened the WebSocket, so that another codec can be brought to the same state."""
    wall_ms: int
    """Unix milliseconds at the zero of the monotonic clock."""
    rate: float
    """Messages a second the server allows."""
    ours: bool
    """The server is one of ours: see :class:`~swarm.wire.agentchat.session.ChatSession`."""
    pending: bytes
    """Read after joining and not looked at."""
    at: float
    """When it joined, monotonic seconds."""


_decoder = msgspec.json.Decoder(Joined)


def retry_delay(failures: int, jitter: float) -> float:
    """Seconds until the next attempt after ``failures`` (from 1) in a row.

    1, 2, 4 … at most 30, less up to a quarter of it by ``jitter`` (0 ≤ x < 1), so that a fleet
    does not come back in one moment.
    """
    base = min(RETRY_CAP_SECONDS, 2.0 ** min(max(failures - 1, 0), 10))
    return base * (1.0 - 0.25 * jitter)


def jitter() -> float:
    """A number between 0 and 1; the ``random`` module would cost memory for one use."""
    return int.from_bytes(os.urandom(4), "big") / 2**32


def numeric_family(host: str) -> int:
    """The address family of a numeric host; 0 for a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return int(family)
    return 0


def sign_in(
    fd: int, address: ChatAddress, channel: str, identity_path: str, badge: str = ""
) -> Joined:
    """Connect socket ``fd``, sign in and join.

    Raises :class:`~swarm.errors.SwarmError` for anything else than a plain success: whoever may
    only read, or is asked a question, is for :class:`~swarm.daemon.link.ChatLink` to explain.
    """
    identity = load_identity(identity_path)
    key = os.urandom(16)
    codec = websocket.WebSocketClient(address.authority, address.path, key, lambda: os.urandom(4))
    session = chat.ChatSession(
        identity.name,
        identity.public_pem,
        identity.sign,
        channel,
        quiet=True,
        addressed=True,
        badge=badge,
    )
    with socket.socket(fileno=os.dup(fd)) as link:
        link.settimeout(CONNECT_SECONDS)
        try:
            link.connect((address.host, address.port))
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link.sendall(codec.opening())
            return _join(link, codec, session, key)
        except (OSError, WireError) as error:
            why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            raise ChatError(f"{address.url} cannot be joined: {why}") from error
        finally:
            link.setblocking(False)


def _join(
    link: socket.socket,
    codec: websocket.WebSocketClient,
    session: chat.ChatSession,
    key: bytes,
) -> Joined:
    until = time.monotonic() + CONNECT_SECONDS
    buffer = b""
    while (end := buffer.find(b"\r\n\r\n")) < 0:
        buffer += _receive(link, until)
        if len(buffer) > websocket.MAX_HANDSHAKE:
            raise ChatError("the chat server answers no WebSocket handshake")
    handshake, buffer = buffer[: end + 4], buffer[end + 4 :]
    codec.receive(handshake)
    wall_ms = int((time.time() - time.monotonic()) * 1000)
    session.opened(_wall(wall_ms))
    until = time.monotonic() + JOIN_SECONDS
    rate = 1.0
    while not session.joined:
        for text in session.outgoing():
            codec.send_text(text)
        link.sendall(codec.outgoing())
        size = frame_size(buffer)
        while size is None or len(buffer) < size:
            buffer += _receive(link, until)
            size = frame_size(buffer)
            if len(buffer) > MAX_HELD_BACK:
                raise ChatError("the chat server sends more than a sign-in")
        frame, buffer = buffer[:size], buffer[size:]
        for event in codec.receive(frame):
            rate = _judge(event, session, wall_ms) or rate
    return Joined(key, handshake, wall_ms, rate, session.ours, buffer, time.monotonic())


def _judge(event: websocket.SocketEvent, session: chat.ChatSession, wall_ms: int) -> float | None:
    """One event of the sign-in; the rate the server allows when it says so."""
    match event:
        case websocket.Text(text):
            told = session.received(text, _wall(wall_ms))
        case websocket.Closed(reason=reason):
            raise ChatError(f"the chat server closed the connection {reason[:200]}")
        case _:
            return None
    rate = None
    for one in told:
        match one:
            case chat.SignedIn(lurk_reason=None, messages_per_second=allowed):
                rate = allowed
            case chat.SignedIn() | chat.Refused() | chat.Displaced() | chat.CannotAnswer():
                raise ChatError(f"the chat server does not simply let us in: {one}")
            case _:
                pass
    return rate


def read_joined(data: bytes) -> Joined:
    """What :func:`sign_in` said.  Raises ``msgspec.MsgspecError``."""
    return _decoder.decode(data)


def frame_size(data: bytes) -> int | None:
    """Bytes of the WebSocket frame that ``data`` begins with; ``None``: not to be told yet.

    A server's frames are not masked; one that is gets its size wrong, and its codec refuses it.
    """
    if len(data) < 2:
        return None
    length = data[1] & 0x7F
    if length < 126:
        return 2 + length
    wide = 4 if length == 126 else 10
    if len(data) < wide:
        return None
    return wide + int.from_bytes(data[2:wide], "big")


def _receive(link: socket.socket, until: float) -> bytes:
    """What came next.  A server that dribbles gets no more time by it."""
    left = until - time.monotonic()
    if left <= 0:
        raise ChatError("the chat server did not let us in within its time")
    link.settimeout(left)
    data = link.recv(65536)
    if not data:
        raise ChatError("the chat server closed the connection")
    return data


def _wall(offset: int) -> int:
    return int(time.monotonic() * 1000) + offset
