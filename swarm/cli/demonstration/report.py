"""What the demo ends with: counts from the ledger and from git, none of them made up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import msgspec

from swarm.cli.demonstration.stage import Stage
from swarm.cli.hubs import git, hub_of
from swarm.cli.screen import seconds_of
from swarm.errors import GitError
from swarm.ledger import Ledger, Task

SAVED = "Work in progress of "
"""How the messages of commits begin that save what a session had not committed."""


@dataclass(frozen=True, slots=True)
class Report:
    """The demo in numbers."""

    tasks: int
    by_role: tuple[tuple[str, int], ...]
    outcomes: tuple[tuple[str, int], ...]
    """How attempts ended, and how many."""
    branches: tuple[tuple[str, int], ...]
    """Branches in the hub and the commits on each."""
    saved: int
    """How many of these hold what an attempt that was ended had not committed itself."""
    restarts: int
    from_announcement: tuple[float, ...]
    """Seconds from a task's last announcement to its session's start."""
    from_entry: tuple[float, ...]
    """Seconds from a task's entry in the ledger to its first session's start."""
    seconds: float = 0.0

    @classmethod
    def of(cls, stage: Stage, ledger: Ledger, ids: Sequence[str], restarts: int) -> Report:
        """Read it from the ledger and the hub.  Raises :class:`GitError` for a branch missing."""
        tasks = [task for one in ids if (task := ledger.task(one)) is not None]
        attempts = [attempt for task in tasks for attempt in ledger.attempts(task.id)]
        events = [event for task in tasks for event in ledger.events(task=task.id)]
        landed = [task for task in tasks if task.branch is not None and task.commits]
        return cls(
            tasks=len(tasks),
            by_role=_counted(task.role for task in tasks),
            outcomes=_counted(str(attempt.outcome) for attempt in attempts),
            branches=tuple((task.branch or "", _commits(stage, task)) for task in landed),
            saved=sum(_commits(stage, task, SAVED) for task in landed),
            restarts=restarts,
            from_announcement=_between(
                _announcements(stage.places.service_log("coordinator")), "announced", "started"
            ),
            from_entry=_between(
                [(event.kind, event.task, event.at) for event in events], "submitted", "begun"
            ),
        )

    def within(self, seconds: float) -> Report:
        """The same, with how long the whole demo took."""
        return replace(self, seconds=seconds)

    def lines(self) -> list[str]:
        """For people."""
        commits = sum(count for _, count in self.branches)
        of_the_killed = f", {self.saved} of them saved from the killed agent" * bool(self.saved)
        return [
            f"tasks        {self.tasks} done ({_listed(self.by_role)})",
            f"attempts     {sum(n for _, n in self.outcomes)} ({_listed(self.outcomes)})",
            f"commits      {commits} on {len(self.branches)} branches of the hub{of_the_killed}",
            *(f"             {count}  {branch}" for branch, count in self.branches),
            f"restarts     {self.restarts}",
            f"to session   {_times(self.from_announcement)}, from the announcement",
            f"             {_times(self.from_entry)}, from 'task add', waiting included",
            f"all in       {self.seconds:.1f} s",
        ]


def _announcements(log: Path) -> list[tuple[str, str, float]]:
    """What the coordinator logged of announcements and starts: kind, task, Unix seconds."""
    found = []
    for line in log.read_text().splitlines() if log.exists() else ():
        entry = msgspec.json.decode(line, type=dict[str, object])
        at = seconds_of(entry.get("ts"))
        if at is not None and entry.get("kind") in ("announced", "started"):
            found.append((str(entry["kind"]), str(entry.get("task")), at))
    return found


def _between(events: Sequence[tuple[str, str, float]], first: str, then: str) -> tuple[float, ...]:
    """Seconds from each task's last ``first`` before a ``then`` to that ``then``."""
    since: dict[str, float] = {}
    found: list[float] = []
    for kind, task, at in sorted(events, key=lambda event: event[2]):
        if kind == first:
            since[task] = at
        elif kind == then and task in since:
            found.append(at - since.pop(task))
    return tuple(found)


def _commits(stage: Stage, task: Task, subject: str = "") -> int:
    """Commits on the task's branch, of that beginning, that are not on the project's own."""
    hub = hub_of(stage.places, task)
    if hub is None or task.commits is None:
        raise GitError(f"the hub has no branch {task.branch}", "see the coordinator's log")
    counted = git(
        hub,
        "rev-list",
        "--count",
        f"--grep=^{subject}",
        "--end-of-options",
        f"{task.commits[0]}^..refs/heads/{task.branch}",
        "--",
    )
    return int(counted.stdout or b"0")


def _counted(words: Iterable[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(Counter(words).items()))


def _listed(counts: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts)


def _times(seconds: Sequence[float]) -> str:
    if not seconds:
        return "not measured"
    return f"median {median(seconds) * 1000:.0f} ms, slowest {max(seconds) * 1000:.0f} ms"
