"""The WebSocket client codec (RFC 6455), sans-I/O and small.

``websockets``' own sans-I/O core imports ``threading`` and ``logging``, which costs each idle
daemon 1.6 MB (measured); this module imports neither.  It speaks what an agentchat client needs:
the opening handshake, text messages of at most 2 MiB, ping, pong and close; no extension is
offered and no subprotocol asked for.  ``tests/wire`` checks it frame by frame against
``websockets``.

The caller owns the socket: it writes :meth:`WebSocketClient.opening`, feeds what it reads to
:meth:`WebSocketClient.receive` and writes :meth:`WebSocketClient.outgoing` whenever that is not
empty.
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from swarm.errors import BadMessage, FrameTooLarge, WireError

MAX_MESSAGE = 2 * 1024 * 1024
"""Bytes of one message, its fragments together (protocol, "Transport")."""
MAX_HANDSHAKE = 16 * 1024
"""Bytes of the server's answer to the opening handshake, its headers' end included."""
MAX_CONTROL = 125
"""Bytes of a control frame's payload (RFC 6455, 5.5)."""

NORMAL = 1000
PROTOCOL_ERROR = 1002
UNSUPPORTED = 1003
INVALID_TEXT = 1007
POLICY = 1008
TOO_BIG = 1009
NO_STATUS = 1005
"""What :class:`Closed` says when the peer's close frame named no code."""

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3


@dataclass(frozen=True, slots=True)
class Opened:
    """The handshake succeeded; text may be sent from now on."""


@dataclass(frozen=True, slots=True)
class Text:
    """One whole text message."""

    text: str


