"""A share of processor time, as a debt that time pays off."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Share:
    """Seconds of processor time: ``rate`` a second, at most ``burst`` in advance."""

    rate: float
    burst: float
    debt: float = 0.0
    at: float = 0.0

    def spend(self, seconds: float, now: float) -> None:
        """So much was used."""
        self.debt = max(0.0, self.debt - self.rate * (now - self.at)) + seconds
        self.at = now

    def wait(self, now: float) -> float:
        """Seconds until there is some left."""
        debt = self.debt - self.rate * (now - self.at)
        return max(0.0, (debt - self.burst) / self.rate)
