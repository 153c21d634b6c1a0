"""What ``task show --json`` and ``task list --json`` print (product contract, "Commands")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from swarm.core.budget import NOTHING, Amount, left
from swarm.ledger.interface import Attempt, Ledger, Task
from swarm.ledger.shown_files import files_json
from swarm.ledger.shown_landing import landing_json, remark_json
from swarm.logs import timestamp

VERSION = 1
SessionLog = Callable[[str, int], Path]
"""Where an attempt's log lies, by task and number: ``Places.session_log``."""


def rfc3339(at: float | None) -> str | None:
    """Unix seconds as RFC 3339 in UTC with milliseconds; ``None`` stays ``None``."""
    return None if at is None else timestamp(at)


def show_json(
    ledger: Ledger,
    task_id: str,
    session_log: SessionLog,
    *,
    live: bool = True,
    limit: Amount = NOTHING,
) -> dict[str, Any]:
    """One task in full, by its exact id; what is unknown is ``None``.  ``live``: a swarm runs.

    ``limit`` is what it may spend where it was given no budget of its own.
    Raises :class:`~swarm.errors.UsageError` for an unknown id.
    """
    task = ledger.find(task_id)
    return {
        "version": VERSION,
        **_summary(task, ledger.reason(task.id, live=live)),
        "prompt": ledger.prompt(task.id),
        "answer": task.answer or None,
        "folder": task.folder or None,
        "parent": ledger.parent_of(task.id) or None,
        **files_json(task),
        "commits": None if task.commits is None else list(task.commits),
        "waits_for": [needed.id for needed in ledger.waits_for(task.id)] if task.blocked else [],
        "budget": budget_json(ledger.spent_on(task.id), task.budget.or_else(limit)),
        "remarks": [remark_json(remark) for remark in ledger.remarks(task.id)],
        "attempts": [_attempt(attempt, session_log) for attempt in ledger.attempts(task.id)],
    }


def list_json(ledger: Ledger, tasks: Sequence[Task], *, live: bool = True) -> dict[str, Any]:
    """Many tasks in short.  ``live``: a swarm runs."""
    rows = [_summary(task, ledger.reason(task.id, live=live)) for task in tasks]
    return {"version": VERSION, "tasks": rows}


def budget_json(spent: Amount, limit: Amount) -> dict[str, Any]:
    """What a task has spent, estimates included, and may still spend; null: unknown, no limit."""
    rest = left(limit, spent)
    return {
        "tokens": {"limit": limit.tokens, "spent": spent.tokens, "left": rest.tokens},
        "usd": {"limit": limit.usd, "spent": spent.usd, "left": rest.usd},
    }


def _summary(task: Task, reason: str | None) -> dict[str, Any]:
    return {
        "id": task.id,
        "state": str(task.state),
        "reason": reason,
        "result": None if task.result is None else str(task.result),
        "role": task.role,
        "component": task.component or None,
        "lane": task.lane or None,
        "labels": dict(task.labels),
        "thread": task.thread or None,
        "title": task.title,
        "priority": task.priority,
        "repo": task.repo,
        "agent": task.agent or None,
        "branch": task.branch,
        **landing_json(task),
        "created_at": rfc3339(task.created_at),
        "updated_at": rfc3339(task.updated_at),
        "ended_at": rfc3339(task.ended_at),
    }


def _attempt(attempt: Attempt, session_log: SessionLog) -> dict[str, Any]:
    log = session_log(attempt.task, attempt.n)
    told = log.with_suffix(".prompt.md")
    return {
        "n": attempt.n,
        "agent": attempt.agent,
        "outcome": None if attempt.outcome is None else str(attempt.outcome),
        "reason": attempt.reason or None,
        "exit_status": attempt.exit_status,
        "session_id": attempt.session_id,
        "usage": {
            "input_tokens": attempt.usage.input_tokens,
            "output_tokens": attempt.usage.output_tokens,
            "cache_read_tokens": attempt.usage.cache_read_tokens,
            "cache_write_tokens": attempt.usage.cache_write_tokens,
        },
        "cost_usd": attempt.cost_usd,
        "usage_estimated": attempt.estimated,
        "estimate": {"tokens": attempt.estimate.tokens, "usd": attempt.estimate.usd},
        "started_at": rfc3339(attempt.started_at),
        "ended_at": rfc3339(attempt.ended_at),
        "base": attempt.base,
        "tip": attempt.tip,
        "log": str(log),
        "prompt_file": str(told) if told.is_file() else None,
    }
