"""The asyncio chat client of the coordinator and of ``agentctl chat``.

It keeps one connection alive for ever: reconnects after 1, 2, 4 … 30 s with jitter, joins again,
drops what it has heard already, and sends again what was not heard back (product, "Chat lost").
Asked ``once`` it gives up instead, with one clear line.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TypeAlias

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.connection import broadcast

from swarm.chat.connecting import Lost, Unreachable, backed_up, meaning_of, opened
from swarm.chat.keys import Clock
from swarm.chat.mailbox import Mailbox
from swarm.errors import BadMessage, ChatError
from swarm.spawner.identity import Identity
from swarm.wire.address import ChatAddress, read_address
from swarm.wire.agentchat import session as wire
from swarm.wire.agentchat.seen import Seen
from swarm.wire.pacing import STATUS, Pacer

FIRST_WAIT = 1.0
LONGEST_WAIT = 30.0
"""Seconds before a reconnect; each failure doubles the wait, a joined channel resets it."""
CANCEL_AGAIN_SECONDS = 0.2
REFUSED_MS = 300_000
"""So long nothing is said where the server lets us only read and does not say until when."""
_PER_MESSAGE = frozenset({"INVALID_MSG", "NOT_INVITED", "CHANNEL_NOT_FOUND", "AGENT_NOT_FOUND"})
"""Refusals of one message: sending it again would not help."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is lost; the ``attempts``-th failure in a row, the next try is under way."""

    reason: str
    attempts: int


ClientEvent: TypeAlias = wire.ChatEvent | Disconnected


def backoff(failures: int, chance: float) -> float:
    """Seconds to wait after so many failures in a row: doubling, and up to a fifth more."""
    return float(min(FIRST_WAIT * 2 ** min(failures - 1, 16), LONGEST_WAIT) * (1 + chance / 5))


