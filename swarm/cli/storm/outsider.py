"""Somebody outside the fleet who works a lane by lease, and sometimes just goes silent."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from swarm.cli.storm.invariants import Harm
from swarm.cli.storm.notes import Notes
from swarm.cli.storm.ways import Heard, Lane
from swarm.cli.storm.work import LANE
from swarm.core.model import Outcome, TaskState
from swarm.ledger import Ledger, Task

SHORT = 2.0
"""Seconds of a lease that it will let run out."""
LATE = 1.0
"""Seconds after the end of its lease at which it answers all the same."""
SILENT = 0.4
"""How often it goes silent; never twice in a row, as three lost leases end a task."""
_REST = 0.5
"""Seconds between two looks for work."""
_UNHEARD = 15.0
"""Seconds within which a claim whose answer nobody heard has been carried out, or never is."""


@dataclass(frozen=True, slots=True)
class _Lease:
    task: str
    fence: int
    answer_at: float
    """Monotonic seconds."""
    over: float
    """When the lease ends at the latest; Unix seconds."""
    silent: bool


class Outsider:
    """One such agent; :meth:`turn` is called all the time.  ``wrong`` hears of a violation."""

    def __init__(
        self,
        way: Lane,
        ledger: Ledger,
        seed: int,
        notes: Notes,
        wrong: Callable[[str, str], None],
    ) -> None:
        self._way, self._ledger, self._notes = way, ledger, notes
        self._wrong = wrong
        self._random = Random(f"{way.name} {seed}")  # noqa: S311 - to be repeated
        self._lease: _Lease | None = None
        self._busy = False
        self._silent = False
        """Whether it went silent the last time."""
        self._doubt = False
        """Whether an answer under this lease may have been taken, and nobody knows."""
        self._next = 0.0

    @property
    def idle(self) -> bool:
        """Whether it holds and does nothing."""
        return self._lease is None and not self._busy

    def turn(self, now: float) -> None:
        """Go on with what it is at."""
        self._way.listen()
        if self._busy or now < self._next:
            return
        if self._lease is None:
            self._next = now + _REST
            if self._work():
                self._claim()
        elif now >= self._lease.answer_at:
            self._answer(self._lease)

    def _work(self) -> bool:
        return any(task.lane == LANE for task in self._ledger.tasks([TaskState.QUEUED]))

    def _claim(self) -> None:
        silent = not self._silent and self._random.random() < SILENT
        seconds = SHORT if silent else self._way.lease
        began = time.time()
        self._busy = True

        def then(heard: Heard) -> None:
            self._busy = False
            if heard.done is None:  # it may hold one, and does not know which
                self._notes.done["claims unanswered"] += 1
                self._lost("", began, _UNHEARD + 2 * seconds)
            if not heard.lease:
                return  # somebody has it, or the ledger is locked
            self._silent, self._doubt = silent, False
            self._held(heard.lease, seconds, began)

        self._way.claim(seconds, then)

    def _held(self, lease: dict[str, object], seconds: float, began: float) -> None:
        task, fence = str(lease["id"]), int(str(lease["fence"]))
        self._notes.done[f"claims by the {self._way.name}"] += 1
        think = seconds + LATE if self._silent else self._random.uniform(0.2, 3.0)
        over = time.time() + seconds
        self._lease = _Lease(task, fence, time.monotonic() + think, over, self._silent)
        if self._silent:
            self._notes.done["leases left to run out"] += 1
            self._lost(task, began + seconds, self._way.lease)

    def _lost(self, task: str, since: float, lasts: float) -> None:
        """For so long its attempt (empty: any of its own) may end as lost."""
        until = time.time() + lasts
        lost = frozenset({Outcome.LOST})
        self._notes.harms.append(Harm("silence", since, until, f"@{self._way.name}", task, lost))

    def _answer(self, lease: _Lease) -> None:
        text = f"{lease.task} {lease.fence}"
        if lease.silent:
            self._notes.late.add(text)
        self._busy = True

        def then(heard: Heard) -> None:
            self._busy = False
            self._heard(lease, text, heard)

        self._way.respond(lease.task, lease.fence, text, then)

    def _heard(self, lease: _Lease, text: str, heard: Heard) -> None:
        self._doubt = self._doubt or heard.done is not False
        found = self._ledger.task(lease.task)
        ours = heard.done or (self._doubt and found is not None and found.answer.strip() == text)
        if ours and lease.silent:
            self._wrong("leases are kept", f"an answer to {text} was taken after its lease")
        if ours:
            self._notes.answers[lease.task] = text
            self._notes.done[f"answers by the {self._way.name}"] += 1
        elif time.time() > lease.over:
            self._lost(lease.task, lease.over, self._way.lease)
        elif _holds(found, lease):
            self._next = time.monotonic() + _REST
            return  # nobody heard it, or the ledger was locked: once more
        elif found is not None and found.state is not TaskState.CANCELLED:
            self._wrong("leases are kept", f"{text}: {heard.text[:300]}")
        self._lease = None


def _holds(found: Task | None, lease: _Lease) -> bool:
    return found is not None and found.held and found.fence == lease.fence
