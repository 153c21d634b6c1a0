"""What the task commands share: the ledger of this home, and a task in words."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from swarm.config.places import Places
from swarm.core.model import Usage
from swarm.ledger import open_ledger

if TYPE_CHECKING:
    from swarm.ledger import Ledger


def opened(places: Places) -> Ledger:
    """The ledger of this home, made with the home (0700) when there is none."""
    if not places.home.is_dir():
        places.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chmod(places.home, 0o700)  # whatever the umask says
    return open_ledger(places.ledger)


def tokens(usage: Usage) -> str:
    """``1200 in, 340 out``; what is unknown is ``?``."""
    given, taken = usage.input_tokens, usage.output_tokens
    if given is None and taken is None:
        return "?"
    return f"{_count(given)} in, {_count(taken)} out"


def money(cost: float | None) -> str:
    """``$0.0123``, or ``?`` for an unknown cost: never zero."""
    return "?" if cost is None else f"${cost:.4f}"


def _count(number: int | None) -> str:
    return "?" if number is None else str(number)
