"""The daemon's chat connection: a non-blocking socket under the sans-I/O protocols.

It connects, signs in, joins, paces what is said, keeps the connection alive and comes back after
1, 2, 4 … at most 30 s when it is lost.  The loop owns the waiting: it polls ``fileno`` for
``interest``, calls :meth:`ChatLink.ready` and, when ``deadline`` has passed, :meth:`ChatLink.tick`.
``now`` is seconds on a monotonic clock.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, TypeAlias

from swarm.daemon.ration import Ration
from swarm.daemon.signin import Joined, numeric_family, retry_delay
from swarm.daemon.state import ChatClosed, ChatDown, ChatFailing, ChatRefuses, ChatUp
from swarm.errors import WireError
from swarm.wire import websocket
from swarm.wire.address import read_address
from swarm.wire.agentchat import session as chat
from swarm.wire.agentchat.seen import Seen
from swarm.wire.pacing import Pacer

if TYPE_CHECKING:
    import ssl

CONNECT_SECONDS = 20.0
"""Longest wait for TCP, TLS and the WebSocket's handshake together; the wait for ``WELCOME``, 75 s,
comes after it."""
REFUSED_MS = 300_000
"""So long nothing is said where the server lets us only read and does not say until when."""
CLOSE_SECONDS = 1.0
"""Longest wait for the server's answer to our close frame."""
RECEIVE_BYTES = 64 * 1024
READS_A_TURN = 4
"""A socket that is never empty must not keep the loop from its other work, its heartbeat first."""

LinkEvent: TypeAlias = ChatUp | ChatDown | ChatFailing | ChatRefuses | ChatClosed | chat.Said


class Signer(Protocol):
    """An identity, as far as signing in needs it."""

    @property
    def name(self) -> str:
        """The agent's name."""
        ...

    @property
    def agent_id(self) -> str:
        """Its bare id."""
        ...

    @property
    def public_pem(self) -> str:
        """Its public key."""
        ...

    def sign(self, data: bytes) -> bytes:
        """The raw Ed25519 signature."""
        ...


