"""Reading a review's answer: strict, as it is a session's words and lets commits land."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from swarm.ledger.intake import one_line, plain
from swarm.ledger.records import ACCEPT, FOLLOW_UPS, NEEDS_REVISION, Judgement
from swarm.wire.lifeline import Finished

VERDICTS: Final = (ACCEPT, FOLLOW_UPS, NEEDS_REVISION)
BLOCKING = "blocking"
MAX_COMMENTS = 200
MAX_COMMENT = 2000
"""Characters of one comment."""
MAX_COUNT = 100_000
MAX_WEIGHTS = 12
"""Kinds of comments that are counted."""

_decoder = json.JSONDecoder()


def read_judgement(finished: Finished) -> Judgement | None:
    """The verdict that a review's report holds: its answer file, else its last words.

    ``None`` when neither holds one JSON object of the agreed form, or it contradicts itself by
    accepting what it calls blocking.
    """
    found = _judgement(_whole(finished.review))
    return found if found is not None else _judgement(_last_object(finished.result))


def _whole(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _last_object(text: str) -> object:
    """The last JSON object within a text, whatever stands around it."""
    found: object = None
    at = text.find("{")
    while at >= 0:
        try:
            found, end = _decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        at = text.find("{", end)
    return found


def _judgement(found: object) -> Judgement | None:
    if not isinstance(found, dict):
        return None
    verdict, counts = found.get("verdict"), _counts(found.get("counts", {}))
    comments = _comments(found.get("comments", []))
    if not isinstance(verdict, str) or verdict not in VERDICTS:
        return None
    if counts is None or comments is None:
        return None
    judgement = Judgement(verdict, counts, comments)
    return None if judgement.accepts and counts.get(BLOCKING, 0) else judgement


def _counts(found: object) -> Mapping[str, int] | None:
    if not isinstance(found, dict) or len(found) > MAX_WEIGHTS:
        return None
    counts: dict[str, int] = {}
    for name, number in found.items():
        whole = isinstance(number, int) and not isinstance(number, bool)
        if not whole or not 0 <= number <= MAX_COUNT:
            return None
        counts[one_line(str(name), 40)] = number
    return counts


def _comments(found: object) -> str | None:
    """One comment a line, with file and line where they are named."""
    if isinstance(found, str):
        return plain(found, MAX_COMMENT * 4)
    if not isinstance(found, list) or len(found) > MAX_COMMENTS:
        return None
    lines = [_comment(one) for one in found]
    return None if None in lines else "\n".join(f"- {line}" for line in lines if line)


def _comment(found: object) -> str | None:
    if isinstance(found, str):
        return plain(found, MAX_COMMENT)
    if not isinstance(found, dict) or not isinstance(found.get("text"), str):
        return None
    file, line = found.get("file"), found.get("line")
    where = one_line(file, 300) if isinstance(file, str) else ""
    if where and isinstance(line, int) and not isinstance(line, bool):
        where = f"{where}:{line}"
    text = plain(found["text"], MAX_COMMENT)
    return f"{where}: {text}" if where else text
