"""The control socket's server: one request a connection, no client can hold anybody up.

Who may ask (rules, "The sandbox"): the socket is 0600, the peer must be our own user (root may
too), and the request carries the token, compared in constant time.  A request is one line of at
most 64 KiB within :data:`REQUEST_SECONDS`; everything else is refused or dropped.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from swarm.errors import BadMessage, FrameTooLarge, SwarmError, UsageError
from swarm.wire import control
from swarm.wire.framing import LineBuffer

REQUEST_SECONDS = 10.0
"""How long a client may take to send its request."""
ANSWER_SECONDS = 10.0
"""How long a client may leave its answer unread once it is complete."""
MAX_CLIENTS = 64
"""Connections at once; more are told to come again, twice as many are dropped.  Waiting commands
(stop, ready) count."""
MAX_PATH = 107
"""Bytes of a unix socket's path: ``sun_path`` holds 108 with its end (unix(7))."""
_UCRED = struct.Struct("3i")


def check_path(path: Path) -> None:
    """Raise :class:`~swarm.errors.UsageError` for a path no unix socket can have."""
    length = len(os.fsencode(path))
    if length > MAX_PATH:
        raise UsageError(
            f"the path of the control socket has {length} bytes, a unix socket's may have "
            f"{MAX_PATH}: {path}",
            "choose a shorter AGENTCTL_HOME",
        )


@dataclass(frozen=True, slots=True)
class Held:
    """One client as a supervisor hands it over to the one that follows it."""

    fd: int
    unread: bytes = b""
    """The beginning of its request."""
    unsent: bytes = b""
    """What it has not read yet."""
    asked: bool = False
    finished: bool = False
    """Its last answer is among the unsent."""
    unwelcome: str = ""


class Caller:
    """One client whose request is being carried out; answers go out as they come.

    ``held`` is how far it had come with an earlier supervisor.
    """

    def __init__(
        self, server: ControlServer, connection: socket.socket, held: Held | None = None
    ) -> None:
        held = held or Held(connection.fileno())
        self._server = server
        self._loop = server.loop
        self._socket = connection
        self._in = LineBuffer(control.MAX_REQUEST)
        self._in.feed(held.unread)
        self._out = bytearray(held.unsent)
        self._asked = held.asked
        self._finished = held.finished
        self.unwelcome = held.unwelcome
        """Why it will be refused whatever it asks; it hears so when it has asked."""
        self._limit = self._loop.call_later(REQUEST_SECONDS, self._too_late)
        if self._finished:
            self._limit.cancel()
            self._limit = self._loop.call_later(ANSWER_SECONDS, self.close)
        elif self._asked:
            self._limit.cancel()
        self._loop.add_reader(connection.fileno(), self._readable)

    def held(self, last: control.Done | None = None) -> Held:
        """All of it for the supervisor that follows; ``last`` is what that one is to answer."""
        unsent = bytes(self._out) + (control.encode(last) if last is not None else b"")
        return Held(
            self._socket.fileno(),
            self._in.unfinished,
            unsent,
            self._asked,
            self._finished or last is not None,
            self.unwelcome,
        )

    @property
    def fd(self) -> int:
        """Descriptor of the connection."""
        return self._socket.fileno()

    @property
    def open(self) -> bool:
        """Whether anybody is still there."""
        return self._socket.fileno() >= 0

    def answer(self, answer: control.Answer) -> None:
        """Send a line; after :class:`Done` or :class:`Refused` the connection ends."""
        if not self.open or self._finished:
            return
        self._out += control.encode(answer)
        if not isinstance(answer, control.Progress):
            self._finished = True
            self._limit.cancel()
            self._limit = self._loop.call_later(ANSWER_SECONDS, self.close)
        self._flush()

    def refuse(self, error: str, remedy: str = "", exit_code: int = 1) -> None:
        """Say no."""
        self.answer(control.Refused(error=error, remedy=remedy, exit_code=exit_code))

    def close(self) -> None:
        """Hang up."""
        self._limit.cancel()
        if self.open:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()
            self._server.forget(self)

    def _too_late(self) -> None:
        self.refuse(f"no request within {REQUEST_SECONDS:g} s")

    def _readable(self) -> None:
        try:
            data = self._socket.recv(65536)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            # A client that waits for an answer may have shut its sending side: only stop reading.
            self._loop.remove_reader(self._socket.fileno())
            if not self._asked:
                self.close()
            return
        if self._asked:
            return  # one request a connection; the rest is not even kept
        try:
            lines = self._in.feed(data)
        except FrameTooLarge:
            self._asked = True
            self.refuse(f"a request has at most {control.MAX_REQUEST} bytes", "", 2)
            return
        if lines:
            self._asked = True
            self._limit.cancel()
            self._server.asked(self, lines[0])

    def go_on(self) -> None:
        """Send what an earlier supervisor left unsent."""
        self._flush()

    def _flush(self) -> None:
        while self._out:
            try:
                sent = self._socket.send(self._out[:65536])
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._socket.fileno(), self._writable)
                return
            except OSError:
                self.close()
                return
            del self._out[:sent]
        if self._finished:
            self.close()

    def _writable(self) -> None:
        self._loop.remove_writer(self._socket.fileno())
        self._flush()


