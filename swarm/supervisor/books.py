"""What the supervisor keeps in the ledger, or reads there: pauses, and what was spent."""

from __future__ import annotations

import time
from dataclasses import dataclass

from swarm.config.places import Places
from swarm.config.settings import Limits
from swarm.core.fleet_state import BY_PERSON, BY_QUOTA
from swarm.ledger import Pause, open_ledger

DAY_SECONDS = 86400.0


@dataclass(frozen=True, slots=True)
class Spending:
    """What was spent in the budget's window; ``None`` is unknown."""

    tokens: int | None
    usd: float | None
    resets_at: float | None
    """Unix seconds at which the next window begins."""

    def share(self, limits: Limits) -> float:
        """The larger share of a budget that is spent."""
        shares = [0.0]
        if limits.token_budget is not None:
            shares.append((self.tokens or 0) / max(1, limits.token_budget))
        if limits.usd_budget is not None:
            shares.append((self.usd or 0.0) / max(0.01, limits.usd_budget))
        return max(shares)


class Books:
    """The ledger is opened for each look: they are rare, and it stays another process's."""

    def __init__(self, places: Places) -> None:
        self._path = places.ledger

    def pauses(self) -> dict[str, Pause]:
        """The fleet's pauses that are still in force, by scope; makes the ledger at first use.

        Raises :class:`~swarm.errors.LedgerError` when it is no ledger of this version.
        """
        now = time.time()
        with open_ledger(self._path) as ledger:
            return {
                one.scope: one
                for one in ledger.pauses()
                if one.scope in (BY_PERSON, BY_QUOTA) and (one.until is None or one.until > now)
            }

    def pause(self, scope: str, reason: str, until: float | None) -> None:
        """Remember a pause.  Raises :class:`~swarm.errors.LedgerError`."""
        with open_ledger(self._path) as ledger:
            ledger.pause(scope, reason, until)

    def resume(self, scope: str) -> None:
        """Forget it.  Raises :class:`~swarm.errors.LedgerError`."""
        with open_ledger(self._path) as ledger:
            ledger.resume(scope)

    def end_quota_waits(self) -> None:
        """Let every task go that waits for a quota.  Raises :class:`~swarm.errors.LedgerError`."""
        with open_ledger(self._path) as ledger:
            ledger.end_quota_waits()

    def spending(self, *, daily: bool) -> Spending:
        """What was spent since midnight UTC, or ever.

        Raises :class:`~swarm.errors.LedgerError`.
        """
        midnight = time.time() // DAY_SECONDS * DAY_SECONDS
        with open_ledger(self._path) as ledger:
            totals = ledger.usage(midnight if daily else None)
        known = (totals.usage.input_tokens, totals.usage.output_tokens)
        tokens = None if known == (None, None) else sum(part or 0 for part in known)
        return Spending(tokens, totals.cost_usd, midnight + DAY_SECONDS if daily else None)
