"""One connection of the chat client: how it is opened, and why it ended, in words for people."""

from __future__ import annotations

import os
import ssl

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from swarm.chat.tempered import TemperedConnection
from swarm.wire.address import ChatAddress
from swarm.wire.agentchat import frames

OPEN_SECONDS = 10.0
CLOSE_SECONDS = 2.0
PING_SECONDS = 60.0
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Lost(Exception):
    """One connection is over; another may do better."""


class Unreachable(Lost):
    """There was none; ``why`` in one line."""

    def __init__(self, address: ChatAddress, why: str) -> None:
        super().__init__(f"cannot reach {address.url}: {why}")
        self.why = why


async def opened(address: ChatAddress, tls: ssl.SSLContext | None) -> ClientConnection:
    """A connection to the server; ``tls`` ``None`` trusts whom the system trusts.

    Raises :class:`Unreachable`.
    """
    try:
        return await connect(
            address.url,
            compression=None,
            max_size=frames.MAX_FRAME,
            open_timeout=OPEN_SECONDS,
            close_timeout=CLOSE_SECONDS,
            ping_interval=PING_SECONDS,
            ping_timeout=PING_SECONDS,
            ssl=(tls or True) if address.secure else None,
            proxy=None if address.host in LOOPBACK else True,
            user_agent_header="agentctl-swarm",
            create_connection=TemperedConnection,
        )
    except (OSError, WebSocketException, TimeoutError, EOFError) as error:
        raise Unreachable(address, _one_line(error)) from error


def backed_up(socket: ClientConnection) -> bool:
    """Whether what was sent before still waits for the peer to read."""
    return socket.transport.get_write_buffer_size() > 0


def meaning_of(group: ExceptionGroup) -> Exception:
    """Why reading and writing ended: what the server said counts more than the closed socket."""
    told = group.subgroup(Lost)
    if told is not None:
        return told.exceptions[0]
    closed = group.subgroup(ConnectionClosed)
    return Lost(_one_line(closed.exceptions[0])) if closed is not None else group


def _one_line(error: BaseException) -> str:
    if isinstance(error, ConnectionClosed):
        closed = error.rcvd
        if closed is None:
            return "the connection broke"
        return f"the server closed the connection: {closed.reason or 'no reason'} ({closed.code})"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return " ".join(str(error).split())[:300] or type(error).__name__
