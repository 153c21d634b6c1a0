"""The pace of a chat client: what to send next, and when, on a channel that counts messages.

Pure: ``now`` is milliseconds of any clock that does not run backwards.  A message stays here until
its echo arrives, as the echo is agentchat's only acknowledgement; a server that says
``RATE_LIMITED`` has dropped it, so it is sent again, and so is all that was under way when a
connection broke (protocol, "Limits a client must live with").
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, replace

SETTLING, ASSIGNING, CLAIMING, STATUS = 0, 1, 2, 3
"""Priorities, most urgent first (rules, "On a server that allows a message a second")."""

ECHO_MS = 15_000
"""A message whose echo has not come by then on a live connection is sent again."""
MAX_UNHEARD = 5
"""Sent so often on a live connection without an echo: given up (a server may change the text)."""
SPARE_MS = 50
"""Kept clear after each window: two messages may travel at different speeds."""
MAX_SPARE_MS = 1_000
MAX_ENTRIES = 10_000
"""Entries held; beyond it the least urgent, oldest one is dropped (and counted)."""
MAX_IN_WINDOW = 256


@dataclass(frozen=True, slots=True)
class _Entry:
    content: str
    priority: int
    turn: int
    to: tuple[str, ...] = ()
    under_way: bool = False
    sent_before: bool = False
    unheard: int = 0


@dataclass(frozen=True, slots=True)
class _Flight:
    """One message the server has not answered yet; answers come in the order of sending."""

    key: str
    turn: int
    content: str
    to: tuple[str, ...]
    sent_at: int


class Pacer:
    """Keeps messages until they are heard back; at most ``rate`` a second go out.

    ``rate`` is messages a second, above 0; fractions are fine.  Each message has a ``key``: a
    newer one with the same key takes the older one's place, sent or not.
    """

    __slots__ = ("_entries", "_flights", "_hold", "_ready", "_sent", "_spare", "_turns",
                 "_window", "dropped", "reason")  # fmt: skip

    def __init__(self, rate: float = 1.0) -> None:
        self._entries: dict[str, _Entry] = {}
        self._ready: list[tuple[int, int, str]] = []
        self._flights: deque[_Flight] = deque()
        self._sent: deque[int] = deque()
        self._window = (1, 1000)
        self._spare = SPARE_MS
        self._hold: int | None = 0
        """Nothing goes out before this moment; ``None``: not before :meth:`allowed`."""
        self._turns = 0
        self.reason = ""
        """Why messages are held back, for people; empty when they are not."""
        self.dropped = 0
        """Messages given up: too many waited, or the echo never came."""
        self.set_rate(rate)

    @property
    def pending(self) -> int:
        """Messages that have not been heard back."""
        return len(self._entries)

    def set_rate(self, rate: float) -> None:
        """What the server allows: ``rate`` messages a second."""
        if not rate > 0:
            raise ValueError("a rate is above zero")
        count = min(max(int(rate), 1), MAX_IN_WINDOW)
        self._window = (count, max(int(1000 * count / rate), 1))

    def put(
        self,
        key: str,
        content: str,
        priority: int,
        now: int,  # noqa: ARG002
        to: tuple[str, ...] = (),
    ) -> None:
        """Take in a message, in place of an older one with the same ``key``.

        ``to`` is whom it concerns, as :meth:`addressees` tells when it is sent; empty: everybody.
        The same content again while it is kept already changes no more than that.
        """
        old = self._entries.get(key)
        if old is not None and old.content == content:
            if old.to != to:
                self._entries[key] = replace(old, to=to)
            return
        self._turns += 1
        turn = old.turn if old is not None and not old.under_way else self._turns
        self._entries[key] = _Entry(content, priority, turn, to)
        if old is None or (old.priority, old.turn) != (priority, turn):
            heapq.heappush(self._ready, (priority, turn, key))
            self._compact()
        if len(self._entries) > MAX_ENTRIES:
            self._drop_one()

    def forget(self, key: str) -> None:
        """Nobody needs that message any more."""
        self._entries.pop(key, None)

    def due(self, now: int) -> list[str]:
        """Contents to send now, most urgent first; they count as sent."""
        self._send_again_unheard(now)
        if self.reason and self._hold is not None and self._hold <= now:
            self.allowed()
        out: list[str] = []
        while self._ready and self._hold is not None and self._free_at(self._hold) <= now:
            _, turn, key = heapq.heappop(self._ready)
            entry = self._entries.get(key)
            if entry is None or entry.turn != turn or entry.under_way:
                continue
            self._entries[key] = replace(entry, under_way=True, sent_before=True)
            self._flights.append(_Flight(key, turn, entry.content, entry.to, now))
            self._sent.append(now)
            out.append(entry.content)
        return out

    def addressees(self, content: str) -> tuple[str, ...]:
        """Whom a message that is under way concerns; empty: everybody."""
        found = [flight.to for flight in self._flights if flight.content == content]
        if () in found:
            return ()
        return tuple(dict.fromkeys(agent for to in found for agent in to))

    def echoed(self, content: str) -> str | None:
        """Our own message was heard; the key it had, ``None`` when it was none of those kept.

        A replayed echo after a reconnect counts too, for messages sent before.
        """
        for at, flight in enumerate(self._flights):
            if flight.content == content:
                del self._flights[at]
                self._spare = max(SPARE_MS, self._spare * 9 // 10)
                entry = self._entries.get(flight.key)
                if entry is None or entry.turn != flight.turn:
                    return None  # forgotten, or a newer one has its place
                del self._entries[flight.key]
                return flight.key
        for key, entry in self._entries.items():
            if entry.sent_before and entry.content == content:
                del self._entries[key]
                return key
        return None

    def rejected(self) -> str | None:
        """The server will never take the oldest message it had not answered: its key, dropped."""
        if not self._flights:
            return None
        flight = self._flights.popleft()
        entry = self._entries.get(flight.key)
        if entry is None or entry.turn != flight.turn:
            return None
        del self._entries[flight.key]
        return flight.key

    def rate_limited(self, now: int) -> None:
        """The server dropped the oldest message it had not answered: send it again, later."""
        self._return_oldest()
        self._spare = min(self._spare * 2, MAX_SPARE_MS)
        self._hold = None if self._hold is None else max(self._hold, now + self._gap())

    def refused(self, reason: str, until: int | None = None) -> None:
        """The server refuses us for ``reason``: hold everything ``until`` then, or ``allowed``."""
        self._return_oldest()
        self.reason = reason
        self._hold = until

    def allowed(self) -> None:
        """Messages may go out again."""
        self.reason = ""
        self._hold = 0

    def disconnected(self) -> None:
        """What was under way may be lost: all of it will be sent again, in its order."""
        while self._flights:
            self._return_oldest()

    def deadline(self) -> int | None:
        """When :meth:`due` may next have something; ``None`` when only an event can change it."""
        moments = [self._flights[0].sent_at + ECHO_MS] if self._flights else []
        self._skim()
        if self._ready and self._hold is not None:
            moments.append(self._free_at(self._hold))
        return min(moments, default=None)

    # -- inside ---------------------------------------------------------------------------------

    def _gap(self) -> int:
        return self._window[1] + self._spare

    def _free_at(self, hold: int) -> int:
        """The earliest moment, not before ``hold``, at which one more message may go out."""
        count, _ = self._window
        while len(self._sent) > count:
            self._sent.popleft()
        return max(hold, self._sent[0] + self._gap() if len(self._sent) == count else 0)

    def _compact(self) -> None:
        """Forgotten messages leave their places behind; hours offline must not pile them up."""
        if len(self._ready) > 2 * len(self._entries) + 64:
            self._ready = [
                (entry.priority, entry.turn, key)
                for key, entry in self._entries.items()
                if not entry.under_way
            ]
            heapq.heapify(self._ready)

    def _skim(self) -> None:
        while self._ready:
            _, turn, key = self._ready[0]
            entry = self._entries.get(key)
            if entry is not None and entry.turn == turn and not entry.under_way:
                return
            heapq.heappop(self._ready)

    def _return_oldest(self) -> None:
        if not self._flights:
            return
        flight = self._flights.popleft()
        entry = self._entries.get(flight.key)
        if entry is not None and entry.turn == flight.turn and entry.under_way:
            self._entries[flight.key] = replace(entry, under_way=False)
            heapq.heappush(self._ready, (entry.priority, entry.turn, flight.key))

    def _send_again_unheard(self, now: int) -> None:
        while self._flights and now - self._flights[0].sent_at >= ECHO_MS:
            flight = self._flights[0]
            entry = self._entries.get(flight.key)
            if entry is not None and entry.turn == flight.turn:
                if entry.unheard + 1 >= MAX_UNHEARD:
                    del self._entries[flight.key]
                    self.dropped += 1
                else:
                    self._entries[flight.key] = replace(entry, unheard=entry.unheard + 1)
            self._return_oldest()

    def _drop_one(self) -> None:
        waiting = ((e.priority, -e.turn, key) for key, e in self._entries.items())
        _, _, key = max(waiting)
        del self._entries[key]
        self.dropped += 1
