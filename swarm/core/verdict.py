"""Is a child alive?  Heartbeats heard and missed, and when to give up.

A miss is counted by looking, not by arithmetic: each look that finds no beat since the one
before counts one, however late the look comes.  So a supervisor that was itself stopped, or busy,
finds one miss when it wakes, reads the beats that wait for it, and condemns nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

TOLERANCE = 0.5
"""A beat may be this share of an interval late before it counts as missed."""

MIN_MISSES = 2
"""One missed heartbeat is never enough (product, "Unresponsive")."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """The heartbeats of one running child; times in seconds."""

    interval: float
    misses: int
    """This many missed in a row is unresponsive; below :data:`MIN_MISSES` counts as that."""
    heard_at: float
    look_at: float
    """When to look next."""
    missed: int = 0

    @property
    def deadline(self) -> float:
        """When it wants :func:`look`."""
        return self.look_at


def first(interval: float, misses: int, now: float) -> Pulse:
    """The pulse of a child that has just become ready: that counts as a beat."""
    return heard(Pulse(interval, misses, now, now), now)


def heard(pulse: Pulse, now: float) -> Pulse:
    """A beat came; what was missed before is forgiven."""
    return replace(pulse, heard_at=now, look_at=now + pulse.interval * (1 + TOLERANCE), missed=0)


def look(pulse: Pulse, now: float) -> tuple[Pulse, str]:
    """Look, if it is time; the text says why the child is unresponsive, empty while it is not."""
    if now < pulse.look_at:
        return pulse, ""
    pulse = replace(pulse, missed=pulse.missed + 1, look_at=now + pulse.interval)
    if pulse.missed < max(pulse.misses, MIN_MISSES):
        return pulse, ""
    silent = now - pulse.heard_at
    return pulse, f"{pulse.missed} heartbeats missed in a row, silent for {silent:.0f} s"


def retuned(pulse: Pulse, interval: float, misses: int, now: float) -> Pulse:
    """New settings after a reload; what was missed under the old ones is forgiven.

    The child hears of a shorter interval a moment later than we do and beats from then on, so
    the next look is one of the new intervals, with its tolerance, from now.
    """
    fresh = heard(replace(pulse, interval=interval, misses=misses), now)
    return replace(fresh, heard_at=pulse.heard_at)
