"""The person whose project it is: commits, approvals, answers, retries; all by ``agentctl``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from swarm.cli.demonstration.stage import Stage
from swarm.cli.storm.fleet import Fleet, Said
from swarm.cli.storm.notes import Notes
from swarm.cli.storm.stage import TARGET, fingerprint, persons_git
from swarm.cli.storm.work import Sort
from swarm.core.model import Review, TaskKind, TaskState
from swarm.ledger import Ledger, Task

EVERY = 1.0
"""Seconds between two looks at what waits for a person."""
MOST_SEEN = 1000
"""Tasks that have ended badly, of which the person looks at the newest."""


class Person:
    """Does what only a person can, one thing at a time; ``heard`` judges what each command said."""

    def __init__(
        self,
        stage: Stage,
        fleet: Fleet,
        ledger: Ledger,
        notes: Notes,
        heard: Callable[[Said], object],
    ) -> None:
        self._stage, self._fleet, self._ledger = stage, fleet, ledger
        self._notes, self._heard = notes, heard
        self._busy = False
        self._next = 0.0
        self._retried: set[str] = set()
        """Each is retried once."""

    def commit(self) -> str:
        """Commit a file of their own on the source's target; what else is staged stays so."""
        number = len(self._notes.persons) + 1
        name = f"person/p{number}.txt"
        path = self._stage.repository / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"by hand, {number}\n")
        persons_git(self._stage, "add", name)
        persons_git(self._stage, "commit", "-q", "-m", f"By hand: {number}", "--", name)
        made = persons_git(self._stage, "rev-parse", "HEAD")
        self._notes.persons.append((made, time.time()))
        self._notes.source = fingerprint(self._stage.repository)
        return name

    @property
    def idle(self) -> bool:
        """Whether nothing waits for them."""
        return not self._busy and self._first() is None

    def turn(self, now: float) -> None:
        """Decide the first thing that waits for a person."""
        if self._busy or now < self._next:
            return
        self._next = now + EVERY
        if (words := self._first()) is None:
            return
        self._busy = True
        if words[0] == "retry":
            self._retried.add(words[1])

        def then(said: Said) -> None:
            self._busy = False
            self._next = 0.0
            self._heard(said)
            if said.exit_code == 0:
                self._notes.done[f"task {words[0]}"] += 1

        self._fleet.run("task", *words, then=then)

    def _first(self) -> tuple[str, ...] | None:
        for task in self._ledger.tasks([TaskState.REVIEW, TaskState.NEEDS_HUMAN]):
            if (words := self._decision(task)) is not None:
                return words
        for task in self._ledger.tasks([TaskState.FAILED, TaskState.CANCELLED], limit=MOST_SEEN):
            if (words := self._again(task)) is not None:
                return words
        return None

    def _again(self, task: Task) -> tuple[str, ...] | None:
        """Half of what failed or was cancelled is retried, with a remark or on a new branch."""
        ours = task.id in self._notes.pieces and task.id not in self._retried
        if task.seq % 2 or not ours:
            return None
        if task.seq % 3 == 0:
            return ("retry", task.id, "once more, please")
        return ("retry", task.id, "--fresh") if task.seq % 4 == 0 else ("retry", task.id)

    def _decision(self, task: Task) -> tuple[str, ...] | None:
        if task.state is TaskState.REVIEW:
            if task.review is not Review.HUMAN or task.tip is None:
                return None
            if task.seq % 3 == 0 and not task.revisions:
                return ("reject", task.id, "--commit", task.tip, "do it again")
            return ("approve", task.id, "--commit", task.tip)
        if task.title.endswith(f", {Sort.ASKS}"):
            return None
        if task.tip is not None and task.kind is TaskKind.WORK:
            return ("approve", task.id, "--commit", task.tip)
        return ("answer", task.id, "go on")


def hold_target(hub: Path) -> Callable[[], None] | None:
    """Hold the target's reference in the hub as a git at work does; how to let go of it."""
    path = hub / "refs" / "heads" / f"{TARGET}.lock"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
    ours = _identity(os.fstat(fd))
    os.close(fd)

    def release() -> None:
        try:
            if _identity(os.lstat(path)) == ours:
                path.unlink()
        except FileNotFoundError:
            pass  # it was taken for a dead one's, rightly

    return release


def _identity(info: os.stat_result) -> tuple[int, int, int]:
    return info.st_ino, info.st_mtime_ns, info.st_size
