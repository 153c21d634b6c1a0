"""The end of a client: it comes, whatever its connection does with a cancellation."""

from __future__ import annotations

import asyncio

from swarm.chat.client import ChatClient


async def test_a_lost_cancellation_is_said_again() -> None:
    """Seen: one lost in the connection's own end left ``chat tail -f`` deaf to Ctrl-C."""
    cancelled = 0

    async def deaf_once() -> None:
        nonlocal cancelled
        while cancelled < 2:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled += 1

    client = object.__new__(ChatClient)
    client._runner = asyncio.create_task(deaf_once())
    client._waiting = {}
    await asyncio.sleep(0)
    await client.__aexit__(None, None, None)
    assert (cancelled, client._runner) == (2, None)
