"""The fleet's children: spawned, ready, beating, silent, gone."""

from __future__ import annotations

from dataclasses import replace

from swarm.core import fleet_limits, life, pressure, verdict
from swarm.core.fleet_agents import Active, Agent, Cleaning, NoWork, Promoting, Waiting
from swarm.core.fleet_effects import (
    CleanTree,
    TellRenew,
    TellSnapshot,
    Tune,
)
from swarm.core.fleet_events import (
    ChatIs,
    ChildBeat,
    ChildFailing,
    ChildReady,
    ChildTrouble,
    Exited,
)
from swarm.core.fleet_quota import prober_died
from swarm.core.fleet_start import daemons_may_start, service_failed
from swarm.core.fleet_state import COORDINATOR, FleetState
from swarm.core.fleet_work import forsake, lost_coordinator
from swarm.core.life import describe_status
from swarm.core.model import PROBE_TASK, ChildState


def spawned(fleet: FleetState, name: str, pid: int) -> None:
    """A process exists: it is told its settings before anything else."""
    agent = fleet.agents.get(name)
    if agent is not None:
        runtime = fleet.settings.runtimes.get(agent.role, "")
        fleet.put(
            replace(agent, beaten=False, failing="", trouble="", chat_problem="", runtime=runtime)
        )
    elif name in fleet.services:
        fleet.services[name] = replace(fleet.services[name], failing="", trouble="")
    fleet.live(name, life.Spawned(pid))
    fleet.emit(Tune(name))


def ready(fleet: FleetState, event: ChildReady) -> None:
    """The child does its work."""
    before = fleet.life_of(event.name)
    if before is None or before.state is not ChildState.STARTING:
        return
    agent = fleet.agents.get(event.name)
    if agent is not None:
        work = Waiting(fleet.now)
        fleet.put(replace(agent, agent_id=event.agent_id, work=work, chat_problem=""))
        fleet.live(event.name, life.Ready())
        fleet.first_pulse(event.name)
        return
    service = fleet.services[event.name]
    fleet.services[event.name] = replace(service, address=event.address or service.address)
    fleet.live(event.name, life.Ready())
    fleet.first_pulse(event.name)
    if event.name == COORDINATOR:
        _link(fleet)
    daemons_may_start(fleet)


def _link(fleet: FleetState) -> None:
    """The coordinator is there: tell it everything."""
    fleet.linked = True
    facts = {}
    for name, agent in fleet.agents.items():
        if (fact := fleet.fact(agent)) is not None:
            facts[name] = fact
    fleet.told = facts
    fleet.told_slots = None
    reports = tuple(report for _agent, report in fleet.reports.values())
    fleet.emit(TellSnapshot(tuple(facts.values()), reports))


def beat(fleet: FleetState, event: ChildBeat) -> None:
    """A heartbeat: a gauge, and for a holder the renewal of its lease."""
    pulse = fleet.pulses.get(event.name)
    if pulse is not None:
        # The timer is left where it is: when it fires, it sees that a beat came meanwhile.
        fleet.pulses[event.name] = verdict.heard(pulse, fleet.now)
    agent = fleet.agents.get(event.name)
    if agent is None:
        return
    if not agent.beaten:
        fleet.put(replace(agent, beaten=True))
    if event.task and agent.held == (event.task, event.fence):
        fleet_limits.beat(fleet, agent, event)
        fleet.tell(TellRenew(event.task, event.fence))


def look(fleet: FleetState, name: str) -> None:
    """A heartbeat may be missing."""
    pulse = fleet.pulses.get(name)
    if pulse is None:
        return
    pulse, dead = verdict.look(pulse, fleet.now)
    if dead:
        fleet.forget_pulse(name)
        known = fleet.life_of(name)
        if known is not None and isinstance(known.phase, life.Stopping):
            # A drain may last for ever, but not with a daemon that is wedged.
            fleet.live(name, life.StopRequested(0.0, dead))
        else:
            fleet.live(name, life.Unresponsive(dead))
        return
    fleet.pulses[name] = pulse
    fleet.timers.set(("pulse", name), pulse.deadline)


def failing(fleet: FleetState, event: ChildFailing) -> None:
    """The child says why it will exit before it is ready."""
    agent = fleet.agents.get(event.name)
    if agent is not None:
        fleet.put(replace(agent, failing=event.error))
    elif event.name in fleet.services:
        fleet.services[event.name] = replace(fleet.services[event.name], failing=event.error)


def trouble(fleet: FleetState, event: ChildTrouble) -> None:
    """Something to show beside the child."""
    agent = fleet.agents.get(event.name)
    if agent is not None:
        fleet.put(replace(agent, trouble=event.text))
    elif event.name in fleet.services:
        fleet.services[event.name] = replace(fleet.services[event.name], trouble=event.text)


def chat_is(fleet: FleetState, event: ChatIs) -> None:
    """A daemon's connection; shown from five failed attempts in a row on (product, "Chat lost")."""
    agent = fleet.agents.get(event.name)
    if agent is None:
        return
    said = ""
    if not event.connected:
        why = f": {event.reason}" if event.reason else ""
        times = f", {event.attempts} failed attempts" if event.attempts else ""
        said = f"chat lost{times}{why}"
    fleet.put(replace(agent, chat_problem=said))


