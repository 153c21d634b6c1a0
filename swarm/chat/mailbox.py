"""What a client has heard and its owner has not taken yet: bounded, so that reading waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

MAX_EVENTS = 10_000
MAX_CHARACTERS = 16 * 1024 * 1024
"""Events not taken yet, and what was said in them; then whoever puts in waits until they are."""

T = TypeVar("T")


class Mailbox(Generic[T]):
    """A queue with an end.  ``weigh`` gives the characters of what is kept."""

    def __init__(self, weigh: Callable[[T], int]) -> None:
        self._weigh = weigh
        self._kept: asyncio.Queue[T | None] = asyncio.Queue(MAX_EVENTS)
        self._characters = 0
        self._taken = asyncio.Event()
        self._wanted = True

    async def put(self, event: T) -> None:
        """Keep it, as soon as there is room; nothing is kept that nobody wants."""
        while self._wanted and self._characters > MAX_CHARACTERS:
            self._taken.clear()
            await self._taken.wait()
        if self._wanted:
            self._characters += self._weigh(event)
            await self._kept.put(event)

    async def take(self) -> T | None:
        """The oldest; ``None`` is the end."""
        event = await self._kept.get()
        if event is not None:
            self._characters -= self._weigh(event)
            self._taken.set()
        return event

    def end(self) -> None:
        """Nothing will come any more."""
        if not self._kept.full():
            self._kept.put_nowait(None)

    def refuse(self) -> None:
        """Nobody will take anything any more: forget what is kept, and keep nothing."""
        self._wanted = False
        while not self._kept.empty():
            self._kept.get_nowait()
        self._characters = 0
        self._taken.set()
