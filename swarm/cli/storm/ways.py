"""The ways an outsider of a storm works a lane: the command line, and HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol

from swarm.cli.storm.caller import Answer, Caller
from swarm.cli.storm.fleet import Fleet, Said
from swarm.cli.storm.work import LANE


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of one step."""

    done: bool | None
    """``None``: nobody knows."""
    text: str = ""
    lease: dict[str, Any] | None = None
    """What a claim gave."""


Then = Callable[[Heard], object]


class Lane(Protocol):
    """One way, for one name; a step is over before the next begins."""

    @property
    def name(self) -> str:
        """Who works by it."""

    @property
    def lease(self) -> float:
        """Seconds of the lease to ask for."""

    def claim(self, seconds: float, then: Then) -> None:
        """Take a task, if there is one."""

    def respond(self, task: str, fence: int, text: str, then: Then) -> None:
        """Answer it."""

    def listen(self) -> None:
        """Hear what has come of the step."""


class ByCommand:
    """``agentctl lane``; ``heard`` judges what each command said."""

    name, lease = "stranger", 30.0

    def __init__(self, fleet: Fleet, heard: Callable[[Said], object]) -> None:
        self._fleet, self._heard = fleet, heard

    def claim(self, seconds: float, then: Then) -> None:
        """See :class:`Lane`."""
        words = ("claim", "--lane", LANE, "--as", self.name, "--lease", f"{seconds:g}", "--json")

        def said(said: Said) -> None:
            self._heard(said)
            lease = None
            if said.exit_code == 0:
                lease = json.loads(said.text[said.text.index("{") :])["lease"]
            then(Heard(said.exit_code == 0, said.text, lease))

        self._fleet.run("lane", *words, then=said)

    def respond(self, task: str, fence: int, text: str, then: Then) -> None:
        """See :class:`Lane`."""
        words = ("respond", task, "--fence", str(fence), "--as", self.name, text)

        def said(said: Said) -> None:
            self._heard(said)
            then(Heard(said.exit_code == 0, said.text.strip()))

        self._fleet.run("lane", *words, then=said)

    def listen(self) -> None:
        """The fleet's commands are listened to anyway."""


class ByHttp:
    """The HTTP interface; ``wrong`` hears of what it may not say."""

    name, lease = "visitor", 12.0

    def __init__(self, caller: Caller, wrong: Callable[[str, str], None]) -> None:
        self._caller, self._wrong = caller, wrong

    def claim(self, seconds: float, then: Then) -> None:
        """See :class:`Lane`; it waits a little for a task, as a client would."""
        asked = {"name": self.name, "lane": LANE, "lease_seconds": seconds, "wait_seconds": 1.0}
        self._ask("claim", asked, then)

    def respond(self, task: str, fence: int, text: str, then: Then) -> None:
        """See :class:`Lane`."""
        asked = {"name": self.name, "id": task, "fence": fence, "text": text}
        self._ask("respond", asked, then)

    def listen(self) -> None:
        """See :class:`Lane`."""
        self._caller.listen()

    def _ask(self, verb: str, asked: dict[str, object], then: Then) -> None:
        def answered(answer: Answer) -> None:
            expected = answer.good or answer.unclear or answer.later
            if not expected and answer.status != HTTPStatus.CONFLICT:
                self._wrong("commands answer", f"/v1/lane/{verb}: {answer}")
            done = None if answer.unclear else answer.good
            then(Heard(done, str(answer), answer.data.get("lease")))

        self._caller.ask("POST", f"/v1/lane/{verb}", asked, answered)
