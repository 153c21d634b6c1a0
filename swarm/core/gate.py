"""The promotion gate: may another session start now, and if not, why and when to ask again.

The same facts answer both questions that are asked of it: how many promotions to offer the
coordinator (:func:`slots`), and whether one that asks may start (:func:`judge`, :func:`admit`);
so nothing is announced that cannot start (rules, "Announcing").  The gate reads no clock and no
machine: memory, spending and quota are plain facts that the shell measures.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

FULL_RETRY = 1.0
"""Seconds after which a full fleet is worth asking again; the slots report comes sooner."""
MEMORY_RETRY = 10.0
LOAD_RETRY = 10.0
DISK_RETRY = 10.0
UNKNOWN_RETRY = 30.0
"""For a pause or a budget with no known end."""
BUSY_LOAD = 1.0
"""Load a processor from which the machine is busy: someone waits for a processor already."""
BUSY_MEMORY = 2
"""Or when less than so many times the memory that must stay free is free."""
YOUNG_SECONDS = 60.0
"""A session this young may not have taken yet what it will take: CLIs load, index and start their
tools in their first minute."""


@dataclass(frozen=True, slots=True)
class Pause:
    """No promotions: asked for by a person, or for a quota.  ``until`` in the gate's time."""

    reason: str
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent and what has been; a limit of ``None`` is none, spent ``None`` unknown."""

    token_limit: int | None = None
    usd_limit: float | None = None
    tokens: int | None = None
    usd: float | None = None
    resets_at: float | None = None
    """When a day's budget starts again, in the gate's time."""


@dataclass(frozen=True, slots=True)
class GateFacts:
    """All the gate looks at."""

    active: int = 0
    """Sessions that run or were granted and have not ended."""
    max_active: int = 5
    stopping: bool = False
    pauses: tuple[Pause, ...] = ()
    free_memory_mb: int | None = None
    """``None`` where it cannot be read: then it closes nothing."""
    min_free_memory_mb: int = 0
    """Below it, no promotions; 0 asks nothing."""
    session_memory_mb: int | None = None
    """What one session may take, where limited: so many fit into what is free."""
    reserved_mb: int = 0
    """Of what is free: kept for young sessions with a limit, which have not grown to it yet."""
    free_disk_mb: int | None = None
    """Below the home and the workspaces, the lower; ``None`` where it cannot be read."""
    min_free_disk_mb: int = 0
    """Below it, no promotions; 0 asks nothing."""
    load: float | None = None
    """Load average of the last minute, a processor; ``None`` where it is not known."""
    max_load: float | None = None
    """Above it, no promotions; ``None`` asks nothing."""
    stagger_seconds: float = 0.0
    """Between two starts while the machine is :func:`busy`."""
    last_start: float | None = None
    """When the last promotion was granted, in the gate's time."""
    budget: Budget = field(default_factory=Budget)


@dataclass(frozen=True, slots=True)
class Open:
    """So many more may start."""

    slots: int


@dataclass(frozen=True, slots=True)
class Closed:
    """None may start."""

    reason: str
    retry_after: float
    """Seconds, more than 0."""
    until: float | None = field(default=None, compare=False)
    """When it opens by time alone, in the gate's time; ``None``: not by time, or not known."""


Verdict: TypeAlias = Open | Closed


def judge(facts: GateFacts, now: float) -> Verdict:
    """The gate's state; reasons are checked from the most lasting to the most passing."""
    if facts.stopping:
        return Closed("the swarm is stopping", UNKNOWN_RETRY)
    for pause in facts.pauses:
        if pause.until is None or pause.until > now:
            wait = UNKNOWN_RETRY if pause.until is None else pause.until - now
            reason = f"paused: {pause.reason}" if pause.reason else "paused"
            return Closed(reason, wait, pause.until)
    if spent := _spent(facts.budget):
        resets = facts.budget.resets_at
        # Asked again soon: a reload may raise it, and then nothing must wait until midnight.
        return Closed(spent, FULL_RETRY, resets if resets is not None and resets > now else None)
    if facts.max_active == 0:
        return Closed("limits.max_active is 0", UNKNOWN_RETRY)
    if facts.active >= facts.max_active:
        return Closed(f"{facts.active} of {facts.max_active} sessions are active", FULL_RETRY)
    return _machine_allows(facts, now)


