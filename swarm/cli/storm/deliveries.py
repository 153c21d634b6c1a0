"""What a storm hands over besides single tasks: plans with dependencies, and drops; pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from random import Random

from swarm.cli.storm.work import Piece, piece
from swarm.core.model import OnFailed, Review

PLAN_TASKS = (4, 7)
"""A plan has at least and at most so many tasks."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One task of a plan, and the keys of those that it is after."""

    key: str
    piece: Piece
    after: tuple[str, ...]
    on_failed: OnFailed


@dataclass(slots=True)
class PlanNote:
    """A plan of the storm's; ``tasks`` (key → id) is empty until it was taken in."""

    name: str
    planned: tuple[Planned, ...]
    id: str = ""
    tasks: dict[str, str] = field(default_factory=dict)


def plan_of(seed: int, number: int) -> tuple[Planned, ...]:
    """The plan whose first task is piece ``number`` of the storm of ``seed``; pure.

    Nothing is after a task that asks a person: it would wait for ever.
    """
    random = Random(f"plan {seed} {number}")  # noqa: S311 - to be repeated, not secret
    found: list[Planned] = []
    for n in range(random.randint(*PLAN_TASKS)):
        one = piece(seed, number + n)
        before = [p.key for p in found if not p.piece.waits_for_ever]
        after = tuple(sorted(random.sample(before, min(len(before), random.randint(0, 2)))))
        way = random.choice((OnFailed.SKIP, OnFailed.RUN))
        found.append(Planned(f"k{number + n}", one, after, way))
    return tuple(found)


def plan_text(name: str, planned: tuple[Planned, ...]) -> str:
    """As a file for ``agentctl plan apply``; JSON is YAML."""
    tasks = [
        {
            "key": one.key,
            "text": one.piece.prompt,
            "after": list(one.after),
            "on_failed": str(one.on_failed),
            **_settings(one.piece),
        }
        for one in planned
    ]
    return json.dumps({"title": name, "tasks": tasks}, indent=1)


def drop_text(one: Piece) -> str:
    """As a file for the inbox."""
    lines = [f"{key}: {json.dumps(value)}" for key, value in _settings(one).items()]
    return "\n".join(["---", *lines, "---", one.prompt])


def _settings(one: Piece) -> dict[str, str]:
    found = {"role": one.role}
    if one.review is not Review.NONE:
        found["review"] = str(one.review)
    if one.lane:
        found["lane"] = one.lane
    return found