class ChatClient:
    """A signed-in member of one channel, for as long as its ``async with`` block lasts.

    ``identity`` ``None`` only reads.  ``quiet`` asks our own server for no presence notices,
    ``addressed`` for no message that is addressed to others.
    ``once`` makes any failure a :class:`~swarm.errors.ChatError`, raised by :meth:`events`,
    :meth:`tell` and :meth:`joined`.  ``wait(failures)`` gives the seconds before a reconnect.
    Raises ``ChatError`` for an address that is none.
    """

    def __init__(
        self,
        url: str,
        identity: Identity | None,
        channel: str,
        *,
        name: str = "",
        quiet: bool = False,
        addressed: bool = False,
        once: bool = False,
        wait: Callable[[int], float] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._address: ChatAddress = read_address(url)
        self._identity = identity
        self._channel = channel
        self._name = name or (identity.name if identity is not None else "") or "reader"
        self._quiet = quiet
        self._addressed = addressed
        self._once = once
        self._wait = wait if wait is not None else lambda n: backoff(n, random.random())  # noqa: S311 - jitter
        self._tls = tls
        self._clock = Clock()
        self._pacer = Pacer()
        self._seen = Seen()
        self._session: wire.ChatSession | None = None
        self._socket: ClientConnection | None = None
        self._failures = 0
        self._held_until: int | None = None
        self._failure: ChatError | None = None
        self._events: Mailbox[ClientEvent] = Mailbox(_weight)
        self._wake = asyncio.Event()
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._in_channel = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._tellings = 0

    async def __aenter__(self) -> ChatClient:
        self._runner = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._runner is not None:
            while not self._runner.done():  # one cancellation can be lost in a connection's own end
                self._runner.cancel()
                await asyncio.wait({self._runner}, timeout=CANCEL_AGAIN_SECONDS)
            await asyncio.gather(self._runner, return_exceptions=True)
            self._runner = None
        for future in self._waiting.values():
            future.cancel()
        self._waiting.clear()

    # -- what the owner does --------------------------------------------------------------------

    @property
    def agent_id(self) -> str | None:
        """Our bare id as the server gave it; ``None`` while not signed in."""
        return self._session.agent_id if self._session is not None else None

    @property
    def connected(self) -> bool:
        """Whether the channel is joined now."""
        return self._in_channel.is_set()

    @property
    def pending(self) -> int:
        """Messages not heard back yet."""
        return self._pacer.pending

    @property
    def held_back(self) -> str:
        """Why the server lets us say nothing; empty when it does."""
        return self._pacer.reason

    def say(
        self, content: str, *, key: str = "", priority: int = STATUS, to: tuple[str, ...] = ()
    ) -> None:
        """Have ``content`` sent, and sent again until it is heard back.

        A newer message with the same ``key`` takes the place of an older one that waits.
        ``to`` are the bare ids of those it concerns; empty: everybody.
        ``priority`` is one of :mod:`swarm.wire.pacing`'s.  Returns at once.
        """
        if not key:
            self._tellings += 1
            key = f"say-{self._tellings}"
        self._pacer.put(key, content, priority, self._clock(), to)
        self._wake.set()

    def flush(self) -> None:
        """Send at once what may be sent now; without it that is done a moment later."""
        socket, session = self._socket, self._session
        # While the writer waits for a peer that reads slowly, nothing may overtake it.
        if socket is not None and session is not None and not backed_up(socket):
            for text in self._to_send(session, self._clock()):
                broadcast([socket], text)

    def unsay(self, key: str) -> None:
        """Nobody needs that message any more: it is not sent (again)."""
        self._pacer.forget(key)

    async def tell(self, content: str, *, within: float = 30.0) -> None:
        """Send ``content`` and wait for its echo.

        Raises :class:`~swarm.errors.ChatError` when the server refuses it, or when no echo came
        ``within`` seconds.
        """
        self._tellings += 1
        key = f"tell-{self._tellings}"
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[key] = future
        try:
            if self._failure is not None:
                raise self._failure
            if self.held_back:
                self._hold(self.held_back, self._held_until)
            self.say(content, key=key, priority=0)
            await asyncio.wait_for(future, within)
        except TimeoutError:
            self.unsay(key)
            why = self.held_back or "the server did not confirm the message"
            raise ChatError(f"not sent within {within:g} s: {why}", "try again later") from None
        finally:
            self._waiting.pop(key, None)

    async def joined(self, within: float = 90.0) -> None:
        """Wait until the channel is joined.  Raises ``ChatError`` when it is not ``within``."""
        entered = asyncio.ensure_future(self._in_channel.wait())
        try:
            running = [entered, self._runner] if self._runner is not None else [entered]
            await asyncio.wait(running, timeout=within, return_when=asyncio.FIRST_COMPLETED)
            if self._failure is not None:
                raise self._failure
            if self._runner is not None and self._runner.done():
                await self._runner  # raises what nobody foresaw
            if not self._in_channel.is_set():
                where = self._address.url
                raise ChatError(f"{where} did not let us in within {within:g} s", "try again later")
        finally:
            entered.cancel()

    async def ask_who(self) -> None:
        """Ask for the channel's members; a ``Members`` event answers.  Nothing when not joined."""
        if self._session is not None:
            self._session.ask_who(self._clock())
            self._wake.set()

    async def events(self) -> AsyncIterator[ClientEvent]:
        """Everything that happens, in order, until the client is closed.

        Own messages are ``Said`` too; replayed ones are marked.  Raises ``ChatError`` when a
        client asked ``once`` fails.
        """
        while True:
            event = await self._events.take()
            if event is None:
                if self._runner is not None:
                    await self._runner  # raises what nobody foresaw
                if self._failure is not None:
                    raise self._failure
                return
            yield event

    def ignore_events(self) -> None:
        """Nobody will take events: do not keep them."""
        self._events.refuse()

    # -- the connection -------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(Lost),
                wait=self._wait_before_retry,
                before_sleep=self._tell_lost,
                reraise=True,
            ):
                with attempt:
                    await self._one_connection()
        except ChatError as error:
            self._failure = error
        finally:
            ended = self._failure or ChatError("the chat client has ended", "see what it said")
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(ended)
            self._events.end()

    def _wait_before_retry(self, _state: RetryCallState) -> float:
        return self._wait(self._failures)

    async def _tell_lost(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        await self._events.put(
            Disconnected(str(error or "the connection was lost"), self._failures)
        )

    async def _one_connection(self) -> None:
        """Connect, sign in, talk.  Ends by ``Lost``, or ``ChatError`` when asked ``once``."""
        try:
            socket = await self._connect()
            async with socket:
                await self._talk(socket)
        except Lost as lost:
            if self._once:
                raise ChatError(f"{self._address.url}: {lost}", "try again later") from None
            raise
        finally:
            self._in_channel.clear()
            self._session = self._socket = None
            self._pacer.disconnected()
            self._failures += 1

    async def _connect(self) -> ClientConnection:
        try:
            return await opened(self._address, self._tls)
        except Unreachable as error:
            if not self._once:
                raise
            raise ChatError(
                f"cannot reach the chat server at {self._address.url}: {error.why}",
                "start it (agentctl swarm up, or agentctl chat serve) or correct the address",
            ) from None

    async def _talk(self, socket: ClientConnection) -> None:
        identity = self._identity
        session = wire.ChatSession(
            self._name,
            identity.public_pem if identity is not None else None,
            identity.sign if identity is not None else None,
            self._channel,
            quiet=self._quiet,
            addressed=self._addressed,
            seen=self._seen,
        )
        self._session, self._socket = session, socket
        self._pacer.allowed()
        session.opened(self._clock())
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(socket, session))
                group.create_task(self._write(socket, session))
        except ExceptionGroup as group:
            raise meaning_of(group) from None

    async def _read(self, socket: ClientConnection, session: wire.ChatSession) -> None:
        while True:
            message = await socket.recv()
            if not isinstance(message, str):
                continue  # agentchat is text; whatever this is, it is not for us
            try:
                events = session.received(message, self._clock())
            except BadMessage:
                continue  # a frame that makes no sense is no reason to leave
            for event in events:
                await self._on(event)
            self._wake.set()

    async def _write(self, socket: ClientConnection, session: wire.ChatSession) -> None:
        """Send what is due, and sleep until there may be more."""
        while True:
            self._wake.clear()
            now = self._clock()
            for event in session.tick(now):
                await self._on(event)
            for text in self._to_send(session, now):
                await socket.send(text)
            moments = [session.deadline(), self._pacer.deadline() if session.joined else None]
            soonest = min((m for m in moments if m is not None), default=None)
            timeout = None if soonest is None else max(soonest - self._clock(), 0) / 1000
            try:
                async with asyncio.timeout(timeout):
                    await self._wake.wait()
            except TimeoutError:
                pass  # a deadline has come

    def _to_send(self, session: wire.ChatSession, now: int) -> list[str]:
        """Frames to send now, what is due by our pace among them."""
        if session.joined:
            for content in self._pacer.due(now):
                session.say(content, now, self._pacer.addressees(content))
        return session.outgoing()

    # -- what the server says -------------------------------------------------------------------

    async def _on(self, event: wire.ChatEvent) -> None:
        match event:
            case wire.SignedIn(lurk_reason=reason, lurk_until=until, messages_per_second=rate):
                self._pacer.set_rate(rate if rate is not None else 1.0)
                if reason is not None:
                    self._hold(reason, until)
            case wire.Joined():
                self._failures = 0
                self._in_channel.set()
            case wire.Said(sender=sender, content=content):
                if sender == self.agent_id:
                    self._heard_back(self._pacer.echoed(content))
            case wire.Refused(code=code, message=message):
                self._refused(code, message)
            case _:
                pass
        await self._events.put(event)
        self._end_if_over(event)

    def _end_if_over(self, event: wire.ChatEvent) -> None:
        """Some events are the connection's last, and say why."""
        match event:
            case wire.Displaced(reason=reason):
                raise Lost(f"the same identity signed in elsewhere ({reason})")
            case wire.CannotAnswer(question=question):
                raise Lost(f"the server asks a question only a person can answer: {question}")
            case wire.PeerSilent():
                raise Lost("the server stopped answering")
            case wire.Refused(code=code, message=message) if (
                self._session is not None and self._session.over
            ):
                raise Lost(f"the server refused us: {message} ({code})")
            case _:
                return

    def _refused(self, code: str, message: str) -> None:
        if code == "RATE_LIMITED":
            self._pacer.rate_limited(self._clock())
        elif code == "LURK_MODE":
            self._hold(message, self._clock() + REFUSED_MS)
        elif code in _PER_MESSAGE:
            key = self._pacer.rejected()
            future = self._waiting.get(key) if key is not None else None
            if future is not None and not future.done():
                future.set_exception(ChatError(f"the server refused it: {message}"))

    def _hold(self, reason: str, until: int | None) -> None:
        """The server lets us only read: whoever waits for an echo is told, not kept waiting."""
        self._held_until = until
        self._pacer.refused(reason, self._clock() + REFUSED_MS if until is None else until)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(
                    ChatError(
                        f"this server lets us only read for now: {reason}",
                        "wait, or use a server that takes this identity",
                    )
                )

    def _heard_back(self, key: str | None) -> None:
        future = self._waiting.get(key) if key is not None else None
        if future is not None and not future.done():
            future.set_result(None)


def _weight(event: ClientEvent) -> int:
    return len(event.content) if isinstance(event, wire.Said) else 0
