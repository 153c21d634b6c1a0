"""What people are shown of a task's files: which they are, and whether they are as they were."""

from __future__ import annotations

from typing import Any

from swarm.ledger.pinned import request_problem, response_problem
from swarm.ledger.records import Task


def request_line(task: Task) -> str:
    """The file its text came from."""
    problem = request_problem(task.request_path, task.request_sha256)
    same = problem.removeprefix("its request file ") if problem else "unchanged"
    return f"{task.request_path} (SHA-256 {task.request_sha256[:12]}…: {same})"


def response_line(task: Task) -> str:
    """The file its answer goes to."""
    if not task.response_sha256:
        waits = "not written" if task.state.ended else "to be written at its end"
        return f"{task.response_path} ({waits})"
    return (
        f"{task.response_path} (SHA-256 {task.response_sha256[:12]}…: "
        f"{response_problem(task.response_path, task.response_sha256) or 'unchanged'})"
    )


def files_json(task: Task) -> dict[str, Any]:
    """The same for ``task show --json``; ``null`` where there is no such file."""
    request = response = None
    if task.request_path:
        problem = request_problem(task.request_path, task.request_sha256)
        request = {
            "path": task.request_path,
            "sha256": task.request_sha256,
            "matches": not problem,
            "problem": problem or None,
        }
    if task.response_path:
        written = bool(task.response_sha256)
        problem = response_problem(task.response_path, task.response_sha256) if written else ""
        response = {
            "path": task.response_path,
            "sha256": task.response_sha256 or None,
            "matches": not problem if written else None,
            "problem": problem or None,
        }
    return {"request": request, "response": response}