class ControlServer:
    """Listens on ``path``; ``carry_out`` gets each request that may be made.

    ``listening`` is the socket of an earlier supervisor; without, a new one is made.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        path: Path,
        token: str,
        carry_out: Callable[[control.Command, Caller], None],
        listening: socket.socket | None = None,
    ) -> None:
        self.loop = loop
        self._path = path
        self._token = token
        self._carry_out = carry_out
        self._callers: set[Caller] = set()
        self._socket = listening or self._listen()
        loop.add_reader(self._socket.fileno(), self._acceptable)

    def _listen(self) -> socket.socket:
        """Raises :class:`~swarm.errors.SwarmError` when it cannot."""
        check_path(self._path)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            self._path.unlink(missing_ok=True)  # we hold the home's lock: it is a leftover
            listening.bind(str(self._path))
            listening.listen(64)
            listening.setblocking(False)
        except OSError as error:
            listening.close()
            raise SwarmError(
                f"the control socket {self._path} cannot be made: {error.strerror}",
                "make the home writable, or name another AGENTCTL_HOME",
            ) from None
        finally:
            os.umask(before)
        return listening

    @property
    def fd(self) -> int:
        """Descriptor of the listening socket."""
        return self._socket.fileno()

    @property
    def callers(self) -> tuple[Caller, ...]:
        """Every client that is connected."""
        return tuple(self._callers)

    def adopt(self, connection: socket.socket, held: Held) -> Caller:
        """Take over a client; nothing is sent to it before :meth:`Caller.go_on`."""
        caller = Caller(self, connection, held)
        self._callers.add(caller)
        return caller

    def forget(self, caller: Caller) -> None:
        """A connection has ended."""
        self._callers.discard(caller)

    async def close(self) -> None:
        """Stop listening, let complete answers reach their clients, remove the socket."""
        self.loop.remove_reader(self._socket.fileno())
        self._socket.close()
        self._path.unlink(missing_ok=True)
        for _ in range(20):
            if not self._callers:
                return
            await asyncio.sleep(0.01)
        for caller in list(self._callers):
            caller.close()

    def _acceptable(self) -> None:
        try:
            connection, _address = self._socket.accept()
        except OSError:
            return  # it hung up already, or there is no descriptor left: the next one may do
        if len(self._callers) >= 2 * MAX_CLIENTS:
            connection.close()
            return
        connection.setblocking(False)
        caller = Caller(self, connection)
        self._callers.add(caller)
        if _peer_uid(connection) not in (os.getuid(), 0):
            caller.unwelcome = "this swarm belongs to another user; ask as that user"
        elif len(self._callers) > MAX_CLIENTS:
            caller.unwelcome = "too many commands wait for the supervisor; try again in a moment"

    def asked(self, caller: Caller, line: bytes) -> None:
        """A whole request has come."""
        if caller.unwelcome:
            error, _, remedy = caller.unwelcome.partition("; ")
            caller.refuse(error, remedy)
            return
        try:
            request = control.read_request(line)
        except BadMessage as error:
            caller.refuse(str(error), "use the agentctl of the same version", 2)
            return
        if not hmac.compare_digest(request.token.encode(), self._token.encode()):
            caller.refuse("the token is wrong", "use the AGENTCTL_HOME of this swarm")
        elif request.version != control.VERSION:
            caller.refuse(
                f"the request is of version {request.version}, this swarm's is {control.VERSION}",
                "restart the swarm, so that both are of one version",
            )
        else:
            self._carry_out(request.do, caller)


def _peer_uid(connection: socket.socket) -> int:
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    _pid, uid, _gid = _UCRED.unpack(data)
    return int(uid)
