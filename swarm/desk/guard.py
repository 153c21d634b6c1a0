"""Who may speak HTTP to us, and how much: the gate before every request.

In this order: a ``Host`` of our own (a page in a browser that has its name point at the loopback
sends its own name), the token (compared in constant time), a body that is neither too long nor
too slow.  There are no CORS headers, so no page may read an answer.  Every refusal is one line of
JSON; nothing of a request that was refused is looked at.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Collection, Iterable

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from swarm.errors import (
    AlreadyRunning,
    LedgerError,
    NotRunning,
    SwarmError,
    UsageError,
    WaitedTooLong,
)
from swarm.ledger.intake import one_line

MAX_BODY = 1024 * 1024
"""Bytes of a request's body: a task's longest text, and then some for JSON's escapes."""
MAX_HEARD = 16 * MAX_BODY
"""Bytes of one that is too long which are heard and forgotten: who still sends reads no answer."""
BODY_SECONDS = 10.0
"""How long a client may take to send it."""
MAX_REQUESTS = 256
"""Requests at once, those that wait included."""

DEFECT = SwarmError("a defect in agentctl", "see logs/api.log in AGENTCTL_HOME, and report it")

_STATUS: dict[type[SwarmError], int] = {
    UsageError: 400,
    NotRunning: 503,
    AlreadyRunning: 409,
    LedgerError: 503,
    WaitedTooLong: 504,
}


class Refused(Exception):
    """A request that is answered by an error: its status and the one line."""

    def __init__(self, status: int, error: SwarmError) -> None:
        super().__init__(status, error)
        self.status = status
        self.error = error


def refusal(error: SwarmError) -> Refused:
    """The refusal for what a verb raised; a conflict with how things are, where it is no other."""
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 409)
    return Refused(status, error)


def error_json(error: SwarmError) -> bytes:
    """The body of a refusal: one line."""
    return msgspec.json.encode(
        {
            "version": 1,
            "error": one_line(error.what, 1000),
            "remedy": one_line(error.remedy, 1000) or None,
            "exit_code": error.exit_code,
        }
    )


class Guard:
    """Lets requests through to ``app``; an ASGI application itself.

    ``hosts`` are the values of ``Host`` that are ours; ``defect`` hears of an error of ours.
    """

    def __init__(
        self,
        app: ASGIApp,
        token: str,
        hosts: Collection[str],
        defect: Callable[[Exception], None],
    ) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = frozenset(host.encode() for host in hosts)
        self._defect = defect
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        assert scope["type"] == "http", scope["type"]
        self._running += 1
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            self._check(scope["headers"])
            body = await _body(receive)
            await self._app(scope, _with_body(body, receive), answer)
        except Refused as refused:
            await _refuse(send, refused)
        except Exception as error:  # noqa: BLE001 - the boundary: a client never sees a traceback
            self._defect(error)
            if not started:
                await _refuse(send, Refused(500, DEFECT))
        finally:
            self._running -= 1

    def _check(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        named = [value for name, value in headers if name == b"host"]
        if len(named) != 1 or named[0].lower() not in self._hosts:
            known = ", ".join(sorted(host.decode() for host in self._hosts))
            raise Refused(421, UsageError("that host is not served here", f"use {known}"))
        shown = [value for name, value in headers if name == b"authorization"]
        kind, _, token = (shown[0] if len(shown) == 1 else b"").partition(b" ")
        if kind.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._token):
            raise Refused(
                401,
                SwarmError(
                    "the token is missing or wrong",
                    "send 'Authorization: Bearer …' with what AGENTCTL_HOME/api.token holds",
                ),
            )
        if self._running > MAX_REQUESTS:
            raise Refused(503, SwarmError("too many requests at once", "try again in a moment"))


async def _body(receive: Receive) -> bytes:
    """The whole body.  Raises :class:`Refused` for one too long or too slow."""
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise Refused(400, UsageError("the request ended early", "send all of it"))
                part = message.get("body", b"")
                size += len(part)
                if size <= MAX_BODY:
                    body += part
                if size > MAX_HEARD or (size > MAX_BODY and not message.get("more_body", False)):
                    raise _too_long()
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        raise Refused(
            408, UsageError(f"no whole request within {BODY_SECONDS:g} s", "send it faster")
        ) from None


def _too_long() -> Refused:
    return Refused(
        413,
        UsageError(
            f"the request has more than {MAX_BODY} bytes",
            "put the long part in a file and name it in the text",
        ),
    )


def _with_body(body: bytes, receive: Receive) -> Receive:
    """The body in one piece, then what comes from the client: that it is gone."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _refuse(send: Send, refused: Refused) -> None:
    body = error_json(refused.error) + b"\n"
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if refused.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if refused.status in (401, 408, 413, 421, 503):
        headers.append((b"connection", b"close"))  # the rest of the request is not read
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
