"""What earlier attempts at a task committed, in words for the next one.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from swarm.ledger.intake import one_line
from swarm.ledger.interface import Attempt, Claimed

ATTEMPTS = 3
"""Attempts whose commits are named, the newest."""
SUBJECTS = 8
"""Commits of one attempt that are named, the newest."""
MAX_SUBJECT = 120
"""Characters of one."""

Subjects = Callable[[str, str, int], Sequence[str]]
"""First lines of the commits after one id up to another, newest first, at most so many."""


def tells_more(claimed: Claimed) -> bool:
    """Whether what was committed before is to be told: who resumes remembers it."""
    return claimed.attempt > 1 and claimed.resume_session is None


def with_changes(claimed: Claimed, told: tuple[str, ...]) -> Claimed:
    """The claim with what was found out about earlier attempts."""
    return replace(claimed, earlier=(*claimed.earlier, *told))


def ranges(attempts: Sequence[Attempt]) -> list[Attempt]:
    """The newest attempts that added commits, oldest first."""
    made = [one for one in attempts if one.base and one.tip and one.base != one.tip]
    return made[-ATTEMPTS:]


def changes(attempts: Sequence[Attempt], subjects: Subjects) -> tuple[str, ...]:
    """One line for each of these :func:`ranges`: what was added."""
    lines = []
    for attempt in attempts:
        found = subjects(attempt.base or "", attempt.tip or "", SUBJECTS + 1)
        named = [one_line(subject, MAX_SUBJECT) or "(no subject)" for subject in found[:SUBJECTS]]
        if len(found) > SUBJECTS:
            named.append("and more")
        if named:
            lines.append(f"attempt {attempt.n} committed, newest first: {'; '.join(named)}")
    return tuple(lines)
