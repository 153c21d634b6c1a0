"""The embedded agentchat server: the machine of ``wire.agentchat.server`` on real sockets."""

from __future__ import annotations

import asyncio
import errno
import http
import logging
import os
import re
import resource
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import cast

import msgspec
from websockets.asyncio.server import Server, ServerConnection, broadcast, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from swarm.chat.guarded import Guard, GuardedConnection, Unread, guarded_by
from swarm.chat.keys import Clock, verify
from swarm.errors import ChatError
from swarm.logs import JsonLog
from swarm.wire.agentchat.limits import ServerLimits
from swarm.wire.agentchat.rooms import Admit, Drop, Effect, Send
from swarm.wire.agentchat.server import ChatServer

PROTOCOL_LIMITS = ServerLimits()
"""What the protocol's text says; ``agentctl chat serve`` on its own."""
FLEET_LIMITS = replace(
    PROTOCOL_LIMITS,
    messages_per_second=10,
    guests_messages_per_second=50,
    frames_after=300,
    content_bytes=320 * 1024,
    replay_bytes=1024 * 1024,
    connections_per_address=10_000,
    guests=1_000,
    readers=500,
    takeover_base=0,
)
"""Inside a swarm: the fleet is ours, it all comes from one address, and a daemon that was killed
signs in again at once.  Guests, whom anything on this machine can be, are let in by the hundred
and may say what a task's longest prompt needs."""
SPARE_FILES = 64
"""Open files kept for what is no chat connection."""
PING_SECONDS = 60.0
"""An idle fleet must cost next to nothing, so dead peers are looked for no more often."""
MAX_BACKLOG = 8 * 1024 * 1024
MAX_GUEST_BACKLOG = 5 * 1024 * 1024
"""Bytes a slow reader may leave unread; then its socket is cut.  A whole replay must fit."""
MAX_TOTAL_BACKLOG = 256 * 1024 * 1024
MAX_GUESTS_BACKLOG = 64 * 1024 * 1024
"""The same for all together; beyond it whoever reads least is cut."""
NOTES_A_SECOND = 10
"""Log entries about connections; what is over is counted and told in one."""
CLOSE_SECONDS = 2.0
OPEN_SECONDS = 10.0
"""Longest handshake, however slowly it dribbles in."""
_LISTEN = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>\d{1,5})\Z"
)

# A stranger's bad handshake is no event of ours: websockets would print a traceback for each.
_silent = logging.getLogger("swarm.chat.websockets")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False
_silent.setLevel(logging.CRITICAL)


def read_listen(text: str) -> tuple[str, int]:
    """``host:port`` of ``chat.listen``; port 0 takes any free one.  Raises ``ChatError``."""
    match = _LISTEN.match(text)
    if match is None or int(match["port"]) > 65535:
        raise ChatError(f"cannot listen on {text[:200]!r}", "write host:port, e.g. 127.0.0.1:6667")
    return match["v6"] or match["host"], int(match["port"])


