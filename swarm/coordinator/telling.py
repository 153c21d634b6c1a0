"""What people are told of, and by which hook: from the ledger's events to notices.  Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from swarm.core.model import NoticeKind, Review, TaskResult, TaskState
from swarm.ledger.intake import one_line
from swarm.ledger.interface import Event, Task
from swarm.ledger.notices_calls import NewNotice
from swarm.ledger.shown import rfc3339
from swarm.wire.lifeline import NotifyRule

MAX_TEXT = 4000
"""Characters of a notice's text."""
KINDS = {
    "needs_human": NoticeKind.NEEDS_HUMAN,
    "review": NoticeKind.REVIEW,
    "merged": NoticeKind.MERGED,
    "done": NoticeKind.DONE,
    "finished": NoticeKind.DONE,
    "failed": NoticeKind.FAILED,
    "plan": NoticeKind.PLAN,
}
"""What each kind of the ledger's events may be to people."""
ENDS = frozenset(
    {"finished", "done", "merged", "failed", "needs_human", "skipped", "cancelled", "given_up"}
)
"""Kinds of events after which a task may have ended."""
_STILL = {
    NoticeKind.NEEDS_HUMAN: TaskState.NEEDS_HUMAN,
    NoticeKind.REVIEW: TaskState.REVIEW,
    NoticeKind.FAILED: TaskState.FAILED,
}
"""Told only while it is so: a question that was answered meanwhile is nobody's any more."""
_TODO = {
    NoticeKind.NEEDS_HUMAN: "agentctl task answer {} TEXT",
    NoticeKind.REVIEW: "agentctl task approve {}",
    NoticeKind.FAILED: "agentctl task retry {}",
}


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What a hook is told, as JSON; fields may be added, never renamed."""

    version: int = 1
    event: NoticeKind
    text: str
    at: str | None
    """RFC 3339."""
    home: str
    task: str | None = None
    title: str | None = None
    state: TaskState | None = None
    result: TaskResult | None = None
    role: str | None = None
    branch: str | None = None
    agent: str | None = None
    todo: str | None = None
    """The command that goes on with it."""


def hook_of(rule: NotifyRule) -> str:
    """A name for where a rule tells, the same over restarts, that shows nothing of its address."""
    where = msgspec.json.encode([rule.command, rule.webhook])
    return hashlib.sha256(where).hexdigest()[:16]


def wants(rule: NotifyRule, kind: NoticeKind) -> bool:
    """Whether a rule names this kind; what is merged is done, too."""
    return (
        "*" in rule.on
        or kind.value in rule.on
        or (kind is NoticeKind.MERGED and NoticeKind.DONE.value in rule.on)
    )


def kind_of(event: Event, task: Task, later: Iterable[Event], review: Review) -> NoticeKind | None:
    """What an event is to people, if anything.

    ``later`` are the task's events after it; ``review`` is who judges its work.
    """
    kind = KINDS.get(event.kind)
    if kind is None or _STILL.get(kind, task.state) is not task.state:
        return None
    if kind is NoticeKind.REVIEW and review is not Review.HUMAN:
        return None
    if kind is not NoticeKind.DONE:
        return kind
    if task.state is not TaskState.DONE or any(KINDS.get(one.kind) in _OVER for one in later):
        return None  # that report was not its end, or its end is told by an event of its own
    return kind


_OVER = frozenset({NoticeKind.DONE, NoticeKind.MERGED})


def told(kind: NoticeKind, event: Event, task: Task, home: str) -> Notice:
    """The notice of a task's event."""
    text = event.detail if kind is NoticeKind.PLAN else task.reason
    if kind in _OVER:
        text = task.answer or (f"{task.result}" if task.result else "")
    elif kind is NoticeKind.REVIEW:
        text = f"commit {(task.tip or '')[:12]} waits for approval" + (f": {text}" if text else "")
    todo = _TODO.get(kind)
    return Notice(
        event=kind,
        text=text[:MAX_TEXT],
        at=rfc3339(event.at),
        home=home,
        task=task.id,
        title=task.title,
        state=task.state,
        result=task.result,
        role=task.role,
        branch=task.branch,
        agent=event.agent or task.agent or None,
        todo=None if todo is None else todo.format(task.id),
    )


def of_fleet(kind: NoticeKind, text: str, agent: str, at: float, home: str) -> Notice:
    """The notice of something that is about no task."""
    return Notice(
        event=kind, text=one_line(text, MAX_TEXT), at=rfc3339(at), home=home, agent=agent or None
    )


def addressed(notice: Notice, rules: Sequence[NotifyRule]) -> list[NewNotice]:
    """The notice once for each hook that wants it, however many rules name that."""
    hooks = dict.fromkeys(hook_of(rule) for rule in rules if wants(rule, notice.event))
    body = msgspec.json.encode(notice).decode() if hooks else ""
    return [NewNotice(hook, notice.event.value, notice.task or "", body) for hook in hooks]
