"""Asking the storm's fleet over HTTP as a client outside does, in a thread beside the storm.

What matters to a client is kept apart: a request that reached nobody did nothing, and one that got
no answer may have been done or not.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from swarm.config.places import Places

NOBODY, UNHEARD = 0, -1
"""In the place of a status: nobody was reached; no answer came."""
PATIENCE = 10.0
"""Seconds a client waits for an answer, beyond what it has asked the other side to wait."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request."""

    status: int
    """Of HTTP, or :data:`NOBODY`, or :data:`UNHEARD`."""
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether it was done."""
        return self.status in (HTTPStatus.OK, HTTPStatus.CREATED)

    @property
    def unclear(self) -> bool:
        """Whether it may have been done."""
        return self.status in (UNHEARD, HTTPStatus.INTERNAL_SERVER_ERROR)

    @property
    def later(self) -> bool:
        """Whether it was not done, and may be asked again."""
        return self.status in (NOBODY, HTTPStatus.SERVICE_UNAVAILABLE)

    def __str__(self) -> str:
        return f"{self.status} {self.data.get('error', '')}".strip()


class Caller:
    """One client, with one request at a time; ``then`` hears the answer, from :meth:`listen`."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._thread: threading.Thread | None = None
        self._heard: list[Answer] = []
        self._then: Callable[[Answer], object] = lambda _answer: None

    @property
    def busy(self) -> bool:
        """Whether a request is under way, or its answer not listened to."""
        return self._thread is not None

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None,
        then: Callable[[Answer], object],
        limit: float = PATIENCE,
    ) -> None:
        """Ask; the last request must have been listened to."""
        assert self._thread is None, "one at a time"
        self._then = then
        content = None if body is None else json.dumps(body)

        def call() -> None:
            self._heard.append(request(self._places, method, path, content, limit))

        self._thread = threading.Thread(target=call, name="caller", daemon=True)
        self._thread.start()

    def listen(self) -> None:
        """Hear the answer, if it is there."""
        if self._thread is None or self._thread.is_alive():
            return
        self._thread, answer = None, self._heard.pop()
        self._then(answer)

    def end(self) -> None:
        """Wait for what is under way; nobody hears of it."""
        if self._thread is not None:
            self._thread.join(2 * PATIENCE)


def request(places: Places, method: str, path: str, content: str | None, limit: float) -> Answer:
    """One request to the interface of a home; never raises for what is on the other side."""
    try:
        told = json.loads(places.api_address.read_text())
        address = urlsplit(told["address"])
        token = places.api_token.read_text().strip()
        connection = http.client.HTTPConnection(address.hostname or "", address.port, limit)
    except (OSError, ValueError, KeyError):
        return Answer(NOBODY)
    try:
        connection.connect()
    except OSError:
        return Answer(NOBODY)
    try:
        connection.request(method, path, content, {"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        data = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError):
        return Answer(UNHEARD)
    finally:
        connection.close()
    ours = isinstance(data, dict) and data.get("version") == 1
    return Answer(response.status, data) if ours else Answer(UNHEARD)  # somebody has its old port
