"""What the services (chat, coordinator) share: an asyncio end of their lifeline."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

from swarm.errors import SwarmError, WireError
from swarm.wire import lifeline
from swarm.wire.framing import LineBuffer

BEAT_SECONDS = 5.0
"""How often a service beats; it is one of two, so often costs nothing."""
LEAVE_SECONDS = 2.0
"""Longest a service that was told to leave may still deal with what it was told before."""
CROWDED_SECONDS = 10.0
"""How often it is told that nobody can be let in; asyncio would do so a hundred times a second."""
_CROWDED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class ServiceLifeline:
    """The service's end: send lines, iterate over what the supervisor says until it is gone."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._lines: asyncio.Queue[lifeline.ParentLine] = asyncio.Queue()

    def send(self, line: lifeline.ChildLine) -> None:
        """Say one line; never blocks.  After the supervisor is gone it is dropped."""
        if not self._writer.is_closing():
            self._writer.write(lifeline.encode(line))

    def ready(self, *, agent_id: str = "", address: str = "") -> None:
        """The service does its work."""
        self.send(lifeline.Ready(agent_id=agent_id, address=address))

    async def __aiter__(self) -> AsyncIterator[lifeline.ParentLine]:
        """Every line the supervisor says, in order; the service is cancelled at its end."""
        while True:
            yield await self._lines.get()
            self._lines.task_done()

    async def listen(self) -> None:
        """Read until end-of-file, or until ``Leave`` and all before it was dealt with."""
        buffer = LineBuffer()
        while data := await self._reader.read(65536):
            for raw in buffer.feed(data):
                line = lifeline.from_parent(raw)
                if isinstance(line, lifeline.Leave):
                    with suppress(TimeoutError):
                        async with asyncio.timeout(LEAVE_SECONDS):
                            await self._lines.join()
                    return
                self._lines.put_nowait(line)

    async def beat(self) -> None:
        """Send a heartbeat for ever."""
        seq = 0
        while True:
            seq += 1
            self.send(lifeline.Beat(seq=seq))
            await asyncio.sleep(BEAT_SECONDS)


def run_service(fd: int, name: str, serve: Callable[[ServiceLifeline], Awaitable[None]]) -> int:
    """Run ``serve`` until the lifeline ends, and return the exit status.

    0 when the supervisor is gone or said ``Leave``; 1 when ``serve`` failed or ended by itself:
    an exit nobody asked for is a crash (rules, "Lives").  A :class:`SwarmError` is told to the
    supervisor in one line, so that ``up`` can say why.
    """
    return asyncio.run(_run(fd, name, serve))


async def _run(fd: int, name: str, serve: Callable[[ServiceLifeline], Awaitable[None]]) -> int:
    asyncio.get_running_loop().set_exception_handler(complaints(name))
    reader, writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=fd))
    line = ServiceLifeline(reader, writer)
    line.send(lifeline.Hello(name=name, pid=os.getpid()))
    serving = asyncio.ensure_future(serve(line))
    listening = asyncio.ensure_future(line.listen())
    beating = asyncio.ensure_future(line.beat())
    everything = (serving, listening, beating)
    try:
        await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
        left = listening.done() and not serving.done()
    finally:
        for task in everything:
            task.cancel()
        outcomes = await asyncio.gather(*everything, return_exceptions=True)
    failed = next((e for e in outcomes if isinstance(e, (SwarmError, WireError, OSError))), None)
    if failed is not None and not left:
        line.send(lifeline.CannotStart(error=str(failed)))
        print(f"{name}: {failed}", file=sys.stderr, flush=True)
    writer.close()
    unexpected = [e for e in outcomes if isinstance(e, Exception) and e is not failed]
    if unexpected:
        raise unexpected[0]
    return 0 if left else 1


def complaints(name: str) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """What a loop does with errors that nobody awaits: tell them, but a crowd only now and then.

    A server without descriptors left cannot accept; the loop tries again by itself.
    """
    told: float | None = None

    def tell(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal told
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in _CROWDED and "socket" in context):
            loop.default_exception_handler(context)
        elif told is None or loop.time() - told >= CROWDED_SECONDS:
            told = loop.time()
            print(f"{name}: nobody can be let in: {error}", file=sys.stderr, flush=True)

    return tell