class ChatLink:
    """One agent's link to one channel of one server, over as many connections as it takes.

    ``badge`` tells a server of ours that we are of its fleet.  ``lookup`` resolves a host's name
    without blocking: it is called with the name and the port, and :meth:`found` brings the
    addresses.  ``jitter`` gives numbers between 0 and 1.
    Raises :class:`~swarm.errors.ChatError` for a ``url`` that is no chat address.
    """

    def __init__(
        self,
        url: str,
        channel: str,
        identity: Signer,
        *,
        lookup: Callable[[str, int], None],
        jitter: Callable[[], float],
        badge: str = "",
    ) -> None:
        self.address = read_address(url)
        self.fileno = -1
        """The socket to poll; -1 while there is none.  Changes with every connection."""
        self._channel = channel
        self._identity = identity
        self._lookup = lookup
        self._badge = badge
        self._jitter = jitter
        self._pacer = Pacer()
        self._seen = Seen()
        self._socket: socket.socket | ssl.SSLSocket | None = None
        self._session: chat.ChatSession | None = None
        self._codec: websocket.WebSocketClient | None = None
        self._out = b""
        self._connecting = False
        self._shaking = False
        """TLS handshake under way."""
        self._tls_wants_write = False
        self._addresses: list[tuple[int, str]] = []
        self._wall_ms = 0
        self._give_up_at: float | None = None
        self._retry_at: float | None = None
        self._failures = 0
        self._refusal = ""
        self._ration = Ration()
        self._read_at: float | None = None
        """When to read on although polling may show nothing, or not before."""
        self._closing = False
        self._events: list[LinkEvent] = []

    # -- what the loop asks ------------------------------------------------------------------------

    @property
    def joined(self) -> bool:
        """Whether the channel is joined now."""
        return self._session is not None and self._session.joined

    @property
    def interest(self) -> int:
        """The ``select.POLL*`` events to poll :attr:`fileno` for."""
        if self._connecting:
            return select.POLLOUT
        writing = bool(self._out) if not self._shaking else self._tls_wants_write
        reading = select.POLLIN if self._read_at is None else 0
        return reading | (select.POLLOUT if writing else 0)

    def deadline(self) -> float | None:
        """When :meth:`tick` should be called, whatever happens on the socket."""
        asked = (self._give_up_at, self._retry_at, self._read_at)
        times = [t for t in asked if t is not None]
        if self._session is not None:
            at = self._session.deadline()
            if at is not None:
                times.append((at - self._wall_ms) / 1000)
            if self._session.joined and (due := self._pacer.deadline()) is not None:
                times.append(due / 1000)
        return min(times, default=None)

    # -- what the loop tells -----------------------------------------------------------------------

    def connect(self, now: float) -> list[LinkEvent]:
        """Begin, or begin again."""
        self._retry_at = None
        self._give_up_at = now + CONNECT_SECONDS
        host, port = self.address.host, self.address.port
        if numeric := numeric_family(host):
            self.found([(numeric, host)], now)
        elif host == "localhost":
            self.found([(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")], now)
        else:
            self._lookup(host, port)
        return self._drain()

    def adopt(self, fd: int, joined: Joined, pending: bytes) -> list[LinkEvent]:
        """Go on with a connection that a helper has signed in and joined.

        ``pending`` was read from it and not looked at.  No :class:`ChatUp` comes: who hands it
        over has said so.
        """
        now = joined.at
        self._socket = socket.socket(fileno=fd)
        self.fileno = fd
        self._wall_ms = joined.wall_ms
        address = self.address
        self._codec = websocket.WebSocketClient(address.authority, address.path, joined.key, _mask)
        self._codec.opening()
        self._codec.receive(joined.handshake)
        self._session = self._new_session()
        self._session.phase = chat.InChannel(self._identity.agent_id)
        self._session.ours = joined.ours
        self._pacer.set_rate(joined.rate)
        if pending:
            self._take_in(pending, now)
        return self._drain()

    def resume(self, failures: int, retry_at: float) -> None:
        """Be a link that has lost its connection and tries again at ``retry_at``."""
        self._failures = failures
        self._retry_at = retry_at

    def found(self, addresses: list[tuple[int, str]], now: float) -> list[LinkEvent]:
        """The host's addresses, as (family, numeric host); empty when the name has none."""
        if self._closing or self._socket is not None:
            return self._drain()
        self._addresses = list(addresses)
        if not addresses:
            self._failed(f"the chat server's name {self.address.host} has no address", now)
        else:
            self._next_address("", now)
        return self._drain()

    def say(
        self, key: str, content: str, priority: int, now: float, to: tuple[str, ...] = ()
    ) -> list[LinkEvent]:
        """Say ``content`` as soon as the server's pace allows; a newer one of ``key`` replaces it.

        It is kept, over reconnects, until its echo is heard.  ``to`` are the bare ids of those it
        concerns; empty: everybody.
        """
        self._pacer.put(key, content, priority, int(now * 1000), to)
        self._send_due(now)
        return self._drain()

    def forget(self, key: str) -> None:
        """Nobody needs that message any more."""
        self._pacer.forget(key)

    def ready(self, mask: int, now: float) -> list[LinkEvent]:
        """The socket is ready for ``mask``."""
        if self._socket is None:
            return []
        if self._connecting:
            self._connected(now)
        elif self._shaking:
            self._shake_hands(now)
        else:
            if mask & ~select.POLLOUT:
                self._receive(now)
            self._flush(now)
        return self._drain()

    def tick(self, now: float) -> list[LinkEvent]:
        """Time has passed.  Harmless at any moment."""
        if self._give_up_at is not None and now >= self._give_up_at:
            if self._closing:
                self._drop()
                self._events.append(ChatClosed())
            else:
                self._failed(f"no answer from {self.address.url}", now)
        elif self._retry_at is not None and now >= self._retry_at:
            return self.connect(now)
        if self._read_at is not None and now >= self._read_at:
            self._receive(now)
        if self._session is not None:
            wall = self._wall(now)
            for event in self._session.tick(wall):
                self._heard(event, now)
            self._pump(now)
        return self._drain()

    def close(self, now: float) -> list[LinkEvent]:
        """Say good-bye properly; :class:`ChatClosed` comes when that is done."""
        self._closing = True
        self._retry_at = None
        if self._codec is not None and self._codec.open:
            self._give_up_at = now + CLOSE_SECONDS
            self._codec.close()
            self._flush(now)
        else:
            self._drop()
            self._events.append(ChatClosed())
        return self._drain()

    # -- connecting --------------------------------------------------------------------------------

    def _next_address(self, reason: str, now: float) -> None:
        """Try the next address of the host; when there is none left this attempt has failed."""
        while self._addresses:
            family, host = self._addresses.pop(0)
            try:
                raw = socket.socket(family, socket.SOCK_STREAM)
            except OSError as error:
                reason = _why(error)
                continue
            raw.setblocking(False)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = raw.connect_ex((host, self.address.port))
            if code not in (0, errno.EINPROGRESS):
                raw.close()
                reason = os.strerror(code)
                continue
            self._socket = raw
            self.fileno = raw.fileno()
            self._connecting = True
            return
        self._failed(f"{self.address.url} cannot be reached: {reason}", now)

    def _connected(self, now: float) -> None:
        assert self._socket is not None
        self._connecting = False
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._drop()
            self._next_address(os.strerror(code), now)
        elif self.address.secure:
            try:
                self._socket = _secured(self._socket, self.address.host)
            except OSError as error:
                self._failed(f"no TLS with {self.address.url}: {_why(error)}", now)
                return
            self._shaking = True
            self._shake_hands(now)
        else:
            self._open(now)

    def _shake_hands(self, now: float) -> None:
        import ssl

        assert isinstance(self._socket, ssl.SSLSocket)
        self._tls_wants_write = False
        try:
            self._socket.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLWantWriteError:
            self._tls_wants_write = True
            return
        except OSError as error:
            self._failed(f"no TLS with {self.address.url}: {_why(error)}", now)
            return
        self._shaking = False
        self._open(now)

    def _open(self, now: float) -> None:
        self._wall_ms = int((time.time() - now) * 1000)
        address = self.address
        self._codec = websocket.WebSocketClient(
            address.authority, address.path, os.urandom(16), _mask
        )
        self._session = self._new_session()
        self._out += self._codec.opening()
        self._flush(now)

    def _new_session(self) -> chat.ChatSession:
        identity = self._identity
        return chat.ChatSession(
            identity.name,
            identity.public_pem,
            identity.sign,
            self._channel,
            quiet=True,
            addressed=True,
            badge=self._badge,
            seen=self._seen,
        )

    # -- receiving ---------------------------------------------------------------------------------

    def _receive(self, now: float) -> None:
        """What there is, within reason: a TLS socket keeps bytes that polling does not show."""
        self._read_at = None
        for _ in range(READS_A_TURN):
            if self._socket is None:
                return
            try:
                data = self._socket.recv(RECEIVE_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if _wants(error):
                    return
                self._failed(f"the chat connection broke: {_why(error)}", now)
                return
            if not data:
                self._failed("the chat server closed the connection", now)
                return
            seen, short = self._take_in(data, now), len(data) < RECEIVE_BYTES
            if not self._ration.take(len(data), seen, now, all_read=short):
                self._failed("the chat server sends more than can be read", now)
                return
            if (again_at := self._ration.again_at()) is not None:
                self._read_at = again_at
                return
            if short and not self.address.secure:
                return
        self._read_at = now  # there may be more, which polling a TLS socket would not show

    def _take_in(self, data: bytes, now: float) -> int:
        """Deal with what was read; how many frames were in it."""
        codec = self._codec
        if codec is None:
            return 0
        try:
            events = codec.receive(data)
        except WireError as error:
            self._flush(now)
            self._failed(f"the chat server speaks no agentchat: {error}", now)
            return 0
        for event in events:
            if self._codec is not codec:
                break  # an earlier event ended this connection
            self._socket_event(event, now)
        else:
            self._pump(now)
        return len(events)

    def _socket_event(self, event: websocket.SocketEvent, now: float) -> None:
        assert self._session is not None
        match event:
            case websocket.Opened():
                self._give_up_at = None
                self._session.opened(self._wall(now))
            case websocket.Text(text):
                try:
                    said = self._session.received(text, self._wall(now))
                except WireError:
                    return  # not a frame of agentchat: the connection stays
                for one in said:
                    self._heard(one, now)
            case websocket.Closed(code, reason):
                self._flush(now)
                words = "".join(c if c.isprintable() else " " for c in reason[:200]).strip()
                self._failed(f"the chat server closed ({code}{': ' + words if words else ''})", now)
            case _:
                pass

    def _heard(self, event: chat.ChatEvent, now: float) -> None:
        ms = int(now * 1000)
        match event:
            case chat.Said(sender=sender, content=content):
                if sender == self._identity.agent_id:
                    self._pacer.echoed(content)
                else:
                    self._events.append(event)
            case chat.SignedIn():
                self._signed_in(event, now)
            case chat.Joined():
                self._failures = 0
                self._give_up_at = None
                self._events.append(ChatUp())
            case chat.Refused("RATE_LIMITED", _):
                self._pacer.rate_limited(ms)
            case chat.Refused(code, message) if self.joined:
                if code in chat.LASTING:
                    self._refused(f"the chat server refuses: {message or code}", None, now)
                else:
                    self._pacer.rejected()
            case chat.Refused(code, message):
                if code in chat.LASTING:
                    self._tell_refusal(f"the chat server refuses this agent: {message or code}")
                if self._session is not None and self._session.over:
                    self._failed(message or code, now)
            case chat.Displaced(reason):
                self._failed(f"another connection took this identity over: {reason}", now)
            case chat.PeerSilent():
                self._failed("the chat server has gone silent", now)
            case chat.CannotAnswer(question):
                self._failed("the chat server asks a question for people", now)
                self._retry_at = None  # asking again would only be asked again
                self._tell_refusal(f"the chat server asks what only a person answers: {question}")
            case _:
                pass

    def _signed_in(self, event: chat.SignedIn, now: float) -> None:
        self._pacer.set_rate(event.messages_per_second or 1.0)
        if event.lurk_reason is not None:
            until = event.lurk_until
            self._refused(
                f"this agent may only read the channel: {event.lurk_reason}",
                None if until is None else until - self._wall_ms,
                now,
            )
        else:
            self._pacer.allowed()
            self._tell_refusal("")

    def _refused(self, reason: str, until_ms: int | None, now: float) -> None:
        until = int(now * 1000) + REFUSED_MS if until_ms is None else until_ms
        self._pacer.refused(reason, until)
        self._tell_refusal(reason)

    def _tell_refusal(self, reason: str) -> None:
        if reason != self._refusal:
            self._refusal = reason
            self._events.append(ChatRefuses(reason))

    # -- sending -----------------------------------------------------------------------------------

    def _pump(self, now: float) -> None:
        """Send what the session and the pacer have."""
        if self._session is not None and self._codec is not None and self._codec.open:
            for text in self._session.outgoing():
                self._codec.send_text(text)
        self._send_due(now)
        self._flush(now)

    def _send_due(self, now: float) -> None:
        session, codec = self._session, self._codec
        if session is None or codec is None or not session.joined or not codec.open:
            return
        due = self._pacer.due(int(now * 1000))
        if self._refusal and not self._pacer.reason:
            self._tell_refusal("")
        if not due:
            return
        wall = self._wall(now)
        for content in due:
            session.say(content, wall, self._pacer.addressees(content))
        for text in session.outgoing():
            codec.send_text(text)
        self._flush(now)

    def _flush(self, now: float) -> None:
        if self._socket is None or self._connecting or self._shaking:
            return
        if self._codec is not None:
            self._out += self._codec.outgoing()
        while self._out:
            try:
                sent = self._socket.send(self._out)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if not _wants(error):
                    self._failed(f"the chat connection broke: {_why(error)}", now)
                return
            self._out = self._out[sent:]

    # -- ending ------------------------------------------------------------------------------------

    def _failed(self, reason: str, now: float) -> None:
        """The connection, or the attempt at one, is over; another follows."""
        was_joined = self.joined
        self._drop()
        if self._closing:
            self._events.append(ChatClosed())
            return
        self._pacer.disconnected()
        self._failures += 1
        self._retry_at = now + retry_delay(self._failures, self._jitter())
        if was_joined:
            self._events.append(ChatDown(reason))
        else:
            self._events.append(ChatFailing(self._failures, reason))

    def _drop(self) -> None:
        """Close the socket, with a close frame where one can still be sent.

        Without it a server would hold the next sign-in back as a take-over.
        """
        if self._socket is not None:
            if self._codec is not None and self._codec.open:
                self._codec.close()
                with suppress(OSError):  # it may be broken; it is closed anyway
                    self._socket.send(self._out + self._codec.outgoing())
            self._socket.close()
        self._socket = None
        self.fileno = -1
        self._session = None
        self._codec = None
        self._out = b""
        self._connecting = self._shaking = self._tls_wants_write = False
        self._give_up_at = self._read_at = None

    def _wall(self, now: float) -> int:
        return int(now * 1000) + self._wall_ms

    def _drain(self) -> list[LinkEvent]:
        events, self._events = self._events, []
        return events


def resolve(host: str, port: int) -> list[tuple[int, str]]:
    """The addresses of a host's name.  Blocks: for a helper process.  Raises ``OSError``."""
    # Bytes keep Python from importing its IDNA codec; the address reader took ASCII only.
    found = socket.getaddrinfo(host.encode(), port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((int(family), str(where[0])) for family, _, _, _, where in found))


def _secured(raw: socket.socket, host: str) -> ssl.SSLSocket:
    """The socket under verified TLS; ``ssl`` costs memory, so only ``wss`` imports it."""
    import ssl

    context = ssl.create_default_context()
    return context.wrap_socket(raw, server_hostname=host, do_handshake_on_connect=False)


def _wants(error: OSError) -> bool:
    """Whether a TLS socket only asks to be polled again."""
    return type(error).__name__ in ("SSLWantReadError", "SSLWantWriteError")


def _mask() -> bytes:
    return os.urandom(4)


def _why(error: OSError) -> str:
    return error.strerror or str(error)
