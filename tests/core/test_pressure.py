"""Deaths of many at once are the host's: not charged, and restarted one after another."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from fleet_plays import Play
from hypothesis import given, settings
from hypothesis import strategies as st
from mutants import mutant

from swarm.core import fleet_events as e
from swarm.core import fleet_lives
from swarm.core import pressure as real
from swarm.core.life import Spawn
from swarm.core.restart import Again, GiveUp, History, RestartPolicy, forgive, judge

LEAN = settings(max_examples=80, derandomize=True, database=None, report_multiple_bugs=False)
DEATHS = st.lists(st.tuples(st.integers(0, 11), st.sampled_from([0.0, 0.1, 2.0, 6.0])), max_size=40)


def a_wave_is_many_at_once(module: ModuleType) -> None:
    @LEAN
    @given(DEATHS, st.sampled_from([6, 20, 40]))
    def check(deaths: list[tuple[int, float]], size: int) -> None:
        pressure, now = module.Pressure(), 0.0
        story: list[tuple[float, int]] = []
        wave_until = -1.0
        for who, gap in deaths:
            now += gap
            story.append((now, who))
            pressure = module.died(pressure, str(who), size, now)
            recent = {name for at, name in story if at > now - 10.0}
            if len(recent) >= 5 and len(recent) >= 0.2 * size:
                wave_until = now + 10.0
            assert module.holds(pressure, now) == (now < wave_until)
            times = sum(name == who for at, name in story if at > now - 10.0)
            assert module.excuses(pressure, str(who), now) == (now < wave_until and times == 1)
            assert len(pressure.deaths) <= len(story)
        assert not module.holds(pressure, now + 10.0), "a wave that never ends"

    check()


def test_a_wave_is_many_at_once() -> None:
    a_wave_is_many_at_once(real)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("len({one.name for one in deaths})", "len(deaths)"),
        ("max(MIN_DEATHS, MIN_SHARE * size)", "MIN_DEATHS"),
        ("if one.at > now - WINDOW_SECONDS)", ")"),
        (" <= 1\n", " <= 9\n"),
        ("now < pressure.until\n", "now < pressure.until + 5\n"),
    ],
)
def test_a_planted_bug_in_the_wave_is_caught(old: str, new: str) -> None:
    with mutant(real, old, new) as planted, pytest.raises(AssertionError):
        a_wave_is_many_at_once(planted)


def test_turns_are_one_after_another() -> None:
    pressure, turns = real.Pressure(), []
    for _ in range(50):
        pressure, at = real.turn(pressure, 100.0, 0.5)
        turns.append(at)
    assert turns == sorted(turns)
    assert turns[-1] == pytest.approx(100 + 50 * real.TURN_SECONDS)


# -- the policy -----------------------------------------------------------------------------------


def test_a_shared_death_is_not_counted_but_not_for_ever() -> None:
    policy, history = RestartPolicy(max_restarts=3, base_seconds=1), History()
    for _ in range(3):
        verdict = judge(policy, history, 10.0, ran=400.0, jitter=0.0, shared=True)
        assert isinstance(verdict, Again)
        history = verdict.history
        assert (history.granted, verdict.delay) == ((), 1.0)
    for _ in range(3):
        verdict = judge(policy, history, 10.0, ran=400.0, jitter=0.0, shared=True)
        history = verdict.history
    assert len(history.granted) == 3
    assert isinstance(judge(policy, history, 10.0, ran=1.0, jitter=0.0, shared=True), GiveUp)
    unlimited = RestartPolicy(max_restarts=0)
    assert isinstance(judge(unlimited, history, 10.0, ran=1.0, jitter=0, shared=True), Again)


def test_what_is_forgiven_is_as_if_it_had_not_been() -> None:
    policy = RestartPolicy()
    before = History(streak=2, granted=(1.0, 2.0))
    charged = judge(policy, before, 10.0, ran=1.0, jitter=0.0).history
    after = forgive(policy, charged, 10.0)
    assert after == History(streak=2, granted=(1.0, 2.0), pardoned=(10.0,))
    assert forgive(policy, History(pardoned=(9.0,) * 5), 10.0) is None


# -- the fleet ------------------------------------------------------------------------------------


def fleet(agents: int = 20, **more: Any) -> Play:
    policy = RestartPolicy(max_restarts=2, window_seconds=1800, stable_seconds=1e6)
    return Play({"builder": agents}, policy=policy, **more).up()


def kill_all(play: Play, names: list[str]) -> None:
    for name in names:
        play.do(e.Exited(name, -9), later=0.01)


def comes_back(play: Play, seconds: float) -> dict[str, float]:
    """Let time pass; who was spawned when, and is born at once."""
    born: dict[str, float] = {}
    end = play.now + seconds
    while (at := play.fleet.deadline()) is not None and at < end:
        effects = play.do(e.Tick(), later=max(0.0, at - play.now))
        for spawn in play.of(Spawn, effects):
            born[spawn.name] = play.now
            play.born(spawn.name)
    return born


def waves_leave_nobody_degraded(waves: int = 2) -> None:
    """Three waves would be one too many for a policy that counted them."""
    play = fleet()
    names = sorted(play.fleet.agents)
    for _ in range(waves):
        kill_all(play, names)
        assert not play.fleet.degraded
        born = comes_back(play, 20.0)
        assert sorted(born) == names
        times = sorted(born.values())
        for i in range(len(times) - 10):
            assert times[i + 10] - times[i] > 0.5, "a storm of restarts"
        assert all(not agent.life.history.granted for agent in play.fleet.agents.values())
        play.now += 60.0


def test_waves_leave_nobody_degraded_and_restarts_are_spread() -> None:
    waves_leave_nobody_degraded()


def test_why_is_shown() -> None:
    play = fleet()
    names = sorted(play.fleet.agents)
    kill_all(play, names)
    reason = play.fleet.agents[names[-1]].reason
    assert reason.startswith("crashed, signal 9; at least 20 children died within")
    assert "not counted" in play.fleet.agents[names[0]].reason, "the first ones are told too"


def test_one_that_dies_again_and_again_is_degraded_all_the_same() -> None:
    play = fleet()
    one = sorted(play.fleet.agents)[0]
    for _ in range(3):
        kill_all(play, [one])
        comes_back(play, 5.0)
    assert play.state(one) == "degraded"
    assert len(play.fleet.degraded) == 1


def test_one_that_goes_on_dying_after_a_wave_is_degraded() -> None:
    play = fleet()
    names = sorted(play.fleet.agents)
    kill_all(play, names)
    comes_back(play, 20.0)
    for _ in range(3):
        kill_all(play, names[:1])
        comes_back(play, 5.0)
    assert play.state(names[0]) == "degraded"


def test_one_given_up_by_the_first_deaths_of_a_wave_is_taken_back() -> None:
    play = fleet()
    names = sorted(play.fleet.agents)
    for _ in range(2):
        kill_all(play, names[:1])
        comes_back(play, 30.0)
    play.now += 60.0
    kill_all(play, names[:1])
    assert play.state(names[0]) == "degraded"
    kill_all(play, names[1:])
    assert play.state(names[0]) == "backoff"


def test_exits_that_were_asked_for_are_no_wave() -> None:
    play = fleet()
    play.do(e.ScaleAsked(1, total=1))
    for name in sorted(play.fleet.agents)[:19]:
        if play.state(name) == "stopping":
            play.do(e.Exited(name, -9))
    assert not real.holds(play.fleet.pressure, play.now)


def test_after_a_wave_restarts_wait_for_memory() -> None:
    play = fleet(min_free_memory_mb=1000)
    play.do(e.MemoryIs(300.0))
    names = sorted(play.fleet.agents)
    kill_all(play, names)
    assert not comes_back(play, 30.0)
    reason = play.fleet.agents[names[0]].reason
    assert "waits for memory: 300 MB are free, limits.min_free_memory_mb is 1000" in reason
    assert play.fleet.agents[names[0]].life.next_restart_at is not None
    play.do(e.MemoryIs(4000.0))
    assert len(comes_back(play, 30.0)) == len(names)


def test_memory_that_stays_short_holds_nobody_for_ever() -> None:
    play = fleet(min_free_memory_mb=1000)
    play.do(e.MemoryIs(300.0))
    names = sorted(play.fleet.agents)
    kill_all(play, names)
    assert len(comes_back(play, real.PATIENCE_SECONDS + 30)) == len(names)


def test_services_come_back_without_a_turn() -> None:
    play = fleet()
    kill_all(play, [*sorted(play.fleet.agents), "chat"])
    at = play.fleet.services["chat"].life.next_restart_at
    assert at is not None
    assert at - play.now < 1.5


def nothing_is_forgiven(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fleet_lives, "_shared", lambda *_args, **_more: None)


def the_first_are_charged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(real, "forgiven", lambda pressure: (pressure, ()))


def all_turns_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(real, "turn", lambda pressure, now, _jitter: (pressure, now))


@pytest.mark.parametrize("plant", [nothing_is_forgiven, the_first_are_charged, all_turns_at_once])
def test_a_planted_bug_in_the_fleet_is_caught(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        waves_leave_nobody_degraded()
