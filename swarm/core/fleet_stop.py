"""Going down, in the reverse order of coming up: daemons, coordinator, chat, then the janitor."""

from __future__ import annotations

from swarm.core import fleet_disk as disk
from swarm.core import journal, life
from swarm.core.fleet_effects import (
    End,
    Refuse,
    Reply,
    TellLeave,
    Tidy,
)
from swarm.core.fleet_events import OrderEvent, StopAsked
from swarm.core.fleet_settings import NOW_SECONDS, SERVICE_STOP_SECONDS
from swarm.core.fleet_state import FleetState, Stopping
from swarm.core.model import ChildState

_REASON = "the swarm is stopping"
_REMEDY = "start one with `agentctl swarm up`"


def stop_asked(fleet: FleetState, event: StopAsked) -> None:
    """Begin to stop, or stop harder; a second request never makes it milder."""
    stop = fleet.stop
    if stop is None:
        by = "command" if event.reply else "signal"
        begin_stop(fleet, now=event.now, drain=event.drain, by=by)
        stop = fleet.stop
    elif (event.now and not stop.now) or (stop.drain is not None and event.drain is None):
        stop.now, stop.drain = stop.now or event.now, None
        fleet.note(journal.StopAsked("now" if stop.now else "grace", "again"))
        fleet.timers.set(("drain", ""), None)
        _leave_all(fleet, stop)
    elif event.now:
        _kill_all(fleet)
    if event.reply and stop is not None:
        stop.replies.append(event.reply)


def begin_stop(fleet: FleetState, *, now: bool, drain: float | None, by: str) -> None:
    """No promotions any more, and every daemon is told to leave."""
    if fleet.stop is not None:
        return
    stop = fleet.stop = Stopping(now, None if now else drain)
    fleet.starting = False
    fleet.timers.set(("up", ""), None)
    how = "now" if now else "drain" if drain is not None else "grace"
    fleet.note(journal.StopAsked(how, by))
    disk.end(fleet)
    if stop.drain:
        fleet.timers.set(("drain", ""), fleet.now + stop.drain)
    _leave_all(fleet, stop)


def drained(fleet: FleetState) -> None:
    """The time to drain is over: who is still busy gets the grace."""
    if fleet.stop is not None and fleet.stop.drain is not None:
        fleet.stop.drain = None
        _leave_all(fleet, fleet.stop)


def _leave_all(fleet: FleetState, stop: Stopping) -> None:
    """Tell every daemon to leave, as the stop now has it."""
    grace = 0.0 if stop.now else fleet.settings.grace_seconds
    draining = stop.drain is not None
    for name in list(fleet.agents):
        agent = fleet.agents[name]
        within = NOW_SECONDS if stop.now else fleet.settings.leave_seconds
        if draining and agent.busy:
            within = float("inf")
        leave = TellLeave(name, grace, draining)
        again = isinstance(agent.life.phase, life.Stopping)
        fleet.live(name, life.StopRequested(within, _REASON), leave)
        if again and name in fleet.agents:
            fleet.emit(leave)  # the life was stopping already, so it did not say it anew


def _kill_all(fleet: FleetState) -> None:
    for name in (*fleet.agents, *fleet.services):
        known = fleet.life_of(name)
        if known is not None and not known.down:
            fleet.live(name, life.StopRequested(0.0, _REASON))


def advance_stop(fleet: FleetState) -> None:
    """Take the next step down once the one before is done."""
    stop = fleet.stop
    if stop is None or fleet.ended:
        return
    if stop.stage == "daemons" and not fleet.up:
        stop.stage = "services"
    if stop.stage == "services" and _services_down(fleet):
        stop.stage = "tidy"
        _tidy(fleet, stop)
    elif stop.stage == "tidy":
        _tidy(fleet, stop)
    if stop.stage == "over":
        _end(fleet, stop)


def _services_down(fleet: FleetState) -> bool:
    """Stop the last service that is still up; whether none is."""
    for name in reversed(fleet.services):
        known = fleet.services[name].life
        if not known.down and known.state is not ChildState.STOPPING:
            stop = life.StopRequested(SERVICE_STOP_SECONDS, _REASON)
            fleet.live(name, stop, TellLeave(name, 0.0))
        elif known.down and not isinstance(known.phase, life.Stopped):
            fleet.live(name, life.StopRequested(0.0, _REASON))
        if not fleet.services[name].life.down:
            return False
    return True


def _tidy(fleet: FleetState, stop: Stopping) -> None:
    """Hand every workspace to the janitor, after the batch it may be at."""
    if fleet.tidying or fleet.cleaning or stop.last_tidy:
        return
    if fleet.settings.persist:
        stop.stage = "over"
        return
    fleet.tidying = tuple(dict.fromkeys((*fleet.to_tidy, *fleet.agents)))
    fleet.to_tidy = []
    stop.last_tidy = True
    fleet.emit(Tidy(fleet.tidying, rest=True))


def _end(fleet: FleetState, stop: Stopping) -> None:
    fleet.ended = True
    fleet.note(journal.SwarmStopped())
    for name, replies in fleet.waiting_gone.items():
        for reply in replies:
            fleet.emit(Reply(reply, (f"{name} stopped",)))
    for reply in fleet.waiting_ready:
        fleet.emit(Refuse(reply, "the swarm has stopped", _REMEDY))
    for reply in stop.replies:
        fleet.emit(Reply(reply, ("stopped", *stop.lines)))
    fleet.emit(End())


def answer_late(fleet: FleetState, event: OrderEvent) -> None:
    """Whoever asks in the moment between the end and the last connection's closing."""
    reply = getattr(event, "reply", 0)
    if isinstance(event, StopAsked) and reply:
        fleet.emit(Reply(reply, ("stopped",)))
    elif reply:
        fleet.emit(Refuse(reply, "the swarm has stopped", _REMEDY))
