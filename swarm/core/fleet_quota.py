"""A provider's quota: which runtimes are parked, until when, and the probe that frees one.

A quota parks its runtime only: a ``claude`` quota does not stop ``codex`` roles.  The agents of a
parked runtime are closed (:meth:`~swarm.core.fleet_state.FleetState.closed`): they are offered
nothing and promoted for nothing, until the time the provider gave has come, else until a probe
succeeds: one small session of that runtime, run by an idle daemon (:mod:`swarm.core.quota` has
the rules).  Nothing is probed while a person has paused the swarm, or while it stops.
"""

from __future__ import annotations

from dataclasses import replace

from swarm.core import journal, quota
from swarm.core.fleet_effects import DropPause, EndQuotaWaits, KeepPause, TellPoke, TellProbe
from swarm.core.fleet_events import Probed, Report
from swarm.core.fleet_state import FleetState
from swarm.core.model import Outcome
from swarm.core.quota import Probing, Quota

_NO_PROBE = frozenset({Outcome.CANCELLED, Outcome.LOST})
"""Ends of a probe that say nothing about the quota: the daemon was busy, or left."""


def hit(fleet: FleetState, name: str, report: Report) -> None:
    """A session ended for its quota: its runtime is parked; what runs goes on."""
    runtime = fleet.runtime_of(name)
    agent = fleet.agents.get(name)
    now = fleet.now
    reset = None if report.retry_at is None else report.retry_at - fleet.epoch
    old = fleet.quotas.get(runtime)
    new = quota.parked(
        old,
        runtime,
        agent.role if agent is not None else "",
        report.reason,
        reset,
        now,
        fleet.settings.quota_probe_seconds,
        doubted=runtime in fleet.unproven,
    )
    if new != old:
        _put(fleet, new)
        fleet.note(journal.QuotaHit(runtime, new.reason, _unix(fleet, new.shown_until)))


def got_through(fleet: FleetState, name: str) -> None:
    """A session of this agent ended otherwise: the time that the provider gave has held."""
    if fleet.unproven:
        fleet.unproven.discard(fleet.runtime_of(name))


def settle(fleet: FleetState) -> None:
    """Resume or probe what is due, where somebody is there to probe."""
    for one in list(fleet.quotas.values()):
        if one.over(fleet.now):
            fleet.unproven.add(one.runtime)
            _lift(fleet, one, "the time that the provider gave has come")
        elif one.look_at <= fleet.now and one.probe is None:
            _probe(fleet, one)


def _probe(fleet: FleetState, one: Quota) -> None:
    """Ask an idle agent of the runtime, if there is one; else it is asked when there is."""
    if fleet.stop is not None or fleet.paused is not None:
        return
    name = _prober(fleet, one)
    if name is None:
        return
    fleet.probes += 1
    fleet.probing[name] = fleet.probes
    fleet.touched[name] = None
    fleet.quotas[one.runtime] = replace(one, probe=Probing(fleet.probes, name))
    fleet.timers.set(("quota", one.runtime), None)
    fleet.timers.set(("probe", one.runtime), fleet.now + quota.PROBE_ANSWER_SECONDS)
    fleet.emit(TellProbe(name, fleet.probes))


def _prober(fleet: FleetState, one: Quota) -> str | None:
    """An idle agent of the runtime, of the role that hit the quota where there is one."""
    fits = None
    for name in (*fleet.cold, *fleet.warm, *fleet.preparing):
        if name in fleet.probing or one.runtime not in ("", fleet.runtime_of(name)):
            continue
        if not one.role or fleet.agents[name].role == one.role:
            return name
        fits = fits or name
    return fits


def probed(fleet: FleetState, event: Probed) -> None:
    """The probe of a runtime's quota is over."""
    if fleet.probing.get(event.name) == event.id:
        del fleet.probing[event.name]
        fleet.touched[event.name] = None
    one = _asked_of(fleet, event.name, event.id)
    if one is None:
        return  # lifted meanwhile, or asked of another agent
    fleet.timers.set(("probe", one.runtime), None)
    if event.outcome in _NO_PROBE:
        _ask_again(fleet, one)
        return
    fleet.note(
        journal.QuotaProbed(event.name, one.runtime, event.outcome.value, event.reason),
    )
    if event.outcome is Outcome.QUOTA:
        reset = None if event.retry_at is None else event.retry_at - fleet.epoch
        every = fleet.settings.quota_probe_seconds
        _put(fleet, quota.refused(one, reset, event.reason, fleet.now, every))
    elif event.outcome is Outcome.SUCCEEDED:
        _lift(fleet, one, "a probe succeeded")
    else:
        # Not the quota, then; what it is, a real session will show.
        _lift(fleet, one, f"a probe ended otherwise: {event.reason or event.outcome.value}")


def overdue(fleet: FleetState, runtime: str) -> None:
    """A probe was not answered: whoever had it, another is asked."""
    one = fleet.quotas.get(runtime)
    if one is not None and one.probe is not None:
        _ask_again(fleet, one)


def prober_died(fleet: FleetState, name: str) -> int | None:
    """An agent's daemon is gone; the probe it ran, whose tree may be left, if it ran one."""
    number = fleet.probing.pop(name, None)
    if number is not None:
        one = _asked_of(fleet, name, number)
        if one is not None:
            fleet.timers.set(("probe", one.runtime), None)
            _ask_again(fleet, one)
    return number


def lift_all(fleet: FleetState) -> bool:
    """A person resumes: nothing waits for a quota any more; says whether anything did."""
    waited = bool(fleet.quotas)
    for one in list(fleet.quotas.values()):
        _lift(fleet, one, "resumed by a person")
    fleet.unproven.clear()
    return waited


def remember(fleet: FleetState) -> None:
    """At the start: what the reports of an earlier run told is kept from now on."""
    for one in fleet.quotas.values():
        _keep(fleet, one)
        fleet.note(journal.QuotaHit(one.runtime, one.reason, _unix(fleet, one.until)))


def _asked_of(fleet: FleetState, name: str, number: int) -> Quota | None:
    """The park whose probe this is."""
    asked = Probing(number, name)
    return next((one for one in fleet.quotas.values() if one.probe == asked), None)


def _ask_again(fleet: FleetState, one: Quota) -> None:
    look_at = fleet.now + quota.PROBE_AGAIN_SECONDS
    fleet.park(replace(one, probe=None, look_at=look_at))


def _put(fleet: FleetState, one: Quota) -> None:
    """Park it, or park it otherwise; remembered over a restart."""
    fleet.park(one)
    _keep(fleet, one)


def _keep(fleet: FleetState, one: Quota) -> None:
    # A time that is not believed is not kept either: a later run begins with a probe.
    until = None if one.doubted else _unix(fleet, one.until)
    fleet.emit(KeepPause(quota.scope_of(one.runtime), one.text, until))


def _lift(fleet: FleetState, one: Quota, why: str) -> None:
    """Promotions of this runtime again; the tasks that wait for the provider's time go too."""
    fleet.unpark(one.runtime)
    fleet.note(journal.QuotaLifted(one.runtime, why))
    fleet.emit(DropPause(quota.scope_of(one.runtime)), EndQuotaWaits())
    fleet.tell(TellPoke())


def _unix(fleet: FleetState, at: float | None) -> float | None:
    return None if at is None else fleet.epoch + at
