"""When many children die at nearly the same moment, it is the host and not the children.

The kernel's memory killer, a suspended machine or an operator's slip takes many at once.  Counting
that as crashes would leave a healthy fleet degraded, and restarting it at one stroke would bring
the next such moment about.  So the deaths of such a *wave* are not charged, and those who died come
back one after another.

A wave is seen by distinct children: one that dies again and again never makes one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

WINDOW_SECONDS = 10.0
"""Deaths within this time are nearly the same moment: the memory killer takes one after another."""
MIN_DEATHS = 5
"""Fewer are chance, however small the fleet."""
MIN_SHARE = 0.2
"""And at least this share of all children."""
TURN_SECONDS = 0.2
"""Between two restarts after a wave: a daemon starts in a few milliseconds, but then signs in and
looks at its workspace; a hundred take twenty seconds, and the memory shows what each took."""
ROOM_SECONDS = 5.0
"""How often one whose turn has come, but for whom there is no memory, is looked at again."""
PATIENCE_SECONDS = 300.0
"""So long after a wave restarts wait for memory; a daemon itself is small, and a machine that is
always short of memory needs it too."""


@dataclass(frozen=True, slots=True)
class Death:
    """A child died, and nobody had asked for it.  ``charged``: its policy counted it."""

    name: str
    at: float
    charged: bool = False


@dataclass(frozen=True, slots=True)
class Pressure:
    """The deaths of late, and the wave they may be; times in seconds."""

    deaths: tuple[Death, ...] = ()
    """Those within the window, oldest first."""
    until: float | None = None
    """A wave goes on until then; in the past: there was one."""
    turn_at: float = 0.0
    """When the last restart that was given a turn is due."""


def died(pressure: Pressure, name: str, size: int, now: float) -> Pressure:
    """One of ``size`` children died by a signal, or was ended for its silence."""
    recent = tuple(one for one in pressure.deaths if one.at > now - WINDOW_SECONDS)
    deaths = (*recent, Death(name, now))
    until = pressure.until
    if len({one.name for one in deaths}) >= max(MIN_DEATHS, MIN_SHARE * size):
        until = now + WINDOW_SECONDS
    return replace(pressure, deaths=deaths, until=until)


def holds(pressure: Pressure, now: float) -> bool:
    """Whether there is a wave now."""
    return pressure.until is not None and now < pressure.until


def excuses(pressure: Pressure, name: str, now: float) -> bool:
    """Whether the death of ``name`` is the host's doing: in a wave, and only the first in it."""
    return holds(pressure, now) and sum(one.name == name for one in pressure.deaths) <= 1


def charged(pressure: Pressure, name: str) -> Pressure:
    """The last death of ``name`` was counted; a wave that begins later takes that back."""
    deaths = list(pressure.deaths)
    for i in range(len(deaths) - 1, -1, -1):
        if deaths[i].name == name:
            deaths[i] = replace(deaths[i], charged=True)
            break
    return replace(pressure, deaths=tuple(deaths))


def forgiven(pressure: Pressure) -> tuple[Pressure, tuple[str, ...]]:
    """At a wave's beginning: whose one charged death is taken back."""
    names = [one.name for one in pressure.deaths]
    once = tuple(d.name for d in pressure.deaths if d.charged and names.count(d.name) == 1)
    deaths = tuple(replace(one, charged=False) for one in pressure.deaths)
    return replace(pressure, deaths=deaths), once


def turn(pressure: Pressure, now: float, jitter: float) -> tuple[Pressure, float]:
    """When the next of those who died in a wave may run again; ``jitter`` is random, 0..1."""
    at = max(pressure.turn_at, now) + TURN_SECONDS * (0.5 + jitter)
    return replace(pressure, turn_at=at), at


def wants_room(pressure: Pressure, now: float) -> bool:
    """Whether restarts wait while memory is short."""
    return pressure.until is not None and now < pressure.until + PATIENCE_SECONDS


def describe(pressure: Pressure) -> str:
    """The reason, for people."""
    count = len({one.name for one in pressure.deaths})
    return (
        f"at least {count} children died within {WINDOW_SECONDS:g} s, which is the host's doing: "
        "not counted, restarts are spread"
    )
