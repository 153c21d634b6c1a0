"""Reviews by agents: when one is asked for, and in which words.  Pure.

A review is a task of its own, for the role ``auditor``, about one commit.  Its verdict moves the
task it is about in the transaction that takes its report in (:mod:`swarm.ledger.reported`).
"""

from __future__ import annotations

from collections.abc import Sequence

from swarm.core.model import ENDED_BADLY, OVER, TaskKind
from swarm.ledger.intake import HIGHEST_PRIORITY, one_line
from swarm.ledger.interface import NewTask, Task

REVIEWER = "auditor"
"""The role that reviews."""
MAX_ASKED = 20_000
"""Characters of the task's own text that the reviewer is shown."""
TRIES = 2
"""Reviews of one commit that may end without a verdict before a person is asked."""
_TO_DO = (
    "Judge whether it does what was asked, and does it well: read the"
    " change and what is around it, and try what you doubt.  Change nothing."
)
_HOW = (
    "Answer with one JSON object in the file review.json of your results directory, or as the last"
    " thing you say:\n"
    '{"verdict": "accept", "counts": {"blocking": 0, "important": 0, "minor": 0},'
    ' "comments": [{"file": "path", "line": 1, "text": "what is wrong, and how to mend it"}]}\n'
    "The verdict is accept, accept-with-follow-ups or needs-revision; needs-revision is for what"
    " blocks.  Its author is sent your comments and nothing else."
)


def request(task: Task, asked: str) -> NewTask:
    """The review task about ``task``, whose text ``asked`` was.

    What others wrote is quoted line by line, so that none of it can pass for the request itself.
    """
    tip = task.tip or ""
    quoted = "\n".join(f"> {line}" for line in asked[:MAX_ASKED].splitlines())
    said = "\n".join(f"> {line}" for line in task.answer.splitlines())
    parts = [
        (
            f"Review commit {tip} of the branch {task.branch}, which was made for task {task.id}."
            f"  Where nothing is checked out, `agentctl task diff {task.id}` shows the change."
        ),
        _TO_DO,
        f"What was asked:\n{quoted}",
    ]
    if said:
        parts.append(f"What its author says of it:\n{said}")
    parts.append(_HOW)
    return NewTask(
        prompt="\n\n".join(parts),
        role=REVIEWER,
        component=task.component,
        title=one_line(f"Review {task.id} at {tip[:12]}", 80),
        priority=min(task.priority + 1, HIGHEST_PRIORITY),
        repo=task.repo,
        kind=TaskKind.REVIEW,
        about=task.id,
        about_commit=tip,
    )


def span(base: str, commit: str) -> str:
    """Which commits a review is of, as its session is told when it starts."""
    return (
        f"The commit is checked out.  The change is {base}..{commit}; see it with:"
        f" git diff {base}...{commit}"
    )


def given_up(task: Task, reviews: Sequence[Task], since: float) -> str | None:
    """Why no further review of ``task``'s commit is asked for; ``None`` while one may be.

    ``reviews`` are all about the task; only those made after ``since`` (Unix seconds), when its
    newest work came in, are of this visit.
    """
    tried = [
        one
        for one in reviews
        if one.about_commit == task.tip and one.state in ENDED_BADLY and one.created_at >= since
    ]
    if len(tried) < TRIES:
        return None
    last = tried[-1]
    why = one_line(last.reason, 300) or str(last.state)
    return f"{len(tried)} reviews of {(task.tip or '')[:12]} gave no verdict; {last.id}: {why}"


def lives(reviews: Sequence[Task], tip: str | None) -> Task | None:
    """The review of this commit whose verdict may still come."""
    found = (one for one in reviews if one.about_commit == tip and one.state not in OVER)
    return next(found, None)
