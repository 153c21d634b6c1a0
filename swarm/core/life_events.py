"""What can happen to a child, and what its life may ask for: all of it data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from swarm.core.restart import RestartPolicy, Terms

# -- events -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartRequested:
    """It should run.  Says nothing new to a child that runs, waits in backoff or is degraded."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """It should not run.  ``grace`` in seconds replaces the terms' own; 0 kills at once."""

    grace: float | None = None
    reason: str = "stopped"


@dataclass(frozen=True, slots=True)
class RestartRequested:
    """It should run afresh, now; its counters start again.  Brings a degraded child back."""

    reason: str = "restart asked for"


@dataclass(frozen=True, slots=True)
class Spawned:
    """The outstanding spawn made this process."""

    pid: int


@dataclass(frozen=True, slots=True)
class Shared:
    """Many children died at nearly the same moment: the host's doing, not this child's."""

    reason: str
    """For people."""
    turn_at: float
    """Its turn among those that died with it; its own backoff begins then."""


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """The outstanding spawn made none."""

    error: str
    shared: Shared | None = None


@dataclass(frozen=True, slots=True)
class Ready:
    """The process does its work."""


@dataclass(frozen=True, slots=True)
class Unresponsive:
    """Its heartbeats stayed out (``verdict``), it broke its protocol, or does not obey.

    ``grace`` in seconds replaces the terms' own; 0 kills at once.
    """

    reason: str
    grace: float | None = None


@dataclass(frozen=True, slots=True)
class Exited:
    """The process is gone.  Negative status: the signal.  ``note``: what it said before."""

    status: int
    note: str = ""
    shared: Shared | None = None


@dataclass(frozen=True, slots=True)
class Forgiven:
    """The last crash, which was charged, turns out to be one of many."""

    shared: Shared


@dataclass(frozen=True, slots=True)
class Postponed:
    """Its backoff is over, but the machine has no room for it: it waits until ``until``."""

    until: float
    reason: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """A reload; ``None`` leaves that part as it is."""

    policy: RestartPolicy | None = None
    terms: Terms | None = None


Event: TypeAlias = (
    StartRequested | StopRequested | RestartRequested
    | Spawned | SpawnFailed | Ready | Unresponsive | Exited | Forgiven | Postponed
    | Tick | PolicyChanged
)  # fmt: skip

# -- effects ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a process for this child."""

    name: str


@dataclass(frozen=True, slots=True)
class HastenSpawn:
    """The outstanding spawn is overdue: make it end, if need be by ending the zygote.

    It is no second spawn: the one answer that is owed is still owed.
    """

    name: str


@dataclass(frozen=True, slots=True)
class Signal:
    """Send this to the child's process."""

    name: str
    pid: int
    signal: Literal["TERM", "KILL"]


Effect: TypeAlias = Spawn | HastenSpawn | Signal
