"""Coming up: services in order, then every daemon; and when the start is over."""

from __future__ import annotations

from swarm.core import life
from swarm.core.fleet_agents import Agent
from swarm.core.fleet_effects import (
    Refuse,
    Reply,
    Settled,
)
from swarm.core.fleet_events import Up
from swarm.core.fleet_scale import fill
from swarm.core.fleet_state import FleetState
from swarm.core.fleet_stop import begin_stop
from swarm.core.model import AgentState, ChildState

MAX_TOLD = 20
"""Reasons told; a thousand daemons fail for the same one, and are told together."""
MAX_NAMED = 5
"""Agents named for each reason."""
_ITS_NAME = "<agent>"


def come_up(fleet: FleetState, event: Up) -> None:
    """Start the first service; the others and the daemons follow as each becomes ready."""
    fleet.taken = event.taken
    fleet.starting = True
    fleet.timers.set(("up", ""), fleet.now + fleet.settings.up_seconds)
    daemons_may_start(fleet)


def daemons_may_start(fleet: FleetState) -> None:
    """Start what comes next: the first service that is not ready, else the daemons."""
    if fleet.stop is not None or fleet.started_daemons:
        return
    for name, service in fleet.services.items():
        if service.life.state is not ChildState.RUNNING:
            fleet.live(name, life.StartRequested())
            return
    fleet.started_daemons = True
    fill(fleet, fleet.taken)


def service_failed(fleet: FleetState, name: str) -> None:
    """A service that says why it cannot start ends the start: nothing works without it."""
    if not fleet.starting or fleet.stop is not None:
        return
    service = fleet.services[name]
    if service.failing or service.life.state is ChildState.DEGRADED:
        _give_up(fleet, (f"{name}: {service.failing or service.reason}",))


def check_ready(fleet: FleetState) -> None:
    """Settle the start, and answer who waits, once nobody is still on the way."""
    if fleet.coming or not fleet.started_daemons or _services_coming(fleet):
        return
    if not (fleet.starting or fleet.waiting_ready):
        return
    problems = _problems(fleet)
    if fleet.starting and fleet.stop is None:
        if problems:
            _give_up(fleet, problems)
            return
        fleet.starting = False
        fleet.timers.set(("up", ""), None)
        fleet.emit(Settled(ok=True))
    _answer_waiting(fleet, problems)


def _services_coming(fleet: FleetState) -> bool:
    """Whether a service that died during the start may yet come back."""
    settled = (ChildState.RUNNING, ChildState.DEGRADED)
    return any(service.life.state not in settled for service in fleet.services.values())


def up_overdue(fleet: FleetState) -> None:
    """The start takes too long: say who is missing, and end."""
    if fleet.starting and fleet.stop is None:
        _give_up(fleet, _problems(fleet))


def ready_asked(fleet: FleetState, reply: int) -> None:
    """Somebody waits for everyone to be ready."""
    fleet.waiting_ready.append(reply)
    fleet.timers.set(("ready", str(reply)), fleet.now + fleet.settings.up_seconds)


def ready_overdue(fleet: FleetState, reply: int) -> None:
    """They waited long enough."""
    if reply in fleet.waiting_ready:
        fleet.waiting_ready.remove(reply)
        fleet.emit(Refuse(reply, _not_ready(_problems(fleet)), "look at `agentctl swarm status`"))


def _answer_waiting(fleet: FleetState, problems: tuple[str, ...]) -> None:
    for reply in fleet.waiting_ready:
        fleet.timers.set(("ready", str(reply)), None)
        if problems:
            remedy = "mend it and run `agentctl agent restart`"
            fleet.emit(Refuse(reply, _not_ready(problems), remedy))
        else:
            fleet.emit(Reply(reply, (f"ready: {len(fleet.agents)} agents",)))
    fleet.waiting_ready.clear()


def _give_up(fleet: FleetState, problems: tuple[str, ...]) -> None:
    fleet.starting = False
    fleet.timers.set(("up", ""), None)
    fleet.emit(Settled(ok=False, problems=problems or ("it took too long",)))
    begin_stop(fleet, now=True, drain=None, by="start")


def _problems(fleet: FleetState) -> tuple[str, ...]:
    """Who is not ready and why."""
    told = [
        f"{name}: {service.reason or 'has not become ready'}"
        for name, service in fleet.services.items()
        if service.life.state is not ChildState.RUNNING
    ]
    by_reason: dict[str, list[str]] = {}
    for name in sorted(fleet.coming | fleet.degraded):
        # Its own name in a path or message makes no other reason of it.
        why = _why(fleet.agents[name]).replace(name, _ITS_NAME)
        by_reason.setdefault(why, []).append(name)
    told += [_together(why, names) for why, names in list(by_reason.items())[:MAX_TOLD]]
    if len(by_reason) > MAX_TOLD:
        more = sum(len(names) for names in list(by_reason.values())[MAX_TOLD:])
        told.append(f"and {more} more agents")
    return tuple(told)


def _together(why: str, names: list[str]) -> str:
    """``swarm-qa-001: reason``, or ``3 agents (swarm-qa-001, …): reason``."""
    if len(names) == 1:
        return f"{names[0]}: {why.replace(_ITS_NAME, names[0])}"
    rest = [f"{len(names) - MAX_NAMED} more"] if len(names) > MAX_NAMED else []
    return f"{len(names)} agents ({', '.join([*names[:MAX_NAMED], *rest])}): {why}"


def _why(agent: Agent) -> str:
    if agent.reason:
        return agent.reason
    if agent.life.last_crash:
        return f"restarted after: {agent.life.last_crash}"
    match agent.state:
        case AgentState.STARTING:
            return "has not joined the channel"
        case _:
            return "has sent no heartbeat"


def _not_ready(problems: tuple[str, ...]) -> str:
    return "not ready: " + "; ".join(problems)
