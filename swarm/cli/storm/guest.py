"""Somebody who hands work in over HTTP and waits for it, whatever happens to the interface."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from swarm.cli.demonstration.stage import Stage
from swarm.cli.storm.caller import PATIENCE, Answer, Caller
from swarm.cli.storm.landed import TAKEN
from swarm.cli.storm.notes import Notes
from swarm.cli.storm.work import Piece
from swarm.core.model import Review, TaskState

MOST = 8
"""Pieces that may wait for the interface at once."""
WAIT = 3.0
"""Seconds it asks the interface to wait for a task."""
_REST = 0.3
"""Seconds until it tries again where nobody answers."""


class Guest:
    """One who submits and one who waits, each with one request at a time."""

    def __init__(self, stage: Stage, notes: Notes, wrong: Callable[[str, str], None]) -> None:
        self._submits, self._waits = Caller(stage.places), Caller(stage.places)
        self._notes, self._wrong = notes, wrong
        self._coming: deque[Piece] = deque()
        self._followed: deque[str] = deque()
        self._next = 0.0

    def takes(self, one: Piece) -> bool:
        """Whether it hands that piece in: an agent's review is no client's to ask for."""
        return one.review is not Review.AGENT and len(self._coming) < MOST

    def hand(self, one: Piece) -> None:
        """It is to submit that piece."""
        self._coming.append(one)

    @property
    def idle(self) -> bool:
        """Whether all is handed in, and all of that has ended."""
        return not (self._coming or self._followed or self._submits.busy or self._waits.busy)

    def turn(self, now: float) -> None:
        """Go on with what it is at."""
        self._submits.listen()
        self._waits.listen()
        if now < self._next:
            return
        self._next = now + _REST
        if self._coming and not self._submits.busy:
            self._submit(self._coming.popleft())
        if self._followed and not self._waits.busy:
            self._wait(self._followed.popleft())

    def end(self) -> None:
        """Ask nothing any more."""
        self._submits.end()
        self._waits.end()

    def _submit(self, one: Piece) -> None:
        asked: dict[str, object] = {"prompt": one.prompt, "role": one.role}
        if one.review is not Review.NONE:
            asked["review"] = str(one.review)
        if one.lane:
            asked["lane"] = one.lane
        self._submits.ask("POST", "/v1/tasks", asked, lambda answer: self._submitted(one, answer))

    def _submitted(self, one: Piece, answer: Answer) -> None:
        if answer.good:
            self._notes.done["tasks by HTTP"] += 1
            self._notes.pieces[answer.data["id"]] = one
            self._notes.accepted[one.prompt] = answer.data["id"]
            self._followed.append(answer.data["id"])
        elif answer.unclear:  # the ledger may have it, or not; asking again could make it two
            self._notes.done["tasks by HTTP, unanswered"] += 1
            self._notes.unanswered.append(one)
        elif answer.later:
            self._coming.appendleft(one)
        else:
            self._wrong("commands answer", f"a task by HTTP: {answer}")

    def _wait(self, task: str) -> None:
        path = f"/v1/tasks/{task}/wait?seconds={WAIT:g}"
        self._waits.ask(
            "GET", path, None, lambda answer: self._waited(task, answer), WAIT + PATIENCE
        )

    def _waited(self, task: str, answer: Answer) -> None:
        if answer.good and answer.data["ended"]:
            told = answer.data["task"]
            self._notes.done["waits by HTTP"] += 1
            if told["state"] != TaskState.NEEDS_HUMAN:  # which is no end, where a person answers
                self._notes.waited[task] = (told["state"], told["result"])
        elif answer.good or answer.later or answer.unclear:
            self._followed.append(task)
        else:
            self._wrong(TAKEN, f"{task} was taken in over HTTP, and a wait for it says {answer}")
