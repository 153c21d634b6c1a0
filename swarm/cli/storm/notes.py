"""What was asked of a storm, and what it has done so far."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass, field

from swarm.cli.storm.deliveries import PlanNote
from swarm.cli.storm.invariants import Harm
from swarm.cli.storm.plan import PACE, Kind, Way
from swarm.cli.storm.stage import Size
from swarm.cli.storm.telling import Told
from swarm.cli.storm.work import Piece


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for."""

    seed: int
    seconds: float
    size: Size
    tasks: int | None = None
    """No more tasks than these; ``None`` as many as the fleet takes."""
    only: tuple[Kind, ...] = tuple(Kind)
    without: tuple[Way, ...] = ()
    pace: float = PACE

    def command(self) -> str:
        """The command line of the same storm."""
        words = ["agentctl", "chaos", "--seed", str(self.seed), "--seconds", f"{self.seconds:g}"]
        words += ["--agents", str(self.size.agents)]
        words += ["--tasks", str(self.tasks)] if self.tasks is not None else []
        words += ["--pace", f"{self.pace:g}"] if self.pace != PACE else []
        words += ["--only", ",".join(self.only)] if set(self.only) != set(Kind) else []
        return shlex.join(words)


@dataclass(slots=True)
class Notes:
    """The storm's own book."""

    pieces: dict[str, Piece] = field(default_factory=dict)
    """By task id."""
    drops: dict[str, Piece] = field(default_factory=dict)
    """By name in the inbox."""
    plans: list[PlanNote] = field(default_factory=list)
    announced: dict[str, frozenset[str]] = field(default_factory=dict)
    """By task: commits that its sessions said, in logs that may be gone by now."""
    cleaned: bool = False
    """Whether branches, logs and folders of ended tasks may be gone."""
    accepted: dict[str, str] = field(default_factory=dict)
    """By prompt: the task that the HTTP interface said it has become."""
    unanswered: list[Piece] = field(default_factory=list)
    """Handed in over HTTP without an answer: each may be in the ledger, once."""
    waited: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    """By task: state and result that a wait over HTTP ended with."""
    told: list[Told] = field(default_factory=list)
    """What the webhook was told."""
    answers: dict[str, str] = field(default_factory=dict)
    """By task: what an outsider answered under a lease that was its own."""
    late: set[str] = field(default_factory=set)
    """What an outsider answered after the end of its lease."""
    done: Counter[str] = field(default_factory=Counter)
    """What people and outsiders did, by kind."""
    persons: list[tuple[str, float]] = field(default_factory=list)
    """Commits that a person made on the source's target, and when (Unix seconds)."""
    source: dict[str, str] = field(default_factory=dict)
    """Fingerprint of the source after the person's last own act there."""
    tips: list[str] = field(default_factory=list)
    """Every commit that the hub's target was seen at, in order."""
    published: list[str] = field(default_factory=list)
    """The same of the source's branch that is published to."""
    harms: list[Harm] = field(default_factory=list)
    cancelled: set[str] = field(default_factory=set)
    disturbed: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    """Disturbances that found nobody."""
    clean: list[float] = field(default_factory=list)
    """Seconds from each kill of the supervisor that was waited for to no process left."""
