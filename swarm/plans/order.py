"""What of a plan waits for what: circles, waves, and tasks that may get in each other's way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from posixpath import normpath

from swarm.plans.model import PlanTask

MAX_CIRCLES = 10
MAX_CONFLICTS = 20


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two tasks that may run at the same time and are about the same file."""

    path: str
    one: str
    other: str


def circles(after: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
    """Circles among keys, at most ten, each as the way round: ``[a, b, a]``.

    References to nothing here are passed over.
    """
    left = _without_free({key: _known(refs, after) for key, refs in after.items()})
    for _ in range(MAX_CIRCLES):
        if not left:
            return
        seen: dict[str, int] = {}
        key, way = next(iter(left)), list[str]()
        while key not in seen:  # each of what is left waits for another of what is left
            seen[key] = len(way)
            way.append(key)
            key = min(left[key])
        circle = way[seen[key] :]
        yield [*circle, circle[0]]
        gone = set(circle)
        left = _without_free({k: refs - gone for k, refs in left.items() if k not in gone})


def waves(tasks: Sequence[PlanTask]) -> list[list[PlanTask]]:
    """The tasks by how many others must be done one after another before each can start.

    In a wave the order is that of the queue: highest priority first, then as written.  A wave is
    no barrier: a task starts as its own last dependency is done.
    """
    depth: dict[str, int] = {}
    for task in in_order(tasks):
        depth[task.key] = 1 + max((depth[key] for key in task.after), default=-1)
    found: list[list[PlanTask]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for task in tasks:
        found[depth[task.key]].append(task)
    return [sorted(wave, key=lambda task: -task.priority) for wave in found]


def in_order(tasks: Iterable[PlanTask]) -> list[PlanTask]:
    """The tasks so that each comes after all it waits for; there is no circle among them."""
    by_key = {task.key: task for task in tasks}
    waits = {key: len(task.after) for key, task in by_key.items()}
    waiting: dict[str, list[str]] = {}
    for key, task in by_key.items():
        for ref in task.after:
            waiting.setdefault(ref, []).append(key)
    free = [key for key, count in waits.items() if not count]
    for key in free:  # a queue: it grows while it is walked
        for other in waiting.get(key, ()):
            waits[other] -= 1
            if not waits[other]:
                free.append(other)
    return [by_key[key] for key in free]


def conflicts(tasks: Sequence[PlanTask]) -> tuple[list[Conflict], int]:
    """Pairs of tasks that name the same file and do not wait for each other.

    The first twenty, and how many there are; of many tasks about one file each is told once.
    """
    named: dict[str, list[str]] = {}
    for task in tasks:
        for path in {normpath(path) for path in task.files}:
            named.setdefault(path, []).append(task.key)
    shared = {path: keys for path, keys in sorted(named.items()) if len(keys) > 1}
    if not shared:
        return [], 0
    number = {task.key: place for place, task in enumerate(tasks)}
    before: dict[str, int] = {}  # as bits, by number: all that must be done before a task
    for task in in_order(tasks):
        bits = 0
        for key in task.after:
            bits |= before[key] | 1 << number[key]
        before[task.key] = bits
    found: list[Conflict] = []
    count = 0
    for path, keys in shared.items():
        for place, other in enumerate(keys):
            free = (
                key
                for key in keys[:place]
                if not (before[other] >> number[key] & 1 or before[key] >> number[other] & 1)
            )
            if (one := next(free, None)) is not None:
                count += 1
                if len(found) < MAX_CONFLICTS:
                    found.append(Conflict(path, one, other))
    return found, count


def _known(refs: Iterable[str], keys: Mapping[str, object]) -> dict[str, None]:
    return dict.fromkeys(ref for ref in refs if ref in keys)


def _without_free(after: Mapping[str, Mapping[str, None] | set[str]]) -> dict[str, set[str]]:
    """What is left when all that waits for nothing is taken away, again and again."""
    waits = {key: set(refs) for key, refs in after.items()}
    waiting: dict[str, list[str]] = {}
    for key, refs in waits.items():
        for ref in refs:
            waiting.setdefault(ref, []).append(key)
    count = {key: len(refs) for key, refs in waits.items()}
    free = [key for key, number in count.items() if not number]
    for key in free:  # a queue: it grows while it is walked
        for other in waiting.get(key, ()):
            count[other] -= 1
            if not count[other]:
                free.append(other)
    gone = set(free)
    return {key: refs - gone for key, refs in waits.items() if key not in gone}
