"""Somebody outside the fleet who works a lane by lease, and sometimes just goes silent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from swarm.cli.storm.fleet import Fleet, Said
from swarm.cli.storm.invariants import Harm
from swarm.cli.storm.notes import Notes, Options
from swarm.cli.storm.work import LANE
from swarm.core.model import Outcome, TaskState
from swarm.ledger import Ledger

NAME = "stranger"
LEASE, SHORT = 30.0, 2.0
"""Seconds of the lease it asks for, and of one that it will let run out."""
LATE = 1.0
"""Seconds after the end of its lease at which it answers all the same."""
SILENT = 0.4
"""How often it goes silent; never twice in a row, as three lost leases end a task."""
_REST = 0.5
"""Seconds between two looks for work."""


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
        fleet: Fleet,
        ledger: Ledger,
        options: Options,
        notes: Notes,
        wrong: Callable[[str, str], None],
        heard: Callable[[Said], object],
    ) -> None:
        self._fleet, self._ledger, self._notes = fleet, ledger, notes
        self._wrong, self._heard = wrong, heard
        self._random = Random(f"outsider {options.seed}")  # noqa: S311 - to be repeated
        self._lease: _Lease | None = None
        self._busy = False
        self._silent = False
        """Whether it went silent the last time."""
        self._next = 0.0

    @property
    def idle(self) -> bool:
        """Whether it holds and does nothing."""
        return self._lease is None and not self._busy

    def turn(self, now: float) -> None:
        """Go on with what it is at."""
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

    def _run(self, *words: str, then: Callable[[Said], None]) -> None:
        self._busy = True

        def heard(said: Said) -> None:
            self._busy = False
            self._heard(said)
            then(said)

        self._fleet.run("lane", *words, then=heard)

    def _claim(self) -> None:
        silent = not self._silent and self._random.random() < SILENT
        seconds = SHORT if silent else LEASE
        words = ("--lane", LANE, "--as", NAME, "--lease", f"{seconds:g}", "--json")
        began = time.time()

        def then(said: Said) -> None:
            if said.exit_code != 0:
                return  # somebody has it, or the ledger is locked
            self._silent = silent
            lease = json.loads(said.text[said.text.index("{") :])["lease"]
            self._notes.done["lane claims"] += 1
            now, wall = time.monotonic(), time.time()
            think = seconds + LATE if silent else self._random.uniform(0.2, 3.0)
            over = wall + seconds
            self._lease = _Lease(lease["id"], lease["fence"], now + think, over, silent)
            if silent:
                self._notes.done["leases left to run out"] += 1
                self._lost(lease["id"], began + seconds)

        self._run("claim", *words, then=then)

    def _lost(self, task: str, since: float) -> None:
        """From now on its attempt may end as lost."""
        until = time.time() + LEASE
        lost = frozenset({Outcome.LOST})
        self._notes.harms.append(Harm("silence", since, until, f"@{NAME}", task, lost))

    def _answer(self, lease: _Lease) -> None:
        text = f"{lease.task} {lease.fence}"

        def then(said: Said) -> None:
            ours = said.exit_code == 0
            if ours and lease.silent:
                self._wrong("leases are kept", f"an answer to {text} was taken after its lease")
            if ours:
                self._notes.answers[lease.task] = text
                self._notes.done["lane answers"] += 1
            elif time.time() > lease.over:
                self._lost(lease.task, lease.over)
            else:
                found = self._ledger.task(lease.task)
                if found is not None and found.held and found.fence == lease.fence:
                    self._next = time.monotonic() + _REST
                    return  # the ledger was locked: once more
                if found is not None and found.state is not TaskState.CANCELLED:
                    self._wrong("leases are kept", f"{text}: {said.text.strip()[:300]}")
            self._lease = None

        fence = str(lease.fence)
        self._run("respond", lease.task, "--fence", fence, "--as", NAME, text, then=then)