def garbled(fleet: FleetState, name: str, what: str) -> None:
    """A child that breaks its protocol is ended, as one that is silent."""
    fleet.forget_pulse(name)
    fleet.live(name, life.Unresponsive(f"broke its protocol: {what}"))


def exited(fleet: FleetState, event: Exited) -> None:
    """The process is gone."""
    fleet.forget_pulse(event.name)
    _count_death(fleet, event)
    agent = fleet.agents.get(event.name)
    if agent is None:
        _service_exited(fleet, event)
        return
    if agent.life.pid is None or isinstance(agent.work, Cleaning):
        return
    match agent.work:
        case Promoting(task=task, fence=fence):
            clean = CleanTree(agent.name, task, fence, None)
        case Active(task=task, fence=fence, session=session):
            clean = CleanTree(agent.name, task, fence, session)
        case _ if (probe := prober_died(fleet, agent.name)) is not None:
            clean = CleanTree(agent.name, f"{PROBE_TASK}{probe}", probe, None)
        case _:
            forsake(fleet, agent.name, f"its daemon died: {describe_status(event.status)}")
            down(fleet, agent, event.status)
            return
    begun, probe_only = clean.session is not None, agent.held is None
    cleaning = Cleaning(clean.task, clean.fence, begun, event.status, probe_only)
    fleet.put(replace(agent, work=cleaning))
    fleet.emit(clean)


def down(fleet: FleetState, agent: Agent, status: int) -> None:
    """A daemon is gone and left nothing running: its life goes on."""
    fleet.put(replace(agent, work=NoWork(), beaten=False))
    fleet.watches.pop(agent.name, None)
    fleet.live(agent.name, life.Exited(status, agent.failing, _shared(fleet, agent.name)))


def _service_exited(fleet: FleetState, event: Exited) -> None:
    service = fleet.services.get(event.name)
    if service is None:
        return
    if event.name == COORDINATOR:
        lost_coordinator(fleet)
    shared = _shared(fleet, event.name, hurry=True)
    fleet.live(event.name, life.Exited(event.status, service.failing, shared))
    service_failed(fleet, event.name)


# -- deaths of many at once (core.pressure) -------------------------------------------------------


def _count_death(fleet: FleetState, event: Exited) -> None:
    """A child that a signal ended, or that was ended for its silence, may be one of many."""
    known = fleet.life_of(event.name)
    if known is None or known.pid is None or fleet.stop is not None:
        return
    silent = False
    if isinstance(known.phase, life.Stopping):
        if known.phase.then is not life.Then.CRASH:
            return  # it was asked to go
        silent = True
    if event.status >= 0 and not silent:
        return
    before = pressure.holds(fleet.pressure, fleet.now)
    size = len(fleet.agents) + len(fleet.services)
    fleet.pressure = pressure.died(fleet.pressure, event.name, size, fleet.now)
    if not before and pressure.holds(fleet.pressure, fleet.now):
        fleet.pressure, names = pressure.forgiven(fleet.pressure)
        for name in names:
            fleet.live(name, life.Forgiven(_turn(fleet, hurry=name in fleet.services)))


def _shared(fleet: FleetState, name: str, hurry: bool = False) -> life.Shared | None:
    """What excuses the death of ``name``; without, it is charged.  Services come back at once."""
    if pressure.excuses(fleet.pressure, name, fleet.now):
        return _turn(fleet, hurry)
    fleet.pressure = pressure.charged(fleet.pressure, name)
    return None


def _turn(fleet: FleetState, hurry: bool) -> life.Shared:
    at = fleet.now
    if not hurry:
        fleet.pressure, at = pressure.turn(fleet.pressure, fleet.now, fleet.jitter)
    return life.Shared(pressure.describe(fleet.pressure), at)


def spawn_failed(fleet: FleetState, name: str, error: str) -> None:
    """No process could be made; while many die, that is no fault of this child either."""
    shared = None
    if pressure.holds(fleet.pressure, fleet.now):
        shared = _shared(fleet, name, hurry=name in fleet.services)
    fleet.live(name, life.SpawnFailed(error, shared))


def due(fleet: FleetState, name: str) -> None:
    """A life wants to be looked at.  After many died, a restart waits for memory as well."""
    agent, free = fleet.agents.get(name), fleet.free_memory_mb
    least = fleet.settings.min_free_memory_mb
    if (
        agent is not None
        and isinstance(agent.life.phase, life.Backoff)
        and free is not None
        and free < least
        and pressure.wants_room(fleet.pressure, fleet.now)
    ):
        reason = f"waits for memory: {free:.0f} MB are free, limits.min_free_memory_mb is {least}"
        until = fleet.now + pressure.ROOM_SECONDS
        fleet.live(name, life.Postponed(until, reason))
        return
    fleet.live(name, life.Tick())


def retune(fleet: FleetState) -> None:
    """After a reload: every child under the new policy, every heartbeat forgiven."""
    settings = fleet.settings
    for name in (*fleet.services, *fleet.agents):
        terms = settings.service_terms if name in fleet.services else settings.daemon_terms
        fleet.live(name, life.PolicyChanged(settings.policy, terms))
        pulse = fleet.pulses.get(name)
        if pulse is not None:
            interval = settings.beat_seconds(service=name in fleet.services)
            pulse = verdict.retuned(pulse, interval, settings.misses, fleet.now)
            fleet.pulses[name] = pulse
            fleet.timers.set(("pulse", name), pulse.deadline)
        fleet.emit(Tune(name))
