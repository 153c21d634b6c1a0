"""``results/answer.md`` in the folder of a task that has ended: what came of it, for people."""

from __future__ import annotations

import os

from swarm.core.model import TaskState
from swarm.ledger.interface import Task
from swarm.spawner.folders import write_whole

NAME = "answer.md"


def answer(task: Task) -> str:
    """The file's text."""
    result = f" ({task.result})" if task.result else ""
    lines = [f"# {task.title}", "", f"- task: {task.id}", f"- state: {task.state}{result}"]
    if task.branch:
        lines.append(f"- branch: {task.branch}")
    if commit := task.landed if task.has_landed else task.tip:
        lines.append(f"- commit: {commit}")
    if task.reason:
        lines.append(f"- reason: {' '.join(task.reason.split())}")
    if task.state is TaskState.NEEDS_HUMAN:
        lines.append(f"- to answer: agentctl task answer {task.id} TEXT")
    if task.answer:
        lines += ["", task.answer]
    return "\n".join(lines) + "\n"


def leave_answer(task: Task) -> None:
    """Write it, whole or not at all; again for a task that ended again.  Raises ``OSError``."""
    if not task.folder or not os.path.isdir(task.folder):
        return  # it was cleaned away
    results = os.path.join(task.folder, "results")
    os.makedirs(results, mode=0o700, exist_ok=True)
    write_whole(os.path.join(results, NAME), answer(task))


def is_left(task: Task) -> bool:
    """Whether the folder says how the task ended, this time."""
    try:
        written = os.stat(os.path.join(task.folder, "results", NAME)).st_mtime
    except OSError:
        return not os.path.isdir(task.folder)
    return task.ended_at is None or written >= task.ended_at
