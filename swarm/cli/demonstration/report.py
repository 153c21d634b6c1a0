"""What the demo ends with: counts from the ledger and from git, none of them made up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import msgspec

from swarm.cli.demonstration.project import PUBLISHED, landed
from swarm.cli.demonstration.stage import Stage
from swarm.cli.screen import seconds_of
from swarm.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Report:
    """The demo in numbers."""

    tasks: int
    by_role: tuple[tuple[str, int], ...]
    outcomes: tuple[tuple[str, int], ...]
    """How attempts ended, and how many."""
    landed: tuple[str, ...]
    """What is new on the project's published branch, newest first: commit and subject."""
    verdicts: tuple[tuple[str, int], ...]
    """What reviewers and people said of the work, and how often."""
    restarts: int
    from_announcement: tuple[float, ...]
    """Seconds from a task's last announcement to its session's start."""
    from_entry: tuple[float, ...]
    """Seconds from a task's entry in the ledger to its first session's start."""
    seconds: float = 0.0

    @classmethod
    def of(cls, stage: Stage, ledger: Ledger, ids: Sequence[str], restarts: int) -> Report:
        """Read it from the ledger and the project.

        Raises :class:`~swarm.errors.GitError` when nothing was published.
        """
        tasks = [task for one in ids if (task := ledger.task(one)) is not None]
        attempts = [attempt for task in tasks for attempt in ledger.attempts(task.id)]
        events = [event for task in tasks for event in ledger.events(task=task.id)]
        remarks = [remark for task in tasks for remark in ledger.remarks(task.id)]
        return cls(
            tasks=len(tasks),
            by_role=_counted(task.role for task in tasks),
            outcomes=_counted(str(attempt.outcome) for attempt in attempts),
            landed=landed(stage),
            verdicts=_counted(remark.verdict or str(remark.kind) for remark in remarks),
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
        return [
            f"tasks        {self.tasks} done ({_listed(self.by_role)})",
            f"attempts     {sum(n for _, n in self.outcomes)} ({_listed(self.outcomes)})",
            f"verdicts     {_listed(self.verdicts) or 'none'}",
            f"landed       {len(self.landed)} commits on {PUBLISHED}, for 'git merge {PUBLISHED}':",
            *(f"             {line}" for line in self.landed),
            "untouched    its main, its checkout, its index",
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


def _counted(words: Iterable[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(Counter(words).items()))


def _listed(counts: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts)


def _times(seconds: Sequence[float]) -> str:
    if not seconds:
        return "not measured"
    return f"median {median(seconds) * 1000:.0f} ms, slowest {max(seconds) * 1000:.0f} ms"