@dataclass(frozen=True, slots=True)
class Ping:
    """The server pinged; the pong already waits in ``outgoing()``."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a ping of ours, or an unasked one."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """The server sent a close frame; its answer waits in ``outgoing()``, then close the socket."""

    code: int
    """1000–4999 as the server gave it, or :data:`NO_STATUS`."""
    reason: str


SocketEvent: TypeAlias = Opened | Text | Ping | Pong | Closed


class WebSocketClient:
    """One client connection.

    ``host`` is the ``Host`` header (with a port that is not the scheme's own), ``path`` starts
    with a slash, ``key`` is 16 random bytes, ``mask`` gives four fresh random bytes a frame.
    Raises :class:`~swarm.errors.WireError` for anything the RFC forbids a server to send; a close
    frame with the right code then waits in :meth:`outgoing`, and whatever follows is ignored.
    """

    __slots__ = (
        "_accept", "_buffer", "_close_sent", "_host", "_key", "_mask", "_message", "_opened",
        "_out", "_over", "_path", "_pong",
    )  # fmt: skip

    def __init__(self, host: str, path: str, key: bytes, mask: Callable[[], bytes]) -> None:
        if len(key) != 16:
            raise ValueError("a WebSocket key is 16 bytes")
        for part in (host, path):
            if not part or not part.isascii() or any(c <= " " or c == "\x7f" for c in part):
                raise ValueError(f"not usable in a request line or header: {part!r}")
        self._host = host
        self._path = path
        self._key = binascii.b2a_base64(key, newline=False)
        self._accept = binascii.b2a_base64(
            hashlib.sha1(self._key + _GUID, usedforsecurity=False).digest(), newline=False
        )
        self._mask = mask
        self._buffer = bytearray()
        self._message: bytearray | None = None
        self._out = bytearray()
        self._pong: bytes | None = None
        self._opened = False
        self._over = False
        self._close_sent = False

    @property
    def open(self) -> bool:
        """Whether text can be sent: the handshake is done and nobody has closed."""
        return self._opened and not self._over and not self._close_sent

    def opening(self) -> bytes:
        """The request that asks the server for a WebSocket."""
        return (
            f"GET {self._path} HTTP/1.1\r\n"
            f"Host: {self._host}\r\n"
            "Upgrade: websocket\r\n"
            "Connection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {self._key.decode()}\r\n"
            "Sec-WebSocket-Version: 13\r\n"
            "User-Agent: agentctl-swarm\r\n"
            "\r\n"
        ).encode("ascii")

    def receive(self, data: bytes) -> list[SocketEvent]:
        """Take in what was read; return what it completed, oldest first.

        Raises :class:`~swarm.errors.FrameTooLarge` past a cap and
        :class:`~swarm.errors.BadMessage` for a breach of the protocol.  Events that the same
        ``data`` completed before the breach are lost with it: the connection is over.
        """
        if self._over:
            return []
        self._buffer += data
        events: list[SocketEvent] = []
        if not self._opened:
            if not self._handshake():
                return events
            events.append(Opened())
        try:
            self._frames(events)
        except WireError:
            self._over = True
            self._buffer.clear()
            self._message = None
            raise
        return events

    def outgoing(self) -> bytes:
        """Everything to be written now; empty when there is nothing."""
        if self._pong is not None:
            # Only the latest ping of a batch is answered (RFC 6455, 5.5.3): a flood of pings
            # cannot fill our memory.
            pong, self._pong = self._pong, None
            if not self._close_sent:
                self._put(_PONG, pong)
        data = bytes(self._out)
        self._out = bytearray()
        return data

    def send_text(self, text: str) -> None:
        """Queue one text message; ``ValueError`` when the connection is not open or it is too long.

        A lone surrogate, which UTF-8 cannot carry, becomes a question mark.
        """
        payload = text.encode("utf-8", "replace")
        if not self.open:
            raise ValueError("the connection is not open")
        if len(payload) > MAX_MESSAGE:
            raise ValueError(f"a message of {len(payload)} bytes; the cap is {MAX_MESSAGE}")
        self._put(_TEXT, payload)

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Queue a close frame, once.  The server's own answers it as :class:`Closed`."""
        if not self._close_sent and self._opened:
            self._put(_CLOSE, code.to_bytes(2, "big") + reason.encode("utf-8", "replace")[:123])
            self._close_sent = True

    # -- handshake ------------------------------------------------------------------------------

    def _handshake(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end > MAX_HANDSHAKE or (end < 0 and len(self._buffer) > MAX_HANDSHAKE):
            self._over = True
            self._buffer.clear()
            raise FrameTooLarge(f"more than {MAX_HANDSHAKE} bytes of handshake")
        if end < 0:
            return False
        head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        try:
            self._check(head)
        except WireError:
            self._over = True
            self._buffer.clear()
            raise
        self._opened = True
        return True

    def _check(self, head: bytes) -> None:
        status_line, *lines = head.decode("latin-1").split("\r\n")
        version, _, rest = status_line.partition(" ")
        status, _, phrase = rest.partition(" ")
        if version != "HTTP/1.1" or len(status) != 3 or not status.isdecimal():
            raise BadMessage(f"not an HTTP answer: {status_line[:80]!r}")
        if status != "101":
            said = "".join(c for c in phrase[:80] if c.isprintable())
            raise BadMessage(f"the server answered HTTP {status} {said}".rstrip())
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise BadMessage(f"not an HTTP header: {line[:80]!r}")
            key = name.lower()
            headers[key] = f"{headers[key]},{value.strip()}" if key in headers else value.strip()
        if headers.get("upgrade", "").lower() != "websocket":
            raise BadMessage("the server's answer does not upgrade to websocket")
        tokens = [token.strip().lower() for token in headers.get("connection", "").split(",")]
        if "upgrade" not in tokens:
            raise BadMessage("the server's answer has no Connection: Upgrade")
        if headers.get("sec-websocket-accept", "") != self._accept.decode():
            raise BadMessage("the server's answer does not prove it read our key")
        for forbidden in ("sec-websocket-extensions", "sec-websocket-protocol"):
            if headers.get(forbidden):
                raise BadMessage(f"the server chose a {forbidden} nobody offered")

    # -- frames in ------------------------------------------------------------------------------

    def _frames(self, events: list[SocketEvent]) -> None:
        buffer, at = self._buffer, 0
        while not self._over and len(buffer) - at >= 2:
            first, second = buffer[at], buffer[at + 1]
            length, start = second & 0x7F, at + 2
            if length >= 126:
                start += 2 if length == 126 else 8
                if len(buffer) < start:
                    self._early(first, second)
                    break
                length = int.from_bytes(buffer[at + 2 : start], "big")
            self._early(first, second)
            self._judge_length(first & 0x0F, length)
            if len(buffer) - start < length:
                break
            payload = bytes(buffer[start : start + length])
            at = start + length
            self._frame(first & 0x0F, bool(first & 0x80), payload, events)
        if self._over:
            buffer.clear()
        elif at:
            del buffer[:at]

    def _early(self, first: int, second: int) -> None:
        """What the first two bytes of a frame already give away."""
        opcode = first & 0x0F
        if first & 0x70:
            raise self._breach(PROTOCOL_ERROR, "a frame with reserved bits set")
        if second & 0x80:
            raise self._breach(PROTOCOL_ERROR, "a masked frame from the server")
        if opcode not in (_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG):
            raise self._breach(PROTOCOL_ERROR, f"a frame of reserved kind {opcode}")
        if opcode >= _CLOSE:
            if not first & 0x80:
                raise self._breach(PROTOCOL_ERROR, "a fragmented control frame")
            if second & 0x7F > MAX_CONTROL:
                raise self._breach(PROTOCOL_ERROR, "a control frame of more than 125 bytes")
        elif opcode == _CONTINUATION and self._message is None:
            raise self._breach(PROTOCOL_ERROR, "a continuation of nothing")
        elif opcode != _CONTINUATION and self._message is not None:
            raise self._breach(PROTOCOL_ERROR, "a new message inside an unfinished one")
        elif opcode == _BINARY:
            raise self._breach(UNSUPPORTED, "a binary message; agentchat speaks text")

    def _judge_length(self, opcode: int, length: int) -> None:
        held = len(self._message) if self._message is not None and opcode < _CLOSE else 0
        if length + held > MAX_MESSAGE:
            self.close(TOO_BIG, "message too big")
            raise FrameTooLarge(f"a message of {length + held} bytes; the cap is {MAX_MESSAGE}")

    def _frame(self, opcode: int, final: bool, payload: bytes, events: list[SocketEvent]) -> None:
        match opcode:
            case 0x8:
                self._closed(payload, events)
            case 0x9:
                self._pong = payload
                events.append(Ping(payload))
            case 0xA:
                events.append(Pong(payload))
            case _ if final and self._message is None:
                events.append(Text(self._decode(payload)))
            case _:
                if self._message is None:
                    self._message = bytearray()
                self._message += payload
                if final:
                    whole, self._message = bytes(self._message), None
                    events.append(Text(self._decode(whole)))

    def _decode(self, payload: bytes) -> str:
        try:
            return payload.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._breach(INVALID_TEXT, "text that is not UTF-8") from error

    def _closed(self, payload: bytes, events: list[SocketEvent]) -> None:
        code, reason = NO_STATUS, ""
        if payload:
            code = int.from_bytes(payload[:2], "big")
            if len(payload) == 1 or not _may_be_sent(code):
                raise self._breach(PROTOCOL_ERROR, "a close frame without a valid code")
            reason = self._decode(payload[2:])
        if not self._close_sent:
            self._put(_CLOSE, payload[:2])
            self._close_sent = True
        self._over = True
        events.append(Closed(code, reason))

    def _breach(self, code: int, what: str) -> BadMessage:
        self.close(code, what)
        return BadMessage(what)

    # -- frames out -----------------------------------------------------------------------------

    def _put(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        self._out.append(0x80 | opcode)
        if size <= 125:
            self._out.append(0x80 | size)
        elif size <= 0xFFFF:
            self._out.append(0x80 | 126)
            self._out += size.to_bytes(2, "big")
        else:
            self._out.append(0x80 | 127)
            self._out += size.to_bytes(8, "big")
        mask = self._mask()
        if len(mask) != 4:
            raise ValueError("a mask is four bytes")
        self._out += mask
        self._out += apply_mask(payload, mask)


def apply_mask(payload: bytes, mask: bytes) -> bytes:
    """``payload`` with ``mask`` (four bytes) laid over it again and again; its own inverse."""
    size = len(payload)
    cover = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(cover, "big")).to_bytes(size, "big")


def _may_be_sent(code: int) -> bool:
    """Whether a close frame may carry ``code`` (RFC 6455, 7.4)."""
    return 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in (1004, 1005, 1006))
