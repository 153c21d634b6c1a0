"""What people are shown of a task's way to its target: review, approval, landing, remarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from swarm.core.model import RemarkKind
from swarm.ledger.intake import one_line
from swarm.ledger.records import Remark, Task
from swarm.logs import timestamp

SHORT = 12
"""Hex digits of a commit that are shown to people."""
LAST_REMARKS = 10
_SAID = {
    RemarkKind.APPROVAL: "approved",
    RemarkKind.REJECTION: "rejected",
    RemarkKind.QUESTION: "asked",
    RemarkKind.ANSWER: "answered",
}
"""How what people say is called; what others say is called by its kind."""
REMARK = 200
"""Characters of a remark in a list."""


def landing_json(task: Task) -> dict[str, Any]:
    """For ``task list --json`` and ``task show --json``; ``null`` where there is no such thing."""
    return {
        "kind": str(task.kind),
        "review": None if task.review is None else str(task.review),
        "merge": None if task.merge is None else str(task.merge),
        "tip": task.tip,
        "approved": task.approved,
        "landed": task.landed,
        "in_doubt": task.in_doubt,
        "revisions": task.revisions,
        "about_commit": task.about_commit,
    }


def remark_json(remark: Remark) -> dict[str, Any]:
    """For ``task show --json``."""
    return {
        "at": timestamp(remark.at),
        "kind": str(remark.kind),
        "author": remark.author or None,
        "commit": remark.commit,
        "verdict": remark.verdict or None,
        "counts": dict(remark.counts),
        "text": remark.text,
    }


def landing_lines(task: Task, remarks: Sequence[Remark]) -> list[str]:
    """The lines of ``task show``; none for a task nothing of which was ever to land."""
    lines = []
    if task.tip is not None:
        approved = ", approved" if task.approved == task.tip else ""
        lines.append(f"commit    {task.tip[:SHORT]}{approved}")
    if task.in_doubt is not None:
        short = task.in_doubt[:SHORT]
        lines.append(f"in doubt  {short} was landing; a running swarm finds out whether it has")
    if task.landed is not None:
        lines.append(f"landed    {task.landed[:SHORT]}{_earlier(task)}")
    if task.revisions:
        lines.append(f"revised   {task.revisions} time{'s' * (task.revisions != 1)}")
    shown = remarks[-LAST_REMARKS:]
    return lines + [f"{_SAID.get(one.kind, one.kind):<9} {_remark(one)}" for one in shown]


def _earlier(task: Task) -> str:
    """Beside what has landed, where that is not what the task is at, or came to, now."""
    if task.has_landed:
        return ""
    return ", an earlier result of it" + ("" if task.state.ended else ": it is tried again")


def _remark(remark: Remark) -> str:
    """``needs-revision by swarm-auditor-001: the test is missing``; an approval's verdict is it."""
    verdict = "" if remark.kind is RemarkKind.APPROVAL else remark.verdict
    who = f"by {remark.author}" if remark.author else ""
    text = "" if remark.text == remark.verdict else one_line(remark.text, REMARK)
    head = " ".join(part for part in (verdict, who) if part)
    return ": ".join(part for part in (head, text) if part)
