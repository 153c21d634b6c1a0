"""A transport that is read from only while its owner and the protocol above both want it."""

from __future__ import annotations

import asyncio
from typing import Any, cast


class Tap:
    """Stands before an asyncio transport; all but reading goes straight through.

    ``websockets`` pauses and resumes its transport as its own queue fills and empties.  What we
    hold back must stay held back all the same, or it would pile up with us.
    """

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._paused = False
        self._shut = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def pause_reading(self) -> None:
        """The protocol above wants no more for now."""
        self._paused = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """The protocol above wants more."""
        self._paused = False
        self._flow()

    def shut(self) -> None:
        """Its owner wants no more for now."""
        self._shut = True
        self._transport.pause_reading()

    def open(self) -> None:
        """Its owner wants more."""
        self._shut = False
        self._flow()

    def _flow(self) -> None:
        if not (self._paused or self._shut or self._transport.is_closing()):
            self._transport.resume_reading()


def tapped(transport: asyncio.BaseTransport) -> tuple[Tap, asyncio.Transport]:
    """A tap, and the same as the transport it stands for."""
    tap = Tap(transport)
    return tap, cast("asyncio.Transport", tap)
