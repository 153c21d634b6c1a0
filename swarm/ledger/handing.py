"""What became of the tasks that a task waited for, told to whoever takes it."""

from __future__ import annotations

import sqlite3

from swarm.ledger.intake import one_line, plain

MAX_NEEDS = 20
"""Tasks told of, those with the highest priority and the youngest first."""
MAX_ANSWER = 1_500
"""Characters of what each said at its end."""
MAX_RESULTS = 12_000
"""Characters of all of them."""


def results_of(db: sqlite3.Connection, row: sqlite3.Row) -> tuple[str, ...]:
    """One text for each task that the one in ``row`` waited for, in their order, bounded.

    Those of its own thread are left out: that tells of them already.
    """
    needs = db.execute(
        "SELECT t.seq, t.id, t.plan, t.plan_key, t.title, t.state, t.result, t.branch, t.answer"
        " FROM dependencies d JOIN tasks t ON t.seq = d.needs"
        " WHERE d.task = ? AND NOT (t.thread <> '' AND t.thread = ?)"
        " ORDER BY t.priority DESC, t.seq DESC LIMIT ?",
        (row["seq"], row["thread"], MAX_NEEDS),
    ).fetchall()
    told: list[tuple[int, str]] = []
    room = MAX_RESULTS
    for need in needs:
        text = _in_words(need, row["plan"])
        if len(text) > room:
            break
        told.append((need["seq"], text))
        room -= len(text)
    return tuple(text for _, text in sorted(told))


def _in_words(need: sqlite3.Row, plan: int | None) -> str:
    """``parser (t-…, "Split it") is done, merged:`` and what it said."""
    known = need["plan_key"] if plan is not None and need["plan"] == plan else ""
    name = f"{known} ({need['id']})" if known else str(need["id"])
    result = f" ({need['result']})" if need["result"] else ""
    where = f", its branch is {need['branch']}" if need["result"] == "branch" else ""
    head = f"What this waited for: {name}, {one_line(need['title'], 80)}: {need['state']}"
    said = plain(need["answer"], MAX_ANSWER)
    return f"{head}{result}{where}" + (f"; it said:\n{said}" if said else "")
