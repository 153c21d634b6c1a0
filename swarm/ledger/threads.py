"""What was asked and answered before, for whoever goes on with a thread."""

from __future__ import annotations

import sqlite3

from swarm.ledger.intake import plain

MAX_EXCHANGES = 20
"""Earlier tasks a holder is told of."""
MAX_ASKED, MAX_ANSWERED = 1_000, 4_000
"""Characters of each one's question and answer."""
MAX_THREAD = 16_000
"""Characters of all of them; the oldest are left out first."""
MAX_PARENTS = 20
"""How far back parents are followed: a chain has no end, a loop neither."""


def thread_of(db: sqlite3.Connection, row: sqlite3.Row) -> tuple[str, ...]:
    """Of the task's parents and its thread what was answered, oldest first, bounded."""
    if not row["thread"] and row["parent"] is None:
        return ()
    seqs = {*_parents(db, row), *_threaded(db, row)} - {row["seq"]}
    told: list[str] = []
    room = MAX_THREAD
    for seq in sorted(seqs, reverse=True)[:MAX_EXCHANGES]:
        exchange = _exchange(db, seq)
        if len(exchange) > room:
            break
        if exchange:
            told.append(exchange)
            room -= len(exchange)
    return tuple(reversed(told))


def _parents(db: sqlite3.Connection, row: sqlite3.Row) -> list[int]:
    found: list[int] = []
    parent = row["parent"]
    while parent is not None and parent not in found and len(found) < MAX_PARENTS:
        found.append(int(parent))
        (parent,) = db.execute("SELECT parent FROM tasks WHERE seq = ?", (parent,)).fetchone()
    return found


def _threaded(db: sqlite3.Connection, row: sqlite3.Row) -> list[int]:
    """The newest answered ones of the thread: the index has them in their order."""
    if not row["thread"]:
        return []
    rows = db.execute(
        "SELECT seq FROM tasks INDEXED BY tasks_thread WHERE thread = ? AND thread <> ''"
        " AND state = 'done' AND seq <> ? ORDER BY seq DESC LIMIT ?",
        (row["thread"], row["seq"], MAX_EXCHANGES),
    ).fetchall()
    return [int(one[0]) for one in rows]


def _exchange(db: sqlite3.Connection, seq: int) -> str:
    """One task's question and answer; empty when it was not answered."""
    row = db.execute(
        "SELECT t.id, t.agent, t.answer, p.text FROM tasks t JOIN prompts p ON p.task = t.seq"
        " WHERE t.seq = ? AND t.state = 'done' AND t.answer <> ''",
        (seq,),
    ).fetchone()
    if row is None:
        return ""
    asked, answered = plain(row["text"], MAX_ASKED), plain(row["answer"], MAX_ANSWERED)
    return f"{row['id']} asked:\n{asked}\n{row['id']} answered, by {row['agent']}:\n{answered}"
