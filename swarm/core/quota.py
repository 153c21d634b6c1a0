"""One runtime's quota: parked until when, what comes then, and whether that is believed.

Pure rules; :mod:`swarm.core.fleet_quota` applies them to the fleet.  Times are the fleet's clock.

A provider's own time is believed once: when it has come, promotions go on.  A quota that is hit
again before any session got through was not over then: from there on, as without a known time,
only a probe that succeeds ends it (product, "Quota").
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from swarm.core.gate import Pause

SCOPE = "quota"
"""Scope of the pauses that are remembered: ``quota:<runtime>``; alone (also what earlier versions
wrote): whatever runtime."""
AFTER_RESET_SECONDS = 1.0
"""Promotions go on so long after the time that the provider gave: clocks differ a little."""
PATIENCE_SECONDS = 3600.0
"""A park is probed at least so often, whatever its known end: the time may have been misread, or
made up by a session that wants the others to wait."""
PROBE_ANSWER_SECONDS = 180.0
"""A probe that was not answered by then is asked of another agent; its daemon ends it after 120."""
PROBE_AGAIN_SECONDS = 5.0
"""After a probe that was no probe: its daemon was busy, left, or died."""


@dataclass(frozen=True, slots=True)
class Probing:
    """A probe is out."""

    id: int
    agent: str


@dataclass(frozen=True, slots=True)
class Quota:
    """A parked runtime.  ``runtime`` may be empty: whatever any agent runs."""

    runtime: str
    reason: str = ""
    """The provider's words."""
    until: float | None = None
    """When it ends by the provider's word; ``None`` is unknown."""
    look_at: float = 0.0
    """When something is done about it: resumed, or probed."""
    doubted: bool = False
    """Its time is not believed: it came once and did not hold."""
    role: str = ""
    """Whose session hit it: the first choice for a probe, as roles differ in their model."""
    probe: Probing | None = None

    @property
    def shown_until(self) -> float | None:
        """When it is expected to end, or to be probed next; ``None`` while it is being probed."""
        if self.until is not None:
            return self.until
        return None if self.probe is not None else self.look_at

    @property
    def text(self) -> str:
        """For people."""
        head = f"quota: {self.runtime} is parked" if self.runtime else SCOPE
        return f"{head}: {self.reason}" if self.reason else head

    def over(self, now: float) -> bool:
        """Whether the time that the provider gave has come, and is believed."""
        return self.until is not None and self.until <= now and not self.doubted


def parked(
    old: Quota | None,
    runtime: str,
    role: str,
    reason: str,
    reset_at: float | None,
    now: float,
    probe_seconds: float,
    *,
    doubted: bool,
) -> Quota:
    """The park after a session hit its quota; of several known ends the latest counts.

    ``doubted``: the runtime had just been resumed by the clock, and nothing got through since.
    """
    if old is not None and reset_at is None:
        return old
    until = None if reset_at is None else max(reset_at, now) + AFTER_RESET_SECONDS
    doubted = doubted or (old is not None and old.doubted)
    if old is not None and old.until is not None and until is not None:
        until = max(until, old.until)
    probe = old.probe if old is not None else None
    new = Quota(runtime, reason, until, 0.0, doubted, role, probe)
    return replace(new, look_at=_look_at(new, now, probe_seconds))


def refused(quota: Quota, reset_at: float | None, reason: str, now: float, every: float) -> Quota:
    """The park after a probe that hit the quota: another one at the time it gave, else later."""
    until = None if reset_at is None else max(reset_at, now) + AFTER_RESET_SECONDS
    new = replace(quota, until=until, doubted=True, probe=None, reason=reason or quota.reason)
    return replace(new, look_at=_look_at(new, now, every))


def remembered(runtime: str, pause: Pause) -> Quota:
    """A park of an earlier run: one without a known end is probed as soon as somebody can."""
    reason = pause.reason
    for head in (f"quota: {runtime} is parked: ", f"{SCOPE}: "):
        reason = reason.removeprefix(head)
    until = pause.until
    return Quota(runtime, reason, until, 0.0 if until is None else until)


def _look_at(quota: Quota, now: float, every: float) -> float:
    if quota.until is None:
        return now + every
    return min(quota.until, now + PATIENCE_SECONDS)


def scope_of(runtime: str) -> str:
    """The scope a runtime's park is remembered under."""
    return f"{SCOPE}:{runtime}" if runtime else SCOPE


def runtime_of(scope: str) -> str | None:
    """The runtime whose park a scope is; ``None`` for another kind of pause."""
    head, colon, runtime = scope.partition(":")
    return runtime if head == SCOPE and (runtime or not colon) else None
