"""What somebody we do not know may take of the server: its time, its memory, its sockets.

The server is one process with one loop, and a guest's socket can bring work faster than it can be
done.  So until a connection is known to be of the fleet it is fed in small pieces, and pays for
the processor time its bytes cost out of a share of its own and one that all guests have together;
who has spent it is not read from until there is some again, which its own TCP then tells it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from websockets.asyncio.server import ServerConnection

from swarm.chat.share import Share
from swarm.chat.tap import Tap, tapped

PIECE = 2048
"""Bytes fed at once: at worst 340 frames, some milliseconds."""
READ_BYTES = 16 * 1024
"""Bytes read at once from a guest: what is held back of each, and so how long one that has gone
away is still dealt with."""
FREE_BYTES = 2048
"""A connection's first bytes wait for nobody else's share: a whole sign-in has half of them."""
MAX_UNFINISHED = 64 * 1024 * 1024
"""Bytes of messages of guests that have begun and not ended, together."""
NEWCOMERS_A_TURN = 16
"""Sockets that sign in are served so many at once: a whole fleet comes up in one moment."""
BIG_UNFINISHED = 64 * 1024
"""Nobody with less of them is cut for that."""


class Guard:
    """What all connections that are not of the fleet share: who is served next, and what is left.

    Bytes of guests are handed on one piece in each turn of the loop, so that what comes from the
    fleet never waits for more than one.
    """

    ONE = (0.1, 0.2)
    """Of a processor, for one guest: how much of it, and seconds in advance."""
    ALL = (0.4, 0.5)

    def __init__(self, arriving: int, open_at_most: int, note: Callable[..., None]) -> None:
        self._most_arriving = arriving
        self._most_open = open_at_most
        self._note = note
        self._share = Share(*self.ALL)
        self._turn: asyncio.Handle | None = None
        self._newcomers: deque[GuardedConnection] = deque()
        self._guests: deque[GuardedConnection] = deque()
        self.arriving: dict[GuardedConnection, None] = {}
        """Sockets not signed in, the oldest first."""
        self.open = 0
        self.guests_fed = 0
        """Bytes of guests that were handed on, ever."""
        self.unfinished = 0

    # -- sockets --------------------------------------------------------------------------------

    def arrived(self, connection: GuardedConnection) -> None:
        """A socket was accepted; when there are too many, the oldest not signed in makes room."""
        self.open += 1
        self.arriving[connection] = None
        if len(self.arriving) > self._most_arriving or self.open > self._most_open:
            oldest = next(iter(self.arriving))
            del self.arriving[oldest]
            self._note("dropped", reason="too many that do not sign in")
            oldest.transport.abort()

    def left(self, connection: GuardedConnection) -> None:
        """A socket is closed."""
        self.open -= 1
        self.arriving.pop(connection, None)
        self.finished(connection)

    def admitted(self, connection: GuardedConnection, *, guest: bool) -> None:
        """It has signed in."""
        self.arriving.pop(connection, None)
        connection.guest = guest

    # -- time -----------------------------------------------------------------------------------

    def wants(self, connection: GuardedConnection) -> None:
        """It has bytes to be handed on."""
        new = connection in self.arriving and connection.fed < FREE_BYTES
        (self._newcomers if new else self._guests).append(connection)
        if self._turn is None or (new and len(self._newcomers) == 1):
            self._arm(connection.loop)

    def charge(self, seconds: float, now: float) -> None:
        """So much of the guests' time is used."""
        self._share.spend(seconds, now)

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._turn is not None:
            self._turn.cancel()
        wait = 0.0 if self._newcomers else self._share.wait(time.monotonic())
        self._turn = (
            loop.call_later(wait, self._next, loop) if wait else loop.call_soon(self._next, loop)
        )

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        self._turn = None
        for _ in range(min(NEWCOMERS_A_TURN, len(self._newcomers))):
            self._newcomers.popleft().feed()
        if self._guests and not self._share.wait(time.monotonic()):
            self._guests.popleft().feed()
        if self._newcomers or self._guests:
            self._arm(loop)

    # -- memory ---------------------------------------------------------------------------------

    def began(self, connection: GuardedConnection, size: int) -> bool:
        """It was fed so many bytes; false when its unfinished message is one too many."""
        connection.unfinished += size
        self.unfinished += size
        self.guests_fed += size
        return self.unfinished <= MAX_UNFINISHED or connection.unfinished <= BIG_UNFINISHED

    def finished(self, connection: GuardedConnection) -> None:
        """A message of it is complete."""
        self.unfinished -= connection.unfinished
        connection.unfinished = 0


