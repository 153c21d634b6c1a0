"""When may a child that died run again, and how long must it wait?  Pure arithmetic.

Two counters that never stand in for each other (rules, "Lives"): the *streak* of crashes since
the last stable run sets the backoff, and the restarts within the window decide when to give up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

JITTER_SHARE = 0.1
"""At most this much of a delay is added, so that a fleet that died together comes back spread."""

UNREADY_SECONDS = 0.1
"""Shortest wait after a child that never became ready, whatever ``base_seconds`` says: with 0
and a program that cannot start, the supervisor would do nothing else."""

_MAX_DOUBLINGS = 64
"""Beyond this any base has long passed any cap; keeps the power a sensible float."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """The ``restart`` section of ``swarm.yaml``; all times in seconds."""

    base_seconds: float = 1.0
    """First delay; it doubles with each crash in a row.  0 restarts at once."""
    cap_seconds: float = 300.0
    """No delay is longer, jitter included."""
    stable_seconds: float = 300.0
    """Running this long ends a streak of crashes."""
    max_restarts: int = 5
    """Restarts granted within the window; one more crash is ``degraded``.  0 never gives up."""
    window_seconds: float = 1800.0


@dataclass(frozen=True, slots=True)
class Terms:
    """How long each step of a life may take, in seconds."""

    spawn_seconds: float = 30.0
    """From the order to spawn to the process."""
    ready_seconds: float = 30.0
    """From the process to its ``Ready``."""
    stop_seconds: float = 10.0
    """From TERM to KILL."""


@dataclass(frozen=True, slots=True)
class History:
    """What the policy remembers of one child.  An asked restart starts a new one."""

    streak: int = 0
    """Crashes since the last stable run."""
    granted: tuple[float, ...] = ()
    """When restarts were granted, oldest first; never longer than ``max_restarts``."""
    total: int = 0
    """Restarts carried out; for people."""
    pardoned: tuple[float, ...] = ()
    """When crashes were not counted, as many children died at once; bounded like ``granted``."""


@dataclass(frozen=True, slots=True)
class Again:
    """Run again after ``delay`` seconds (0: now)."""

    delay: float
    history: History


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Leave it down: it was restarted ``restarts`` times within ``window_seconds``."""

    restarts: int
    window_seconds: float
    history: History


def judge(
    policy: RestartPolicy,
    history: History,
    now: float,
    *,
    ran: float | None,
    jitter: float,
    shared: bool = False,
) -> Again | GiveUp:
    """Decide about one crash.

    ``ran`` is how many seconds the child had been running, ``None`` when it never became ready;
    ``jitter`` is a random number 0..1, of which at most :data:`JITTER_SHARE` is added.
    ``shared``: many died with it (:mod:`swarm.core.pressure`), so it is not counted; but no more
    often than ``max_restarts`` within the window, or what dies again and again with others would
    never be given up.
    """
    streak = 0 if ran is not None and ran >= policy.stable_seconds else history.streak
    granted = _within(policy, history.granted, now)
    if shared and (pardoned := _one_more_pardon(policy, history, now)) is not None:
        kept = replace(history, streak=streak, granted=granted, pardoned=pardoned)
        return Again(max(_delay(policy, streak, jitter), UNREADY_SECONDS), kept)
    if policy.max_restarts and len(granted) >= policy.max_restarts:
        return GiveUp(
            len(granted), policy.window_seconds, replace(history, streak=streak, granted=granted)
        )
    if policy.max_restarts:
        granted = (*granted, now)
    delay = _delay(policy, streak, jitter)
    if ran is None:
        delay = max(delay, UNREADY_SECONDS)
    return Again(delay, replace(history, streak=streak + 1, granted=granted))


def forgive(policy: RestartPolicy, history: History, now: float) -> History | None:
    """Take back the charge of the last crash: it turns out that many died with it.

    ``None`` when no more may be forgiven.  A child that was given up then was charged nothing.
    """
    pardoned = _one_more_pardon(policy, history, now)
    if pardoned is None:
        return None
    return replace(
        history,
        streak=max(0, history.streak - 1),
        granted=history.granted[:-1],
        pardoned=pardoned,
    )


def _one_more_pardon(
    policy: RestartPolicy, history: History, now: float
) -> tuple[float, ...] | None:
    """The pardons that still count and one more; ``None`` when there were enough."""
    if not policy.max_restarts:
        return ()
    recent = _within(policy, history.pardoned, now)
    return None if len(recent) >= policy.max_restarts else (*recent, now)


def _within(policy: RestartPolicy, granted: tuple[float, ...], now: float) -> tuple[float, ...]:
    """The restarts that still count; none are kept for a policy that never counts them."""
    if not policy.max_restarts:
        return ()
    recent = tuple(at for at in granted if at > now - policy.window_seconds)
    return recent[-policy.max_restarts :]


def _delay(policy: RestartPolicy, streak: int, jitter: float) -> float:
    plain = policy.base_seconds * 2.0 ** min(streak, _MAX_DOUBLINGS)
    return min(policy.cap_seconds, plain * (1.0 + JITTER_SHARE * jitter))
