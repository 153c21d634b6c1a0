"""The addresses of the HTTP interface, each one verb of the desk."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from swarm.desk import requests
from swarm.desk.guard import DEFECT, Refused, error_json, refusal
from swarm.desk.office import Office
from swarm.desk.table import VERBS, Verb, allowed
from swarm.errors import SwarmError, UsageError

_ADDRESSES: tuple[tuple[str, str, str], ...] = (
    ("POST", "/v1/tasks", "submit_task"),
    ("GET", "/v1/tasks", "list_tasks"),
    ("GET", "/v1/tasks/{id}", "show_task"),
    ("GET", "/v1/tasks/{id}/wait", "wait_task"),
    ("POST", "/v1/tasks/{id}/cancel", "cancel_task"),
    ("POST", "/v1/tasks/{id}/retry", "retry_task"),
    ("POST", "/v1/tasks/{id}/answer", "answer_task"),
    ("POST", "/v1/tasks/{id}/approve", "approve_task"),
    ("POST", "/v1/tasks/{id}/reject", "reject_task"),
    ("GET", "/v1/plans", "list_plans"),
    ("GET", "/v1/plans/{id}", "show_plan"),
    ("POST", "/v1/lane/claim", "claim_task"),
    ("POST", "/v1/lane/wait", "await_task"),
    ("POST", "/v1/lane/renew", "renew_lease"),
    ("POST", "/v1/lane/release", "release_task"),
    ("POST", "/v1/lane/respond", "respond_task"),
    ("GET", "/v1/status", "fleet_status"),
)
"""Method, address, verb.  What stands in the address is no field of the body."""
_MANY = frozenset({"state"})
"""Fields of a query that may be given more than once."""


def application(office: Office, *, decides: bool = False) -> Starlette:
    """The interface over one office; who may use it is :mod:`swarm.desk.guard`'s to say.

    ``decides``: they may approve, reject and answer in the person's name.
    """
    routes = [
        Route(path, _endpoint(office, VERBS[verb], decides), methods=[method])
        for method, path, verb in _ADDRESSES
    ]
    handlers = {Refused: _refused, HTTPException: _no_such, Exception: _defect}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return app


def _endpoint(
    office: Office, verb: Verb, decides: bool
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            asked = _asked(request, verb, await request.body())
            _authorise(verb, asked, decides)
            _require(office, request)
            reply = await _unless_gone(request, verb.run(office, asked))
        except SwarmError as error:
            raise refusal(error) from None
        created = verb.name == "submit_task"
        return Response(
            msgspec.json.encode(reply) + b"\n",
            status_code=201 if created else 200,
            media_type="application/json",
            headers={"cache-control": "no-store"},
        )

    return endpoint


def _authorise(verb: Verb, asked: requests.Request, decides: bool) -> None:
    try:
        allowed(verb, asked, decides=decides)
    except UsageError as error:
        raise Refused(403, error) from None


def _asked(request: Request, verb: Verb, body: bytes) -> requests.Request:
    """The request from its body, or from its query; and from its address."""
    given: dict[str, Any] = dict(request.path_params)
    if request.method in ("GET", "HEAD"):
        query = request.query_params
        fields = {name: query.getlist(name) for name in query}
        given |= {
            name: values if name in _MANY else values[-1] for name, values in fields.items()
        } | request.path_params
        return requests.read(verb.request, given, strict=False)
    return requests.read_json(verb.request, body, request.path_params)


def _require(office: Office, request: Request) -> None:
    """Refuse an address that names nothing."""
    named = request.path_params.get("id")
    if named is None:
        return
    ledger = office.desk.ledger
    try:
        if request.url.path.startswith("/v1/plans/"):
            ledger.find_plan(named)
        else:
            ledger.find(named)
    except UsageError as error:
        raise Refused(404, error) from None


async def _unless_gone(request: Request, work: Awaitable[Any]) -> Any:
    """The reply, unless the client goes away first: then nobody waits for it."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Refused(499, UsageError("the client is gone"))
        return working.result()
    finally:
        leaving.cancel()
        working.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return _error(error)


def _no_such(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    what = "no such address here"
    if status == 405:
        what = "that address does not take that method"
    return _error(Refused(status, UsageError(what, "see docs/lanes.md for the addresses")))


def _defect(_request: Request, _what: Exception) -> Response:
    return _error(Refused(500, DEFECT))


def _error(refused: Refused) -> Response:
    return Response(
        error_json(refused.error) + b"\n",
        status_code=refused.status,
        media_type="application/json",
        headers={"cache-control": "no-store"},
    )
