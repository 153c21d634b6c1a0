"""The fleet's children: spawned, ready, beating, silent, gone."""

from __future__ import annotations

from dataclasses import replace

from swarm.core import life, verdict
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
from swarm.core.fleet_start import daemons_may_start, service_failed
from swarm.core.fleet_state import COORDINATOR, FleetState
from swarm.core.fleet_work import forsake, lost_coordinator
from swarm.core.life import describe_status
from swarm.core.model import ChildState


def spawned(fleet: FleetState, name: str, pid: int) -> None:
    """A process exists: it is told its settings before anything else."""
    agent = fleet.agents.get(name)
    if agent is not None:
        fleet.put(replace(agent, beaten=False, failing="", trouble="", chat_problem=""))
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
    fleet.services[event.name] = replace(
        service, agent_id=event.agent_id, address=event.address or service.address
    )
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
        if (fact := agent.fact(fleet.epoch)) is not None:
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
        case _:
            forsake(fleet, agent.name, f"its daemon died: {describe_status(event.status)}")
            down(fleet, agent, event.status)
            return
    begun = clean.session is not None
    fleet.put(replace(agent, work=Cleaning(task, fence, begun, event.status)))
    fleet.emit(clean)


def down(fleet: FleetState, agent: Agent, status: int) -> None:
    """A daemon is gone and left nothing running: its life goes on."""
    fleet.put(replace(agent, work=NoWork(), beaten=False))
    fleet.live(agent.name, life.Exited(status, agent.failing))


def _service_exited(fleet: FleetState, event: Exited) -> None:
    service = fleet.services.get(event.name)
    if service is None:
        return
    if event.name == COORDINATOR:
        lost_coordinator(fleet)
    fleet.live(event.name, life.Exited(event.status, service.failing))
    service_failed(fleet, event.name)


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
