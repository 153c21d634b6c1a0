"""A ledger as version 2 of its schema made it: the statements as they were, and a file of them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

APPLICATION_ID = 0x61637477

SCHEMA = (
    """CREATE TABLE tasks (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        state TEXT NOT NULL,
        role TEXT NOT NULL,
        component TEXT NOT NULL,
        title TEXT NOT NULL,
        titled INTEGER NOT NULL DEFAULT 0,
        priority INTEGER NOT NULL,
        repo TEXT,
        reason TEXT NOT NULL DEFAULT '',
        result TEXT,
        answer TEXT NOT NULL DEFAULT '',
        branch TEXT,
        commits TEXT,
        blocked INTEGER NOT NULL DEFAULT 0 CHECK (blocked >= 0),
        not_before REAL,
        fence INTEGER NOT NULL DEFAULT 0,
        agent TEXT NOT NULL DEFAULT '',
        agent_id TEXT NOT NULL DEFAULT '',
        held INTEGER NOT NULL DEFAULT 0,
        lease_seconds REAL NOT NULL DEFAULT 0,
        lease_until REAL,
        lost INTEGER NOT NULL DEFAULT 0,
        sender TEXT,
        sender_ref TEXT,
        created_at REAL NOT NULL,
        updated_at REAL NOT NULL,
        ended_at REAL
    )""",
    # A prompt may be 256 KiB, and an UPDATE writes its whole row: it lies apart.
    "CREATE TABLE prompts (task INTEGER PRIMARY KEY REFERENCES tasks(seq), text TEXT NOT NULL)",
    """CREATE INDEX tasks_ready ON tasks(role, priority DESC, seq)
        WHERE state = 'queued' AND blocked = 0""",
    """CREATE INDEX tasks_delayed ON tasks(not_before)
        WHERE state = 'queued' AND not_before IS NOT NULL""",
    "CREATE INDEX tasks_held ON tasks(seq) WHERE held = 1",
    "CREATE INDEX tasks_state ON tasks(state)",
    """CREATE UNIQUE INDEX tasks_announced ON tasks(sender, sender_ref)
        WHERE sender IS NOT NULL""",
    """CREATE TABLE dependencies (
        task INTEGER NOT NULL REFERENCES tasks(seq),
        needs INTEGER NOT NULL REFERENCES tasks(seq),
        met INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (task, needs)
    ) WITHOUT ROWID""",
    "CREATE INDEX dependencies_needs ON dependencies(needs) WHERE met = 0",
    """CREATE TABLE attempts (
        task INTEGER NOT NULL REFERENCES tasks(seq),
        fence INTEGER NOT NULL,
        n INTEGER NOT NULL,
        agent TEXT NOT NULL,
        agent_id TEXT NOT NULL,
        outcome TEXT,
        reported INTEGER NOT NULL DEFAULT 0,
        counted INTEGER NOT NULL DEFAULT 0,
        reason TEXT NOT NULL DEFAULT '',
        exit_status INTEGER,
        session_id TEXT,
        input_tokens INTEGER,
        output_tokens INTEGER,
        cache_read_tokens INTEGER,
        cache_write_tokens INTEGER,
        cost_usd REAL,
        started_at REAL,
        ended_at REAL,
        PRIMARY KEY (task, fence),
        UNIQUE (task, n)
    ) WITHOUT ROWID""",
    "CREATE INDEX attempts_at ON attempts(coalesce(started_at, ended_at))",
    """CREATE TABLE events (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        at REAL NOT NULL,
        task INTEGER NOT NULL REFERENCES tasks(seq),
        kind TEXT NOT NULL,
        agent TEXT NOT NULL DEFAULT '',
        fence INTEGER NOT NULL DEFAULT 0,
        detail TEXT NOT NULL DEFAULT ''
    )""",
    "CREATE INDEX events_task ON events(task, seq)",
    """CREATE TABLE pauses (
        scope TEXT PRIMARY KEY,
        reason TEXT NOT NULL,
        since REAL NOT NULL,
        until REAL
    ) WITHOUT ROWID""",
    "CREATE TABLE notes (key TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID",
)


def make_v2(path: Path, version: int = 2) -> sqlite3.Connection:
    """A new file; the caller fills and closes it.  ``version`` 1 had no ``titled``."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    for statement in SCHEMA:
        if version == 1:
            statement = statement.replace("titled INTEGER NOT NULL DEFAULT 0,", "")
        db.execute(statement)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {version}")
    return db


def add_task(db: sqlite3.Connection, task: str, state: str = "queued", **columns: object) -> int:
    """One task with its prompt; its sequence number."""
    row = {
        "id": task, "state": state, "role": "builder", "component": "", "title": "Given",
        "priority": 0, "created_at": 1.0, "updated_at": 1.0, **columns,
    }  # fmt: skip
    names, marks = ", ".join(row), ", ".join("?" * len(row))
    cursor = db.execute(f"INSERT INTO tasks ({names}) VALUES ({marks})", tuple(row.values()))
    seq = int(cursor.lastrowid or 0)
    db.execute("INSERT INTO prompts (task, text) VALUES (?, ?)", (seq, "do it"))
    return seq


def add_attempt(db: sqlite3.Connection, task: int, n: int, agent: str, **columns: object) -> None:
    """One attempt, under the fence of its number."""
    row = {"task": task, "fence": n, "n": n, "agent": agent, "agent_id": "a" * 16, **columns}
    names, marks = ", ".join(row), ", ".join("?" * len(row))
    db.execute(f"INSERT INTO attempts ({names}) VALUES ({marks})", tuple(row.values()))
