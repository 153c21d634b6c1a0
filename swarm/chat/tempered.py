"""A client's socket that leaves its process time for other things, whatever the server sends.

The coordinator has its lifeline to listen to and the ledger to keep on the same loop.  A server
that sends more than can be dealt with is left to wait, and left when it does not stop.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from websockets.asyncio.client import ClientConnection

from swarm.chat.share import Share
from swarm.chat.tap import Tap, tapped

PIECE = 16 * 1024
"""Bytes dealt with in one turn of the loop."""
RATE, BURST = 0.5, 2.0
"""Of a processor, and seconds in advance."""
FLOOD_SECONDS = 20.0
"""Never caught up for so long: the connection is given up."""


class TemperedConnection(ClientConnection):
    """Hands on what comes piece by piece, and no more than its share of the time allows."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._share = Share(RATE, BURST)
        self._held_back = bytearray()
        self._tap: Tap
        self._behind_since: float | None = None
        self._feeding: asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The kernel has it."""
        self._tap, through = tapped(transport)
        super().connection_made(through)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        if self._feeding is not None:
            self._feeding.cancel()
            self._feeding = None
        self._held_back.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self._held_back += data
        self._tap.shut()
        if self._feeding is None:
            self._feed()

    def _feed(self) -> None:
        self._feeding = None
        if self.transport.is_closing():
            return
        piece = bytes(self._held_back[:PIECE])
        del self._held_back[:PIECE]
        began = time.thread_time()
        super().data_received(piece)
        now = time.monotonic()
        self._share.spend(time.thread_time() - began, now)
        wait = self._share.wait(now)
        if not self._held_back and not wait:
            self._behind_since = None
            self._tap.open()
            return
        if self._behind_since is None:
            self._behind_since = now
        if now - self._behind_since > FLOOD_SECONDS:
            self.transport.abort()
            return
        self._feeding = self.loop.call_later(wait, self._feed)
