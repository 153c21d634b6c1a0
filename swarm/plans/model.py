"""A plan as it was written: its tasks, each with the line it stands on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from swarm.config.document import Problem
from swarm.core.budget import NOTHING, Amount
from swarm.core.model import Merge, OnFailed, Review

MAX_TASKS = 10_000
MAX_BYTES = 8 * 1024 * 1024
"""Of a plan file."""
MAX_MADE = 59_000
"""Characters of a plan that a session wrote: a report carries 60,000, and cuts what is longer."""
MAX_FILES = 200
"""Files one task may name."""
MAX_PATH = 400
"""Characters of a file's name."""

EARLIER = "earlier"
"""``earlier/key`` is a task of the plan that ``--follows`` names."""


@dataclass(frozen=True, slots=True)
class PlanTask:
    """One task of a plan file."""

    key: str
    text: str
    line: int
    """Where it begins; 0 where that is not known."""
    title: str = ""
    role: str = "builder"
    component: str = ""
    priority: int = 0
    after: tuple[str, ...] = ()
    """Keys of the same file."""
    outside: tuple[tuple[str, int], ...] = ()
    """What else it is after, with the line: ``t-…``, ``p-…/key``, ``earlier/key``."""
    files: tuple[str, ...] = ()
    """Files of the repository it is about."""
    on_failed: OnFailed = OnFailed.HOLD
    review: Review | None = None
    merge: Merge | None = None
    lane: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    thread: str = ""
    budget: Amount = NOTHING

    @property
    def prompt(self) -> str:
        """What the task's session is told: its text, and the files it is about."""
        if not self.files:
            return self.text
        named = "\n".join(f"- {path}" for path in self.files)
        return f"{self.text}\n\nFiles of the repository this is about:\n{named}"


@dataclass(frozen=True, slots=True)
class PlanFile:
    """A plan without problems."""

    name: str
    """The file, as it was named."""
    title: str
    tasks: tuple[PlanTask, ...]
    source: str
    """Its text."""


@dataclass(frozen=True, slots=True)
class Read:
    """What reading a plan file gave: a plan, or problems."""

    plan: PlanFile | None
    problems: tuple[Problem, ...] = ()