class ChatHost:
    """A running server; made by :func:`serve_chat`."""

    def __init__(self, machine: ChatServer, log: JsonLog | None) -> None:
        limits = machine.limits
        self.guard = Guard(limits.arriving, limits.connections, self._note)
        self._unread = Unread(MAX_BACKLOG, MAX_TOTAL_BACKLOG)
        self._guests_unread = Unread(MAX_GUEST_BACKLOG, MAX_GUESTS_BACKLOG)
        self.machine = machine
        self.address = ""
        """Where it listens, ``ws://127.0.0.1:41234``."""
        self._log = log
        self._clock = Clock()
        self._sockets: dict[int, GuardedConnection] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = 0
        self._noting = (0, 0)
        """The second in which entries are counted, and how many there were."""

    async def handle(self, socket: ServerConnection) -> None:
        """One connection, from its handshake to its end."""
        socket = cast("GuardedConnection", socket)
        peer = socket.remote_address
        address = str(peer[0]) if peer else ""
        number, effects = self.machine.connected(address, self._clock())
        self._sockets[number] = socket
        self._perform(effects)
        try:
            async for message in socket:
                self.guard.finished(socket)
                began = time.thread_time()
                text = message if isinstance(message, str) else message.decode("utf-8", "replace")
                self._perform(self.machine.received(number, text, self._clock()))
                socket.charge(time.thread_time() - began)
        except ConnectionClosed:
            pass  # without a closing handshake: the same end
        finally:
            self._unread_of(socket).forget(socket)
            del self._sockets[number]
            self._perform(self.machine.disconnected(number, self._clock()))

    def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """``GET /health`` is plain HTTP; everything else must be a WebSocket."""
        if request.path.partition("?")[0] != "/health":
            return None
        body = msgspec.json.encode(self.machine.health()).decode()
        response = connection.respond(http.HTTPStatus.OK, body)
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "application/json"
        return response

    async def end(self) -> None:
        """Stop the timer and finish closing what was dropped."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._closing:
            await asyncio.wait(tuple(self._closing))

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(to=to, text=text):
                    self._send([s for n in to if (s := self._sockets.get(n)) is not None], text)
                case Drop(conn=number, code=code, reason=reason):
                    self._note("dropped", conn=number, reason=reason)
                    socket = self._sockets.get(number)
                    if socket is not None:
                        task = asyncio.ensure_future(socket.close(code, reason))
                        self._closing.add(task)
                        task.add_done_callback(self._closing.discard)
                case Admit(conn=number, guest=guest):
                    socket = self._sockets.get(number)
                    if socket is not None:
                        self._unread_of(socket).forget(socket)
                        self.guard.admitted(socket, guest=guest)
        self._arm()

    def _send(self, sockets: list[GuardedConnection], text: str) -> None:
        broadcast(sockets, text)
        for socket in sockets:
            owes = socket.unread or socket.transport.get_write_buffer_size()
            if owes and (cut := self._unread_of(socket).look(socket)):
                self._note("slow_reader", peers=[str(one.remote_address) for one in cut])

    def _unread_of(self, socket: GuardedConnection) -> Unread:
        return self._guests_unread if socket.guest else self._unread

    def _arm(self) -> None:
        """Have the machine looked at when its next deadline passes."""
        deadline = self.machine.deadline()
        if deadline is None or (self._timer is not None and self._armed_for <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = deadline
        delay = max(deadline - self._clock(), 0) / 1000
        self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._perform(self.machine.tick(self._clock()))

    def _note(self, kind: str, **fields: object) -> None:
        if self._log is None:
            return
        second, count = self._noting
        now = self._clock() // 1000
        if now != second:
            if count > NOTES_A_SECOND:
                self._log.write("more", entries=count - NOTES_A_SECOND)
            count = 0
        self._noting = now, count + 1
        if count < NOTES_A_SECOND:
            self._log.write(kind, **fields)


@asynccontextmanager
async def serve_chat(
    host: str = "127.0.0.1",
    port: int = 6667,
    *,
    limits: ServerLimits = PROTOCOL_LIMITS,
    channels: Iterable[str] = (),
    trusted: Iterable[str] = (),
    badge: str = "",
    log: JsonLog | None = None,
) -> AsyncIterator[ChatHost]:
    """Serve agentchat until the block is left; then every socket is closed properly.

    ``channels`` are open beside ``#general`` and ``#agents``; ``trusted`` are bare agent ids that
    are verified and have no rate limit; who shows the ``badge`` is of the fleet.  Raises
    :class:`~swarm.errors.ChatError` when the address cannot be had.
    """
    limits = within_open_files(limits)
    machine = ChatServer(
        verify=verify,
        entropy=os.urandom,
        limits=limits,
        channels=channels,
        trusted=trusted,
        badge=badge,
    )
    running = ChatHost(machine, log)
    server = await _listen(running, host, port, limits)
    try:
        running.address = _address_of(server)
        yield running
    finally:
        server.close()
        await server.wait_closed()
        await running.end()


def within_open_files(limits: ServerLimits) -> ServerLimits:
    """No more connections than this process may have files open, and most of them the fleet's.

    Who accepts until the kernel says no has none left for those it waits for.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(limits.connections, max(soft - SPARE_FILES, SPARE_FILES))
    if most == limits.connections:
        return limits
    return replace(
        limits,
        connections=most,
        arriving=min(limits.arriving, most // 4),
        guests=min(limits.guests, most // 4),
        readers=min(limits.readers, most // 8),
    )


async def _listen(running: ChatHost, host: str, port: int, limits: ServerLimits) -> Server:
    try:
        return await serve(
            running.handle,
            host,
            port,
            create_connection=guarded_by(running.guard),
            process_request=running.answer,
            # A browser always sends Origin: no web page talks to this server behind one's back.
            origins=[None],
            compression=None,
            max_size=limits.frame_bytes,
            open_timeout=OPEN_SECONDS,
            ping_interval=PING_SECONDS,
            ping_timeout=PING_SECONDS,
            close_timeout=CLOSE_SECONDS,
            server_header=None,
            logger=_silent,
        )
    except OSError as error:
        where = f"{host}:{port}"
        if error.errno == errno.EADDRINUSE:
            raise ChatError(
                f"cannot listen on {where}: something else does already",
                "stop it, or give another address (port 0 takes any free one)",
            ) from None
        raise ChatError(
            f"cannot listen on {where}: {error.strerror or error}", "give another address"
        ) from None


def _address_of(server: Server) -> str:
    found = next(iter(server.sockets)).getsockname()
    host, port = str(found[0]), int(found[1])
    anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what it is called, not bound
    host = anywhere.get(host, host)
    return f"ws://[{host}]:{port}" if ":" in host else f"ws://{host}:{port}"
