"""What the task commands share: the ledger of this home, and a task in words."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from swarm.config.places import Places
from swarm.core.budget import NOTHING, Amount
from swarm.core.model import Usage
from swarm.errors import SwarmError
from swarm.ledger import open_ledger

if TYPE_CHECKING:
    from swarm.ledger import Ledger


def opened(places: Places) -> Ledger:
    """The ledger of this home, made with the home (0700) when there is none."""
    if not places.home.is_dir():
        places.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chmod(places.home, 0o700)  # whatever the umask says
    return open_ledger(places.ledger)


def role_budget(places: Places, role: str) -> Amount:
    """What a task of this role may spend where it was given no budget of its own.

    As the configuration says it now; one that cannot be read limits nothing that could be shown.
    """
    from swarm.cli.settings import settings_or_defaults
    from swarm.config.roles import effective_limits, load_role

    try:
        settings = settings_or_defaults(places)
        limits = effective_limits(settings.limits, load_role(role, places.roles))
    except SwarmError:
        return NOTHING
    return Amount(limits.task_token_budget, limits.task_usd_budget)


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
