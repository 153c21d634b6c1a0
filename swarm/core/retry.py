"""Whether an attempt that ended badly is followed by another by itself, and when.  Pure.

Only what no session is to blame for is tried again unasked: a lost attempt, up to a limit that the
ledger keeps.  A plain failure is tried again where its role says so (rules, "Outcomes").
"""

from __future__ import annotations

from swarm.core.model import Outcome

FAILURES = frozenset({Outcome.FAILED, Outcome.TIMED_OUT, Outcome.STALLED, Outcome.OVERFLOW})
"""What a role's ``retries`` is about.  A spent budget or a refusal would only end so again."""

FIRST_LOSS_SECONDS = 1.0
"""A lost task waits so long, then twice as long each time: what killed one may kill the next."""

LONGEST_SECONDS = 86_400.0
"""No wait is longer."""

TRIED_AGAIN = "tried again"
"""How the reason of a task begins that waits for such a try."""

_MAX_DOUBLINGS = 32
"""Beyond this any first wait has passed the longest; keeps the power a sensible float."""


def wait_after_failure(
    outcome: Outcome, retries: int, allowed: int, first_seconds: float
) -> float | None:
    """Seconds until the next try by itself; ``None`` when there is none.

    ``retries`` is how many there were, ``allowed`` and ``first_seconds`` what the role says.
    """
    if outcome not in FAILURES or retries >= allowed:
        return None
    return _doubled(first_seconds, retries)


def wait_after_loss(lost: int) -> float:
    """Seconds until a task is tried again that was lost ``lost`` times, this one counted."""
    return _doubled(FIRST_LOSS_SECONDS, lost - 1)


def reason_of(number: int, of: int, why: str) -> str:
    """The reason of a task that waits for its try ``number``."""
    return f"{TRIED_AGAIN} ({number} of {of})" + (f": {why}" if why else "")


def reason_in(reason: str, seconds: int) -> str:
    """A waiting task's reason with what is left of its wait."""
    if reason.startswith(TRIED_AGAIN):
        return f"{TRIED_AGAIN} in {seconds} s{reason.removeprefix(TRIED_AGAIN)}"
    return f"waits {seconds} s: {reason}" if reason else f"waits {seconds} s"


def _doubled(first: float, times: int) -> float:
    return min(first * 2.0 ** min(max(0, times), _MAX_DOUBLINGS), LONGEST_SECONDS)
