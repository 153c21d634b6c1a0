"""Whose budget ended a session: its task's own, or the whole swarm's."""

from __future__ import annotations

from daemon_values import BEGAN, active_daemon, assign, finished, grant, idle_daemon, messages, of

from swarm.core.model import Outcome, Usage
from swarm.daemon import machine
from swarm.daemon.outbox import Reported, Unclaimed
from swarm.daemon.state import (
    Daemon,
    Effect,
    Event,
    Record,
    Recorded,
    Secured,
    SessionOver,
    SessionSpent,
    Told,
)
from swarm.wire.lifeline import EndSession, Finished
from swarm.wire.work import TaskFail

OVER = Told(EndSession("t-1", 1, Outcome.OVER_BUDGET, "the budget is spent", 3.0))


def run(daemon: Daemon, *events: Event) -> tuple[Daemon, tuple[Effect, ...]]:
    effects: tuple[Effect, ...] = ()
    for event in events:
        daemon, more = machine.step(daemon, event, 5.0)
        effects += more
    return daemon, effects


def recorded(effects: tuple[Effect, ...]) -> Finished:
    (record,) = of(effects, Record)
    assert isinstance(record.entry, Reported)
    return record.entry.finished


def test_the_report_says_that_it_was_the_swarms_budget() -> None:
    secured = Secured(finished(outcome=Outcome.OVER_BUDGET))
    daemon, effects = run(active_daemon(), OVER, SessionOver(), secured)
    assert recorded(effects).swarm_budget
    _, effects = run(daemon, Recorded(("t-1", 1)))
    (said,) = messages(effects, TaskFail)
    assert (said.outcome, said.swarm_budget) == ("over_budget", True)


def test_what_ended_otherwise_before_it_could_be_ended_is_that() -> None:
    _, effects = run(active_daemon(), OVER, SessionOver(), Secured(finished()))
    assert not recorded(effects).swarm_budget


def test_the_tasks_own_budget_is_the_tasks() -> None:
    own = (assign(), grant(token_budget=10), BEGAN, SessionSpent(Usage(9, 9), None, None))
    secured = Secured(finished(outcome=Outcome.OVER_BUDGET))
    _, effects = run(idle_daemon(), *own, SessionOver(), secured)
    assert not recorded(effects).swarm_budget


def test_before_it_began_the_task_is_given_back() -> None:
    for events in ((assign(),), (assign(), grant())):
        daemon, _ = run(idle_daemon(), *events, OVER, SessionOver())
        (owed,) = daemon.unsettled
        assert isinstance(owed, Unclaimed)
        assert owed.reason == "the budget is spent"
