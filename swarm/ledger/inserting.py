"""A new task's rows, in its caller's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from swarm.core.model import TaskState
from swarm.ledger.intake import MAX_TITLE, checked, one_line
from swarm.ledger.records import TASK_ID, NewTask
from swarm.ledger.rows import free_id, known_row, labels_json, queue_for


@dataclass(frozen=True, slots=True)
class InPlan:
    """Where in a plan a new task stands."""

    plan: int
    """The plan's number."""
    key: str
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Clean:
    """A task that was checked and may be inserted."""

    new: NewTask
    titled: bool
    """Somebody gave its title; else the title is the prompt's first line, and as private."""


def cleaned(new: NewTask) -> Clean:
    """``new`` with its title filled in; raises :class:`~swarm.errors.UsageError`."""
    return Clean(checked(new), bool(one_line(new.title, MAX_TITLE)))


def insert(
    db: sqlite3.Connection, clean: Clean, blocked: int, now: float, within: InPlan | None = None
) -> tuple[str, int]:
    """Insert the task and its prompt; its id and number.

    ``blocked`` is how many dependencies are not met: their rows are the caller's.
    """
    new = clean.new
    task = free_id(db)
    values: dict[str, str | float | None] = {
        "id": task,
        "state": TaskState.QUEUED.value,
        "kind": new.kind.value,
        "role": new.role,
        "lane": new.lane,
        "labels": labels_json(new.labels),
        "queue": queue_for(db, new.role, new.lane, new.labels),
        "component": new.component,
        "title": new.title,
        "titled": clean.titled,
        "priority": new.priority,
        "repo": new.repo,
        "blocked": blocked,
        "on_failed": new.on_failed.value,
        "review": None if new.review is None else new.review.value,
        "merge": None if new.merge is None else new.merge.value,
        "plan": None if within is None else within.plan,
        "plan_key": None if within is None else within.key,
        "paused": within is not None and within.paused,
        # Who answers a task of a thread is in it too.
        "thread": new.thread or (known_row(db, new.parent)["thread"] if new.parent else ""),
        "parent": known_row(db, new.parent)["seq"] if new.parent else None,
        "folder": _folder(new.folder, task),
        "request_path": new.request_path or None,
        "request_sha256": new.request_sha256 or None,
        "response_path": new.response_path or None,
        "about": known_row(db, new.about)["seq"] if new.about else None,
        "about_commit": new.about_commit or None,
        "sender": new.sender or None,
        "sender_ref": new.sender_ref,
        "token_budget": new.budget.tokens,
        "usd_budget": new.budget.usd,
        "created_at": now,
        "updated_at": now,
    }
    columns, marks = ", ".join(values), ", ".join("?" * len(values))
    statement = f"INSERT INTO tasks ({columns}) VALUES ({marks})"  # noqa: S608 - our own names
    seq = int(db.execute(statement, tuple(values.values())).lastrowid or 0)
    db.execute("INSERT INTO prompts (task, text) VALUES (?, ?)", (seq, new.prompt))
    return task, seq


def insert_needs(db: sqlite3.Connection, seq: int, needs: Iterable[tuple[int, bool]]) -> None:
    """What task number ``seq`` waits for: numbers, and whether each is met already."""
    db.executemany(
        "INSERT INTO dependencies (task, needs, met) VALUES (?, ?, ?)",
        [(seq, on, met) for on, met in needs],
    )


def _folder(folder: str, task: str) -> str:
    return folder.removesuffix(TASK_ID) + task if folder.endswith(f"/{TASK_ID}") else folder
