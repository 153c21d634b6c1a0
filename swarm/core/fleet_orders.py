"""What people ask of the running fleet: one agent, a pause, new settings."""

from __future__ import annotations

from swarm.core import fleet_budget, journal, life
from swarm.core.fleet_agents import Agent, Cleaning
from swarm.core.fleet_effects import (
    DropPause,
    KeepPause,
    Refuse,
    Reply,
    TellLeave,
    TellPoke,
)
from swarm.core.fleet_events import (
    AgentRestartAsked,
    AgentStopAsked,
    KillSessionAsked,
    PauseAsked,
    PokeAsked,
    Reloaded,
    ResumeAsked,
)
from swarm.core.fleet_lives import retune
from swarm.core.fleet_quota import lift_all
from swarm.core.fleet_scale import set_counts
from swarm.core.fleet_state import BY_PERSON, FleetState
from swarm.core.fleet_work import end_session
from swarm.core.gate import Pause
from swarm.core.model import Outcome


def refused_while_stopping(fleet: FleetState, reply: int) -> bool:
    """Refuse what makes no sense on the way down."""
    if fleet.stop is None:
        return False
    fleet.emit(Refuse(reply, "the swarm is stopping", "run `agentctl swarm up` when it has"))
    return True


def pause_asked(fleet: FleetState, event: PauseAsked) -> None:
    """No promotions; running sessions go on."""
    fleet.paused = Pause(event.reason)
    fleet.note(journal.Paused(event.reason))
    fleet.emit(KeepPause(BY_PERSON, event.reason))
    fleet.emit(Reply(event.reply, (_with("paused", event.reason),)))


def resume_asked(fleet: FleetState, event: ResumeAsked) -> None:
    """Promotions again, whoever paused them; what waits for a quota need not any more."""
    paused, fleet.paused = fleet.paused is not None, None
    parked = lift_all(fleet)
    if not (paused or parked):
        fleet.emit(Reply(event.reply, ("nothing was paused",)))
        return
    if paused:
        fleet.note(journal.Resumed())
        fleet.emit(DropPause(BY_PERSON))
    fleet.emit(Reply(event.reply, ("resumed",)))


def reloaded(fleet: FleetState, event: Reloaded) -> None:
    """New settings, for every child at once; then the counts."""
    before, fleet.settings = fleet.settings, event.settings
    retune(fleet)
    fleet_budget.limits_changed(fleet, before)
    lines = event.lines
    if any(fleet.wanted.get(role, 0) != n for role, n in event.roles.items()):
        lines += set_counts(fleet, {**fleet.wanted, **event.roles}, event.taken)[0]
    fleet.note(journal.Reloaded(event.lines))
    fleet.emit(Reply(event.reply, lines))


def agent_stop_asked(fleet: FleetState, event: AgentStopAsked) -> None:
    """Stop one agent; answered when its daemon is gone."""
    agent = _agent(fleet, event.reply, event.agent)
    if agent is None:
        return
    leave = TellLeave(agent.name, fleet.settings.grace_seconds)
    fleet.live(agent.name, life.StopRequested(fleet.settings.leave_seconds), leave)
    if agent.name in fleet.up:
        fleet.waiting_gone.setdefault(agent.name, []).append(event.reply)
    else:
        fleet.emit(Reply(event.reply, (f"{agent.name} stopped",)))


def answer_gone(fleet: FleetState) -> None:
    """Tell who waited for an agent to be gone."""
    for name in [n for n in fleet.waiting_gone if n not in fleet.up]:
        for reply in fleet.waiting_gone.pop(name):
            fleet.emit(Reply(reply, (f"{name} stopped",)))


def agent_restart_asked(fleet: FleetState, event: AgentRestartAsked) -> None:
    """Run one agent, or a service that gave up, afresh; its restart count starts again."""
    if refused_while_stopping(fleet, event.reply):
        return
    if event.agent in fleet.services:
        fleet.note(journal.RestartAsked(event.agent))
        fleet.live(event.agent, life.RestartRequested(), TellLeave(event.agent, 0.0))
        fleet.emit(Reply(event.reply, (f"{event.agent} restarting",)))
        return
    agent = _agent(fleet, event.reply, event.agent)
    if agent is None:
        return
    if agent.leaving:
        fleet.emit(Refuse(event.reply, f"{agent.name} is leaving the fleet", "scale up instead"))
        return
    fleet.note(journal.RestartAsked(agent.name))
    if agent.life.down and not isinstance(agent.work, Cleaning):
        fleet.live(agent.name, life.RestartRequested())
    else:
        leave = TellLeave(agent.name, fleet.settings.grace_seconds)
        fleet.live(agent.name, life.StopRequested(fleet.settings.leave_seconds, "restart"), leave)
        fleet.live(agent.name, life.StartRequested())
    fleet.emit(Reply(event.reply, (f"{agent.name} restarting",)))


def kill_session_asked(fleet: FleetState, event: KillSessionAsked) -> None:
    """End one agent's session."""
    agent = _agent(fleet, event.reply, event.agent)
    if agent is None:
        return
    held = agent.held
    if not end_session(fleet, agent, Outcome.CANCELLED, event.reason or "ended by a person"):
        fleet.emit(
            Refuse(event.reply, f"{agent.name} has no session", "see `agentctl swarm status`")
        )
        return
    task = held[0] if held else ""
    fleet.emit(Reply(event.reply, (f"ending the session of {agent.name} ({task})",)))


def poke_asked(fleet: FleetState, event: PokeAsked) -> None:
    """The ledger changed."""
    fleet.tell(TellPoke())
    fleet.emit(Reply(event.reply))


def _agent(fleet: FleetState, reply: int, name: str) -> Agent | None:
    agent = fleet.agents.get(name)
    if agent is None:
        known = sorted(fleet.agents)[:3]
        like = f", for instance {', '.join(known)}" if known else ""
        remedy = f"`agentctl swarm status` lists the agents{like}"
        fleet.emit(Refuse(reply, f"there is no agent {name[:64]!r}", remedy))
    return agent


def _with(text: str, more: str) -> str:
    return f"{text}: {more}" if more else text
