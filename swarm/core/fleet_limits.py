"""What a running session uses, against what it may: :mod:`~swarm.core.limits` for the fleet.

The daemon ends a session that is told to end.  One that does not, while the session is seen to be
there still, is ended itself: waiting for its heartbeats to stay out would take too long.
"""

from __future__ import annotations

from dataclasses import replace

from swarm.core import life, limits
from swarm.core.fleet_agents import Active, Agent
from swarm.core.fleet_events import ChildBeat, SessionUse
from swarm.core.fleet_state import FleetState
from swarm.core.fleet_work import end_session
from swarm.core.limits import Watch


def beat(fleet: FleetState, agent: Agent, event: ChildBeat) -> None:
    """A holder's heartbeat says for how long its session has printed nothing."""
    if isinstance(agent.work, Active):
        watch = _watch(fleet, agent, agent.work)
        fleet.watches[agent.name] = limits.heard(watch, event.quiet, fleet.now)


def session_use(fleet: FleetState, event: SessionUse) -> None:
    """A look at a session's tree: it goes on, or is ended, or its daemon is."""
    agent = fleet.agents.get(event.name)
    if agent is None or not isinstance(agent.work, Active):
        fleet.watches.pop(event.name, None)
        return
    if agent.held != (event.task, event.fence):
        return
    settings = fleet.settings
    watch = _watch(fleet, agent, agent.work)
    watch = limits.looked(watch, event.use, settings.sample_seconds, fleet.now)
    over = limits.judge(
        watch,
        event.use,
        settings.limits_of(agent.role),
        beat_seconds=settings.beat_seconds(service=False),
        now=fleet.now,
    )
    if over is not None and (not agent.work.ending or over.kill):
        grace = 0.0 if over.kill else settings.grace_seconds
        if watch.end_by is None or watch.end_by > _end_by(fleet, grace):
            end_session(fleet, agent, over.outcome, over.reason, grace)
            watch = replace(watch, end_by=_end_by(fleet, grace))
    elif agent.work.ending and watch.end_by is None:
        watch = replace(watch, end_by=_end_by(fleet, settings.grace_seconds))
    fleet.watches[agent.name] = watch
    if limits.overdue(watch, fleet.now):
        _disobeyed(fleet, agent)


def _watch(fleet: FleetState, agent: Agent, work: Active) -> Watch:
    """What is remembered of this very session; a new one has just made progress."""
    watch = fleet.watches.get(agent.name)
    if watch is not None and watch.key == (work.task, work.fence):
        return watch
    return Watch(work.task, work.fence, fleet.now)


def _end_by(fleet: FleetState, grace: float) -> float:
    return fleet.now + grace + limits.OVERDUE_SECONDS


def _disobeyed(fleet: FleetState, agent: Agent) -> None:
    """The daemon was told to end its session and has not: it is killed, and the tree with it."""
    reason = "its session is still there though it was told to end it"
    fleet.forget_pulse(agent.name)
    if isinstance(agent.life.phase, life.Stopping):
        fleet.live(agent.name, life.StopRequested(0.0, reason))
    else:
        fleet.live(agent.name, life.Unresponsive(reason, 0.0))
