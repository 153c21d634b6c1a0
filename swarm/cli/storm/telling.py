"""Whether people were told: what the hooks of a storm's fleet must have heard; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from swarm.cli.storm.invariants import Violation
from swarm.core.model import NoticeKind, TaskResult, TaskState

PEOPLE = "people are told"
COMMAND, WEBHOOK = "command", "webhook"
WANTED: dict[str, tuple[str, ...]] = {
    COMMAND: (NoticeKind.NEEDS_HUMAN, NoticeKind.REVIEW, NoticeKind.FAILED),
    WEBHOOK: ("*",),
}
"""What each hook is configured to hear of."""
_ENDS = {
    TaskState.DONE: NoticeKind.DONE,
    TaskState.FAILED: NoticeKind.FAILED,
    TaskState.NEEDS_HUMAN: NoticeKind.NEEDS_HUMAN,
}


@dataclass(frozen=True, slots=True)
class Told:
    """One notice as it came to a hook."""

    hook: str
    event: str
    task: str
    body: str
    taken: bool
    """The hook said that it has it; else it failed or hung, and is to be told again."""


@dataclass(frozen=True, slots=True)
class Ended:
    """One task at its end."""

    id: str
    state: TaskState
    result: str | None


def judge_told(tasks: Iterable[Ended], told: Iterable[Told]) -> list[Violation]:
    """Each hook heard, and took, how every task ended: at least once."""
    taken = {(one.hook, one.event, one.task) for one in told if one.taken}
    found = []
    for task in tasks:
        kind = _ENDS.get(task.state)
        if kind is NoticeKind.DONE and task.result == TaskResult.MERGED:
            kind = NoticeKind.MERGED
        for hook, wanted in WANTED.items():
            if kind is None or not {kind, "*"}.intersection(wanted):
                continue
            if (hook, kind, task.id) not in taken:
                what = f"{task.id} is {task.state}, and the {hook} was never told that"
                found.append(Violation(PEOPLE, what))
    return found


def judge_again(told: Iterable[Told], excuses: int) -> list[Violation]:
    """Told again is what a hook has not taken; else only what a disturbance kept from the ledger.

    ``excuses``: how many disturbances there were.
    """
    again = told_again(told)
    if again <= excuses:
        return []
    what = f"hooks were told {again} times again what they had taken, over {excuses} disturbances"
    return [Violation(PEOPLE, what)]


def told_again(told: Iterable[Told]) -> int:
    """How often a hook was told what it had taken."""
    taken = Counter((one.hook, one.body) for one in told if one.taken)
    return sum(count - 1 for count in taken.values())
