"""The verbs that wait: for a task's end, for a task to take."""

from __future__ import annotations

import msgspec

from swarm.core.model import TaskState
from swarm.desk import replies, requests, verbs
from swarm.desk.changes import Changes
from swarm.desk.verbs import Desk
from swarm.errors import UsageError
from swarm.ledger import Task

LOOK_SECONDS = 1.0
"""Between two looks for what time alone brings: a retry's delay, the end of somebody's lease."""


async def wait_for(desk: Desk, changes: Changes, asked: requests.WaitFor) -> replies.Waited:
    """Wait until a task has ended, at most so many seconds."""
    task = desk.ledger.find(asked.id).id

    def look() -> Task | None:
        found = desk.ledger.task(task)
        return found if found is not None and found.state.ended else None

    ended = await changes.until(look, asked.seconds)
    shown = verbs.show(desk, requests.Show(id=task))
    return replies.Waited(ended=ended is not None, task=shown.task, where=shown.where)


async def claim(desk: Desk, changes: Changes, asked: requests.Claim) -> replies.Taken:
    """Take a task, waiting for one at most ``wait_seconds``."""
    if asked.id:
        exact = desk.ledger.find(asked.id).id
        asked = msgspec.structs.replace(asked, id=exact)

    def look() -> replies.Taken | None:
        _end_overdue(desk)
        if not asked.id and _next(desk, asked) is None:
            return None  # seen without the write lock
        taken = verbs.claim(desk, asked)
        if taken.lease is None and asked.id:
            _refuse_ended(desk, asked.id)
        return taken if taken.lease is not None else None

    # The first time unseen: a name or lane that cannot be is told at once.
    taken = verbs.claim(desk, asked)
    if taken.lease is None and asked.wait_seconds:
        taken = await changes.until(look, asked.wait_seconds, LOOK_SECONDS) or taken
    return taken


async def await_task(desk: Desk, changes: Changes, asked: requests.Await) -> replies.Available:
    """Wait until there is a task that could be claimed."""

    def look() -> Task | None:
        _end_overdue(desk)
        return _next(desk, asked)

    found = await changes.until(look, asked.seconds, LOOK_SECONDS)
    if found is None:
        return replies.Available(id=None, title=None)
    return replies.Available(id=found.id, title=found.title)


def _next(desk: Desk, asked: requests.Claim | requests.Await) -> Task | None:
    """The task a claim would give, unless somebody is quicker."""
    return desk.ledger.lane_next(roles=asked.roles, lane=asked.lane, labels=asked.labels)


def _end_overdue(desk: Desk) -> None:
    """Where no swarm does it: leases of outsiders that have run out are over."""
    if not desk.live:
        desk.ledger.expire_leases()


def _refuse_ended(desk: Desk, task: str) -> None:
    found = desk.ledger.task(task)
    if found is not None and found.state.ended and found.state is not TaskState.NEEDS_HUMAN:
        raise UsageError(f"{task} is {found.state}", "there is nothing left to do")
