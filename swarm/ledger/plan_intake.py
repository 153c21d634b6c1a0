"""Taking in a plan's tasks: checked all together, inserted in their order."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from swarm.core.model import TaskState, is_component
from swarm.errors import UsageError
from swarm.ledger import dependents
from swarm.ledger.inserting import Clean, InPlan, cleaned, insert, insert_needs
from swarm.ledger.intake import one_line
from swarm.ledger.moves import add_event
from swarm.ledger.plan_records import PlannedTask
from swarm.ledger.rows import needed

MAX_TASKS = 10_000
"""Tasks of one plan."""


def cleaned_tasks(tasks: Sequence[PlannedTask], known: frozenset[str]) -> list[Clean]:
    """Every task checked; keys unique, references to be met, no circle.  ``known`` are keys."""
    if len(tasks) > MAX_TASKS:
        raise UsageError(f"a plan of {len(tasks)} tasks", f"give at most {MAX_TASKS}")
    keys: set[str] = set(known)
    for one in tasks:
        if not is_component(one.key):
            raise UsageError(
                f"{one_line(one.key, 40)!r} cannot be a task's key",
                "use 1 to 64 letters, digits, dots, dashes or underscores",
            )
        if one.key in keys:
            raise UsageError(f"two tasks have the key {one.key!r}", "give each a key of its own")
        keys.add(one.key)
    for one in tasks:
        for key in one.after:
            if key not in keys:
                raise UsageError(
                    f"{one.key} is after {one_line(key, 40)!r}, which no task of the plan is",
                    "name another task's key",
                )
    _refuse_circle(tasks)
    return [cleaned(one.task) for one in tasks]


def _refuse_circle(tasks: Sequence[PlannedTask]) -> None:
    """Take away what waits for nothing, again and again: what is left waits for itself."""
    own = {one.key for one in tasks}
    waits = {one.key: len({key for key in one.after if key in own}) for one in tasks}
    waiting: dict[str, list[str]] = {}
    for one in tasks:
        for key in dict.fromkeys(one.after):
            waiting.setdefault(key, []).append(one.key)
    free = [key for key, count in waits.items() if not count]
    for key in free:  # a queue: it grows while it is walked
        for other in waiting.get(key, ()):
            waits[other] -= 1
            if not waits[other]:
                free.append(other)
    if len(free) < len(tasks):
        left = ", ".join(sorted(own.difference(free))[:5])
        raise UsageError(f"the plan's tasks wait for each other: {left}", "break the circle")


def insert_all(
    db: sqlite3.Connection,
    plan: int,
    tasks: Sequence[PlannedTask],
    clean: Sequence[Clean],
    now: float,
    paused: bool,
    earlier: Sequence[int],
    known: Mapping[str, sqlite3.Row] | None = None,
) -> dict[str, str]:
    """Insert tasks in their order, then what each waits for; ids by key."""
    ids: dict[str, str] = {}
    numbers: dict[str, tuple[int, bool]] = {
        key: (int(row["seq"]), row["state"] == TaskState.DONE) for key, row in (known or {}).items()
    }
    outer: list[list[tuple[int, bool]]] = []
    for one, checked in zip(tasks, clean, strict=True):
        needs = [needed(db, task) for task in checked.new.after]
        if not (one.after or needs):
            needs = [(seq, False) for seq in earlier]
        outer.append(needs)
        ids[one.key], seq = insert(db, checked, 0, now, InPlan(plan, one.key, paused))
        numbers[one.key] = (seq, False)
        add_event(db, now, seq, "submitted")
    for one, needs in zip(tasks, outer, strict=True):
        seq = numbers[one.key][0]
        every = dict([*needs, *(numbers[key] for key in one.after)])
        if not every:
            continue
        insert_needs(db, seq, every.items())
        blocked = sum(not met for met in every.values())
        db.execute("UPDATE tasks SET blocked = ? WHERE seq = ?", (blocked, seq))
    for one, needs in zip(tasks, outer, strict=True):
        if needs or known:
            dependents.reconsider(db, numbers[one.key][0], now)
    return ids
