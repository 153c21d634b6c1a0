"""Waiting for a change of the ledger from a command."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from swarm.config.places import Places

if TYPE_CHECKING:
    from swarm.desk.changes import Changes

_T = TypeVar("_T")


def waiting(places: Places, wait: Callable[[Changes], Awaitable[_T]]) -> _T:
    """What ``wait`` gives, called with what wakes it."""
    from swarm.desk.changes import Changes

    async def run() -> _T:
        async with Changes(places.ledger) as changes:
            return await wait(changes)

    return asyncio.run(run())
