"""What the fleet does about a session that runs away, and about a daemon that lets it."""

from __future__ import annotations

from typing import Any

import pytest
from fleet_plays import A, B, Play

from swarm.core import fleet_effects as fx
from swarm.core import fleet_events as e
from swarm.core import fleet_limits
from swarm.core.life import Signal
from swarm.core.limits import OVERDUE_SECONDS, SessionLimits, Use
from swarm.core.model import Outcome

LIMITS = {"builder": SessionLimits(memory_mb=100, max_processes=9, stall_seconds=60)}


def playing(**settings: Any) -> Play:
    play = Play(
        role_limits=LIMITS, heartbeat_seconds=10, grace_seconds=4, min_free_memory_mb=0, **settings
    ).up()
    play.activate(A, "t-1")
    play.activate(B, "t-2")
    return play


def look(play: Play, name: str = A, task: str = "t-1", later: float = 1.0, **use: Any) -> list:
    return play.do(e.SessionUse(name, task, 1, Use(**use)), later)


def test_only_the_session_that_is_over_is_ended_and_once() -> None:
    play = playing()
    assert not look(play, memory_mb=99.0, processes=3)
    assert not look(play, B, "t-2", memory_mb=10.0)
    look(play, memory_mb=101.0)
    look(play, memory_mb=150.0)
    look(play, B, "t-2", memory_mb=10.0)
    (end,) = play.of(fx.TellEndSession)
    assert (end.name, end.task, end.outcome, end.grace) == (A, "t-1", Outcome.FAILED, 0.0)
    assert end.reason == "used more than limits.memory_mb: 100 MB"


def test_limits_are_live() -> None:
    play = playing()
    settings = play.fleet.settings
    from dataclasses import replace

    smaller = replace(settings, role_limits={"builder": SessionLimits(memory_mb=50)})
    play.do(e.Reloaded(1, smaller))
    look(play, memory_mb=60.0)
    assert len(play.of(fx.TellEndSession)) == 1


def test_a_stalled_session_gets_its_grace() -> None:
    play = playing()
    for second in range(10, 101, 10):
        play.do(e.ChildBeat(A, "t-1", 1, quiet=float(second)), 10)
        play.do(e.ChildBeat(B, "t-2", 1, quiet=1.0))
        for name, task in ((A, "t-1"), (B, "t-2")):
            idle = Use(cpu_seconds=0.0, io_bytes=10, seconds=10.0)
            play.do(e.SessionUse(name, task, 1, idle))
    (end,) = play.of(fx.TellEndSession)
    assert (end.name, end.outcome, end.grace) == (A, Outcome.STALLED, 4)
    assert "no output, processor time or I/O for limits.stall_minutes: 1" in end.reason


def test_what_it_used_before_says_nothing_about_the_next_session() -> None:
    play = playing()
    play.do(e.ChildBeat(A, "t-1", 1))
    play.do(e.ChildBeat(A, "t-1", 1, quiet=500.0), 100)
    play.finish(A, "t-1")
    play.activate(A, "t-3")
    assert not look(play, memory_mb=1e6), "a look that was on its way when the session ended"
    idle = {"cpu_seconds": 0.0, "io_bytes": 0, "seconds": 10.0}
    assert not look(play, A, "t-3", **idle)


def test_a_daemon_that_does_not_end_its_session_is_killed_with_it() -> None:
    play = playing()
    look(play, memory_mb=101.0)
    look(play, memory_mb=200.0, later=OVERDUE_SECONDS - 0.5)
    assert not play.of(Signal)
    look(play, memory_mb=300.0, later=1.0)
    (kill,) = play.of(Signal)
    assert (kill.name, kill.signal) == (A, "KILL")
    play.do(e.Exited(A, -9))
    assert play.of(fx.CleanTree)[0].task == "t-1"
    play.do(e.TreeCleaned(A, "t-1", 1))
    assert play.state(A) == "backoff"
    assert "its session is still there though it was told to end it" in play.fleet.agents[A].reason


def test_a_session_that_ends_in_time_costs_its_daemon_nothing() -> None:
    play = playing()
    look(play, memory_mb=101.0)
    play.finish(A, "t-1")
    look(play, later=60)
    assert not play.of(Signal)
    assert play.state(A) == "idle"


def test_a_cancelled_session_that_stays_is_overdue_too() -> None:
    play = playing()
    play.do(e.KillSessionAsked(1, A))
    look(play, memory_mb=1.0)
    look(play, memory_mb=1.0, later=4 + OVERDUE_SECONDS - 0.5)
    assert not play.of(Signal)
    look(play, memory_mb=1.0, later=1.0)
    assert [one.signal for one in play.of(Signal)] == ["KILL"]


def test_over_its_memory_in_its_grace_it_is_killed_at_once() -> None:
    play = playing()
    play.do(e.KillSessionAsked(1, A))
    look(play, memory_mb=500.0, later=0.5)
    assert [one.grace for one in play.of(fx.TellEndSession)] == [4, 0.0]


def the_daemon_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_limits, "_disobeyed", lambda _fleet, _agent: None)


def any_session_is_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def watch(fleet: Any, agent: Any, work: Any) -> Any:
        return fleet.watches.get(agent.name) or fleet_limits.Watch(work.task, work.fence, fleet.now)

    monkeypatch.setattr(fleet_limits, "_watch", watch)


@pytest.mark.parametrize(
    ("plant", "proof"),
    [
        (the_daemon_is_trusted, test_a_daemon_that_does_not_end_its_session_is_killed_with_it),
        (any_session_is_this_one, test_what_it_used_before_says_nothing_about_the_next_session),
    ],
)
def test_a_planted_bug_is_caught(plant: Any, proof: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises((AssertionError, ValueError)):
        proof()