class GuardedConnection(ServerConnection):
    """One socket of the server.  A ``guest`` until it is known to be of the fleet."""

    guard: Guard
    """Of the class that :func:`guarded_by` makes."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.guest = True
        self.fed = 0
        self.unread = 0
        """Bytes this peer had not read when we last looked."""
        self.unfinished = 0
        """Bytes of it since its last whole message."""
        self._share = Share(*Guard.ONE)
        self._held_back = bytearray()
        self._tap: Tap
        self._waits = False
        """It is in a queue, or will be when its time has come."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The kernel has it."""
        if hasattr(transport, "max_size"):  # asyncio's own for sockets has it, a TLS one has not
            transport.max_size = READ_BYTES
        self._tap, through = tapped(transport)
        super().connection_made(through)
        self.guard.arrived(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self.guard.left(self)
        self._held_back.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if not self.guest and not self._held_back:
            super().data_received(data)
            return
        self._held_back += data
        self._tap.shut()
        if not self._waits:
            self._waits = True
            self.guard.wants(self)

    def charge(self, seconds: float) -> None:
        """Its bytes cost so much processor time."""
        if self.guest:
            now = time.monotonic()
            self._share.spend(seconds, now)
            self.guard.charge(seconds, now)

    def feed(self) -> None:
        """It is this connection's turn: hand on one piece, and see when the next is."""
        if self.transport.is_closing():
            return
        if self._held_back:
            piece = bytes(self._held_back[:PIECE] if self.guest else self._held_back)
            del self._held_back[: len(piece)]
            self.fed += len(piece)
            if self.guest and not self.guard.began(self, len(piece)):
                self.transport.abort()
                return
            began = time.thread_time()
            super().data_received(piece)
            self.charge(time.thread_time() - began)
        wait = self._share.wait(time.monotonic()) if self.guest else 0.0
        if wait:
            self.loop.call_later(wait, self.feed_later)
        elif self._held_back:
            self.guard.wants(self)
        else:
            self._waits = False
            self._tap.open()

    def feed_later(self) -> None:
        """Its own share has filled again."""
        self.guard.wants(self)


def guarded_by(guard: Guard) -> type[GuardedConnection]:
    """Connections that ``guard`` watches over."""
    return type("GuardedConnection", (GuardedConnection,), {"guard": guard})


class Unread:
    """What peers have not read yet: so much for each, and for all of a kind together."""

    def __init__(self, each: int, total: int) -> None:
        self._each = each
        self._total = total
        self._sum = 0
        self._owing: set[GuardedConnection] = set()

    def look(self, connection: GuardedConnection) -> list[GuardedConnection]:
        """See what it has not read; cut it off, or whoever reads least, when that is too much.

        Returns who was cut off.
        """
        if self._measure(connection) > self._each:
            return [self._cut(connection)]
        if self._sum <= self._total:
            return []
        for one in tuple(self._owing):
            self._measure(one)  # what was read meanwhile was not told to us
        cut = []
        while self._sum > self._total:
            cut.append(self._cut(max(self._owing, key=lambda one: one.unread)))
        return cut

    def forget(self, connection: GuardedConnection) -> None:
        """It is closed."""
        self._sum -= connection.unread
        connection.unread = 0
        self._owing.discard(connection)

    def _measure(self, connection: GuardedConnection) -> int:
        size = connection.transport.get_write_buffer_size()
        self._sum += size - connection.unread
        connection.unread = size
        if size:
            self._owing.add(connection)
        else:
            self._owing.discard(connection)
        return size

    def _cut(self, connection: GuardedConnection) -> GuardedConnection:
        connection.transport.abort()
        self.forget(connection)
        return connection
