"""Our end of one child's lifeline: whole lines in, bounded bytes out, nothing ever blocks."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass

from swarm.errors import BadMessage, WireError
from swarm.wire import lifeline
from swarm.wire.framing import LineBuffer

MAX_UNREAD = 16 * 1024 * 1024
"""Bytes held for a child that does not read; beyond it the child counts as wedged.  A snapshot of
a thousand agents with all their reports fits several times."""
_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Heard:
    """How far a channel has come: what a supervisor hands over to the one that follows it."""

    unread: bytes = b""
    """The beginning of a line whose end has not come."""
    unsent: bytes = b""
    """What the child has not taken yet."""
    greeted: bool = False
    listening: bool = True
    """False once the child has closed its end, or broke the protocol."""
    broken: bool = False


class Channel:
    """Reads ``sock`` in the loop and hands over each line.

    ``on_garbage`` is called once, with what is wrong, when the child breaks the protocol or does
    not read; no further line is delivered then.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        name: str,
        on_line: Callable[[lifeline.ChildLine], None],
        on_garbage: Callable[[str], None],
        heard: Heard | None = None,
    ) -> None:
        heard = heard or Heard()
        self._loop = loop
        self._sock = sock
        self._name = name
        self._on_line = on_line
        self._on_garbage = on_garbage
        self._buffer = LineBuffer()
        self._buffer.feed(heard.unread)
        self._out = bytearray(heard.unsent)
        self._greeted = heard.greeted
        self._listens = heard.listening
        self._reading = False
        self._broken = heard.broken

    @property
    def fd(self) -> int:
        """The descriptor of our end."""
        return self._sock.fileno()

    @property
    def heard(self) -> Heard:
        """How far it has come, to go on from there."""
        return Heard(
            self._buffer.unfinished,
            bytes(self._out),
            self._greeted,
            self._reading,
            self._broken,
        )

    def open(self) -> None:
        """Start to listen, and to send what is left of an earlier supervisor's words."""
        if self._listens:
            self._reading = True
            self._loop.add_reader(self._sock.fileno(), self._readable)
        self._flush()

    def send(self, line: lifeline.ParentLine) -> None:
        """Say one line; what the socket does not take now goes out in order later."""
        if self._broken or self._sock.fileno() < 0:
            return
        self._out += lifeline.encode(line)
        self._flush()
        if len(self._out) > MAX_UNREAD:
            self._out.clear()
            self._break("it does not read its lifeline")

    def drain(self) -> None:
        """Deliver what the child said before it died."""
        while self._reading and self._read_once():
            pass

    def close(self) -> None:
        """No more; the child sees end-of-file."""
        self._stop_reading()
        if self._sock.fileno() >= 0:
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()

    def _readable(self) -> None:
        self._read_once()

    def _read_once(self) -> bool:
        """Read a chunk; whether there may be more."""
        try:
            data = self._sock.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        if not data:
            self._stop_reading()  # it exits, which its pidfd tells, or is silent from here on
            return False
        try:
            for raw in self._buffer.feed(data):
                self._take(raw)
        except WireError as error:
            self._break(str(error))
            return False
        return True

    def _take(self, raw: bytes) -> None:
        line = lifeline.from_child(raw)
        if not self._greeted:
            if not isinstance(line, lifeline.Hello) or line.name != self._name:
                raise BadMessage("its first line is not its Hello")
            if line.version != lifeline.VERSION:
                raise BadMessage(f"it speaks version {line.version}, not {lifeline.VERSION}")
            self._greeted = True
        self._on_line(line)

    def _break(self, what: str) -> None:
        if not self._broken:
            self._broken = True
            self._stop_reading()
            self._on_garbage(what)

    def _flush(self) -> None:
        while self._out:
            try:
                sent = self._sock.send(self._out[:_CHUNK])
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._sock.fileno(), self._writable)
                return
            except OSError:
                self._out.clear()  # it is gone; its pidfd tells
                return
            del self._out[:sent]

    def _writable(self) -> None:
        self._loop.remove_writer(self._sock.fileno())
        self._flush()

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._sock.fileno())
