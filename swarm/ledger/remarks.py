"""What was said about a task's work: the rows, and the words that go to the next attempt."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence

from swarm.core.model import RemarkKind
from swarm.ledger.intake import one_line, plain
from swarm.ledger.records import Remark

MAX_REMARK = 8000
"""Characters of one remark, its beginning kept."""
MAX_FEEDBACK = 24_000
"""Characters that the next attempt is told."""
MAX_QUESTION = 4000
"""Characters of the reason beside a task that waits for a person."""
MAX_COUNTS = 12

_HEAD = {
    RemarkKind.CONFLICT: "The work could not be merged into its target:",
    RemarkKind.CHECK: "A check failed on the merged result:",
    RemarkKind.REVIEW: "A reviewer wants it revised:",
    RemarkKind.APPROVAL: "It was approved, with this said:",
    RemarkKind.REJECTION: "A person sent it back:",
    RemarkKind.QUESTION: "The question was:",
    RemarkKind.ANSWER: "A person answers:",
    RemarkKind.NOTE: "A note:",
}


def add_remark(
    db: sqlite3.Connection,
    row: sqlite3.Row,
    kind: RemarkKind,
    text: str,
    now: float,
    *,
    author: str = "",
    verdict: str = "",
    counts: Mapping[str, int] | None = None,
) -> None:
    """Say ``text`` about the newest work of the task in ``row``."""
    db.execute(
        "INSERT INTO remarks (task, at, kind, author, commit_id, verdict, counts, text, fence)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            row["seq"],
            now,
            kind.value,
            one_line(author, 80),
            row["tip"],
            one_line(verdict, 40),
            json.dumps(dict(list((counts or {}).items())[:MAX_COUNTS])),
            plain(text, MAX_REMARK),
            row["fence"],
        ),
    )


def remarks_on(db: sqlite3.Connection, seq: int) -> list[Remark]:
    """Everything that was said about task number ``seq``, oldest first."""
    rows = db.execute("SELECT * FROM remarks WHERE task = ? ORDER BY seq", (seq,))
    return [
        Remark(
            seq=row["seq"],
            at=row["at"],
            kind=RemarkKind(row["kind"]),
            author=row["author"],
            commit=row["commit_id"],
            verdict=row["verdict"],
            counts=json.loads(row["counts"]),
            text=row["text"],
            fence=row["fence"],
        )
        for row in rows
    ]


def feedback(remarks: Sequence[Remark]) -> str:
    """What the next attempt has to mind: all that was said about the newest work, or asked.

    Work that an attempt after it did not get beyond is still the newest.
    """
    if not remarks:
        return ""
    last = remarks[-1]
    newest = [
        one
        for one in remarks
        if one.fence == last.fence or (last.commit is not None and one.commit == last.commit)
    ]
    parts = [f"{_HEAD[one.kind]}\n{one.text}" for one in newest if one.text]
    return "\n\n".join(parts)[-MAX_FEEDBACK:]


def everything(head: str, remarks: Sequence[Remark]) -> str:
    """``head`` and all that was said so far, for the person who is asked; bounded."""
    said = [one for one in remarks if one.text][-10:]
    if not said:
        return head[:MAX_QUESTION]
    room = max(200, (MAX_QUESTION - len(head)) // len(said) - 40)
    lines = [f"- {one.kind}: {plain(one.text, room)}" for one in said]
    return "\n".join([head, *lines])[:MAX_QUESTION]