def _machine_allows(facts: GateFacts, now: float) -> Verdict:
    """What is left to ask once the swarm itself would let one start: what the machine has."""
    if low := disk_reason(facts):
        return Closed(low, DISK_RETRY)
    if facts.max_load is not None and facts.load is not None and facts.load > facts.max_load:
        reason = f"the load is {facts.load:.1f} a processor, limits.max_load is {facts.max_load:g}"
        return Closed(reason, LOAD_RETRY)
    fits = _fits(facts)
    if fits == 0:
        kept = f", {facts.reserved_mb} of it for sessions that just started"
        return Closed(
            f"{facts.free_memory_mb} MB of memory are free{kept if facts.reserved_mb else ''}, "
            f"limits.min_free_memory_mb is {facts.min_free_memory_mb}",
            MEMORY_RETRY,
        )
    free = facts.max_active - facts.active
    if fits is not None:
        free = min(free, fits)
    if facts.stagger_seconds > 0 and busy(facts):
        until = now if facts.last_start is None else facts.last_start + facts.stagger_seconds
        if until > now:
            apart = f"{facts.stagger_seconds:g} s apart while the machine is busy"
            return Closed(f"sessions start {apart}", until - now, until)
        free = 1
    return Open(free)


def disk_reason(facts: GateFacts) -> str:
    """Why the disk lets no session start, or nothing: it is wide enough, or nobody asked."""
    if facts.free_disk_mb is None or facts.free_disk_mb >= facts.min_free_disk_mb:
        return ""
    return (
        f"{facts.free_disk_mb} MB of disk are free, "
        f"limits.min_free_disk_mb is {facts.min_free_disk_mb}"
    )


def busy(facts: GateFacts) -> bool:
    """Whether one more start at the same time would be felt; on a quiet machine bursts are fine."""
    if facts.load is not None and facts.load >= BUSY_LOAD:
        return True
    if facts.free_memory_mb is None:
        return False
    return facts.free_memory_mb - facts.reserved_mb < BUSY_MEMORY * facts.min_free_memory_mb


def slots(facts: GateFacts, now: float) -> tuple[int, str]:
    """How many promotions to offer, and the reason when none."""
    return offer(judge(facts, now))


def offer(verdict: Verdict) -> tuple[int, str]:
    """How many promotions to offer under ``verdict``, and the reason when none."""
    match verdict:
        case Open(free):
            return free, ""
        case Closed(reason):
            return 0, reason


def opens_at(verdict: Verdict) -> float | None:
    """When a closed gate opens by time alone: then whoever was told so must be told anew."""
    return verdict.until if isinstance(verdict, Closed) else None


def _spent(budget: Budget) -> str:
    """Why the budget closes the gate, or nothing.  Unknown spending closes nothing."""
    if budget.token_limit is not None and (budget.tokens or 0) >= budget.token_limit:
        return f"the token budget is spent: {budget.tokens or 0} of {budget.token_limit}"
    if budget.usd_limit is not None and (budget.usd or 0.0) >= budget.usd_limit:
        return f"the budget is spent: ${budget.usd or 0.0:.2f} of ${budget.usd_limit:.2f}"
    return ""


def _fits(facts: GateFacts) -> int | None:
    """How many sessions the free memory allows; ``None`` when memory asks nothing."""
    if facts.free_memory_mb is None or facts.min_free_memory_mb == 0:
        return None
    spare = facts.free_memory_mb - facts.reserved_mb - facts.min_free_memory_mb
    if spare < 0:
        return 0
    if facts.session_memory_mb is None:
        return None
    # The reserve is what must stay free *before* a start, so one always fits into no less.
    return 1 + spare // facts.session_memory_mb


# -- a promotion that waits for an answer -------------------------------------------------------

WORK_WAIT_SECONDS = 5.0
"""How long a promotion waits for the coordinator's word about its work."""


def admit(since: float, known: bool, facts: GateFacts, now: float) -> Verdict | None:
    """Answer a daemon that has asked since then to start its session; ``None``: not yet.

    ``known``: the work itself has come, or will come by chat; without it nothing can start.
    """
    verdict = judge(facts, now)
    if isinstance(verdict, Closed) or known:
        return verdict
    if now - since >= WORK_WAIT_SECONDS:
        return Closed("the coordinator does not know it", FULL_RETRY)
    return None
