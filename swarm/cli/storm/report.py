"""What a storm came to: for people, and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from swarm.cli.storm.invariants import RULES, TaskSeen, Violation

_MAX_SHOWN = 40
"""Violations that are shown to people; JSON has all."""


@dataclass(frozen=True, slots=True)
class Report:
    """One storm in numbers."""

    seed: int
    seconds: float
    """How long the disturbing lasted."""
    took: float
    """Seconds in all, from the first to the last process."""
    agents: int
    repeat: str
    """The command that brings the same storm again."""
    disturbed: dict[str, int]
    """How often each disturbance was done."""
    missed: dict[str, int]
    """How often one found nobody to disturb."""
    worst: dict[str, float]
    """By disturbance, the longest time in seconds until its victim was well again."""
    clean: tuple[float, ...]
    """Seconds from each kill of the supervisor that was waited for to no process left."""
    tasks: dict[str, int]
    """Tasks by what became of them."""
    attempts: dict[str, int]
    """Attempts by outcome."""
    sorts: dict[str, int]
    commits: int
    """Commits announced by sessions, all of them looked for in the hub."""
    lost: int
    """Of those, how many are not there."""
    statuses: int
    """Answers of the supervisor that were checked."""
    memory_mb: dict[str, float]
    open_files: dict[str, int]
    violations: tuple[Violation, ...] = ()
    done: dict[str, int] = field(default_factory=dict)
    """What else happened: drops, plans, reviews, leases, what people did."""
    home: str = ""
    """Where everything lies, when it was kept."""
    rules: tuple[str, ...] = field(default=RULES)

    @property
    def held(self) -> bool:
        """Whether every invariant held."""
        return not self.violations

    def to_json(self) -> dict[str, Any]:
        """The object of ``--json``, version 1."""
        return {
            "version": 1,
            "ok": self.held,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "took_seconds": round(self.took, 1),
            "agents": self.agents,
            "repeat": self.repeat,
            "disturbed": self.disturbed,
            "missed": self.missed,
            "worst_recovery_seconds": {k: round(v, 3) for k, v in self.worst.items()},
            "supervisor_killed_to_clean_seconds": [round(one, 3) for one in self.clean],
            "tasks": self.tasks,
            "attempts": self.attempts,
            "sorts": self.sorts,
            "done": self.done,
            "commits_announced": self.commits,
            "commits_lost": self.lost,
            "statuses_checked": self.statuses,
            "memory_mb": {k: round(v, 1) for k, v in self.memory_mb.items()},
            "open_files": self.open_files,
            "rules": list(self.rules),
            "violations": [
                {"rule": v.rule, "what": v.what, "at_seconds": round(v.at, 1)}
                for v in self.violations
            ],
            "home": self.home or None,
        }

    def lines(self) -> list[str]:
        """For people."""
        return [*self._table(), "", *self._numbers(), "", *self._verdict()]

    def _table(self) -> list[str]:
        width = max([len(name) for name in (*self.disturbed, *self.missed)] + [12])
        head = f"{'disturbance':<{width}}  times  nobody there  well again after, at worst"
        rows = []
        for name in sorted({*self.disturbed, *self.missed}):
            worst = f"{self.worst[name]:.2f} s" if name in self.worst else "-"
            times, missed = self.disturbed.get(name, 0), self.missed.get(name, 0)
            rows.append(f"{name:<{width}}  {times:>5}  {missed or '-':>12}  {worst}")
        return [head, *rows]

    def _numbers(self) -> list[str]:
        slowest = f"{max(self.clean):.2f} s at worst, of {len(self.clean)}" if self.clean else "-"
        memory, files = self.memory_mb.get("supervisor", 0), self.open_files.get("supervisor", 0)
        return [
            f"seed         {self.seed}, {self.seconds:.0f} s, {self.agents} agents",
            f"disturbed    {sum(self.disturbed.values())} times",
            f"tasks        {sum(self.tasks.values())} ({_listed(self.tasks)})",
            f"attempts     {sum(self.attempts.values())} ({_listed(self.attempts)})",
            f"commits      {self.commits} announced, {self.lost or 'none'} lost",
            f"besides      {_listed(self.done)}",
            f"kill → clean {slowest}",
            f"supervisor   {memory:.0f} MB, {files} open files at most",
            f"statuses     {self.statuses} checked",
            f"all in       {self.took:.0f} s",
        ]

    def _verdict(self) -> list[str]:
        if self.held:
            return [f"all {len(self.rules)} invariants hold; lost: nothing"]
        shown = [
            f"  {violation.rule}: {violation.what}"
            + (f" (at {violation.at:.1f} s)" if violation.at else "")
            for violation in self.violations[:_MAX_SHOWN]
        ]
        more = len(self.violations) - len(shown)
        return [
            f"{len(self.violations)} violations",
            *shown,
            *([f"  … and {more} more, see --json"] if more else []),
            f"kept: {self.home}",
            f"again: {self.repeat}",
        ]


def counted_tasks(tasks: Sequence[TaskSeen]) -> dict[str, int]:
    """Tasks by state and result, as in ``done/branch``."""
    return _counted("/".join(word for word in (t.state, t.result) if word) for t in tasks)


def counted_attempts(tasks: Sequence[TaskSeen]) -> dict[str, int]:
    """Attempts by outcome."""
    return _counted(str(a.outcome or "running") for t in tasks for a in t.attempts)


def counted_sorts(tasks: Sequence[TaskSeen]) -> dict[str, int]:
    """Tasks by what they were to do."""
    return _counted(t.piece.sort for t in tasks)


def _counted(words: Any) -> dict[str, int]:
    return dict(sorted(Counter(words).items()))


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
