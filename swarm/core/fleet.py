"""The whole fleet as one machine: events in, effects out (architecture, "Decide, then do").

::

    fleet = Fleet(settings, services=("chat", "coordinator"), wanted={"builder": 3}, …)
    effects = fleet.handle(event, now, jitter)      # again and again, until fleet.ended
    fleet.deadline()                                # when a Tick is due

What it is made of: :mod:`~swarm.core.fleet_state` holds the value, :mod:`~swarm.core.fleet_lives`
the children, :mod:`~swarm.core.fleet_work` promotions and tasks, :mod:`~swarm.core.fleet_scale`
the counts, :mod:`~swarm.core.fleet_start` and :mod:`~swarm.core.fleet_stop` the way up and down,
:mod:`~swarm.core.fleet_orders` what people ask for.

What always holds (and is tested against an adversary):

- never more sessions granted or running than ``limits.max_active`` when one is granted;
- one process a child, and no new one while an old session's tree may live;
- a task of our coordinator is granted only with its assignment;
- scaling never stops a busy agent;
- every task a dead daemon held is told to the coordinator exactly once, lost or reported;
- a stop ends.
"""

from __future__ import annotations

from typing import assert_never

from swarm.core import fleet_budget as budget
from swarm.core import fleet_disk as disk
from swarm.core import fleet_effects as fx
from swarm.core import fleet_events as e
from swarm.core import fleet_limits as limits
from swarm.core import fleet_lives as lives
from swarm.core import fleet_orders as orders
from swarm.core import fleet_quota as quota
from swarm.core import fleet_scale as scale
from swarm.core import fleet_start as start
from swarm.core import fleet_stop as stop
from swarm.core import fleet_work as work
from swarm.core.fleet_agents import Asking
from swarm.core.fleet_state import FleetState


class Fleet(FleetState):
    """The fleet machine; see the module's text."""

    def handle(self, event: e.Event, now: float, jitter: float = 0.0) -> list[fx.Effect]:
        """What follows from ``event`` at ``now`` (seconds on a clock that never goes back).

        ``jitter`` is a random number 0..1 for the restart policy.
        """
        self.now, self.jitter, self.effects = now, jitter, []
        self._step(event)
        if not isinstance(event, e.ChildBeat) or self.touched:
            self._settle()
        return self.effects

    def deadline(self) -> float | None:
        """When the next :class:`~swarm.core.fleet_events.Tick` is due, if ever."""
        return self.timers.next()

    def _settle(self) -> None:
        """What follows from any change, whatever made it."""
        budget.enforce(self)
        scale.settle_idle(self)
        orders.answer_gone(self)
        scale.leavers(self)
        start.check_ready(self)
        work.prepare(self)
        quota.settle(self)
        self.tell_changes()
        disk.settle(self)  # the coordinator has heard by now that nothing starts
        stop.advance_stop(self)

    def _step(self, event: e.Event) -> None:  # noqa: C901 - one flat line an event
        match event:
            case e.ChildBeat():
                lives.beat(self, event)
            case e.Spawned(name=name, pid=pid):
                lives.spawned(self, name, pid)
            case e.SpawnFailed(name=name, error=error):
                lives.spawn_failed(self, name, error)
            case e.Exited():
                lives.exited(self, event)
            case e.ChildReady():
                lives.ready(self, event)
            case e.ChildFailing():
                lives.failing(self, event)
            case e.ChildTrouble():
                lives.trouble(self, event)
            case e.ChatIs():
                lives.chat_is(self, event)
            case e.ChildGarbled(name=name, what=what):
                lives.garbled(self, name, what)
            case e.PromotionAsked():
                work.promotion_asked(self, event)
            case e.SessionStarted():
                work.session_started(self, event)
            case e.SessionSpent():
                work.session_spent(self, event)
            case e.SessionEnded():
                work.session_ended(self, event)
            case e.DaemonIdle():
                work.daemon_idle(self, event)
            case e.Probed():
                quota.probed(self, event)
            case e.TreeCleaned():
                if (status := work.tree_cleaned(self, event)) is not None:
                    lives.down(self, self.agents[event.name], status)
            case e.WorkAssigned():
                work.work_assigned(self, event)
            case e.WorkRevoked():
                work.work_revoked(self, event)
            case e.HubIsReady():
                work.hub_ready(self, event)
            case e.Tick():
                self._tick()
            case _:
                self._step_orders(event)

    def _step_orders(self, event: e.OrderEvent) -> None:  # noqa: C901 - the same
        if self.ended:
            stop.answer_late(self, event)
            return
        match event:
            case e.Up():
                quota.remember(self)
                start.come_up(self, event)
            case e.ScaleAsked():
                if not orders.refused_while_stopping(self, event.reply):
                    scale.scale_asked(self, event)
            case e.Reloaded():
                if not orders.refused_while_stopping(self, event.reply):
                    orders.reloaded(self, event)
            case e.PauseAsked():
                orders.pause_asked(self, event)
            case e.ResumeAsked():
                orders.resume_asked(self, event)
            case e.StopAsked():
                stop.stop_asked(self, event)
            case e.ReadyAsked(reply=reply):
                start.ready_asked(self, reply)
            case e.AgentStopAsked():
                orders.agent_stop_asked(self, event)
            case e.AgentRestartAsked():
                orders.agent_restart_asked(self, event)
            case e.KillSessionAsked():
                orders.kill_session_asked(self, event)
            case e.PokeAsked():
                orders.poke_asked(self, event)
            case e.MemoryIs(free_mb=free_mb, load=load, free_disk_mb=free_disk_mb):
                self.free_memory_mb, self.load, self.free_disk_mb = free_mb, load, free_disk_mb
            case e.SessionUse():
                limits.session_use(self, event)
            case e.SpendingIs():
                budget.spending_is(self, event)
            case e.Tidied():
                scale.tidied(self, event)
            case e.CleanedUp():
                disk.cleaned_up(self, event)
            case _:
                assert_never(event)

    def _tick(self) -> None:
        for what, whose in self.timers.due(self.now):
            match what:
                case "life":
                    lives.due(self, whose)
                case "gate":
                    pass  # it opens by time: settled with whatever else is due
                case "pulse":
                    lives.look(self, whose)
                case "asking":
                    agent = self.agents.get(whose)
                    if agent is not None and isinstance(agent.work, Asking):
                        work.answer(self, agent)
                case "up":
                    start.up_overdue(self)
                case "ready":
                    start.ready_overdue(self, int(whose))
                case "quota":
                    pass  # settled with whatever else is due
                case "probe":
                    quota.overdue(self, whose)
                case "budget":
                    budget.window_over(self)
                case "drain":
                    stop.drained(self)
                case _:
                    raise AssertionError(f"a deadline for {what!r}")
