"""A life in plain scenes: what a person would tell of it."""

from __future__ import annotations

from swarm.core import life as L  # noqa: N812 - the scenes read like the rules
from swarm.core.model import ChildState
from swarm.core.restart import RestartPolicy


def play(policy: RestartPolicy, *script: tuple[float, L.Event]) -> tuple[L.Life, list[L.Effect]]:
    child, effects = L.Life("a", policy), []
    for now, event in script:
        child, out = L.step(child, event, now)
        effects += out
    return child, effects


UP = ((0, L.StartRequested()), (0, L.Spawned(7)), (1, L.Ready()))


def test_a_child_that_is_ready_runs_without_a_reason() -> None:
    child, effects = play(RestartPolicy(), *UP)
    assert (child.state, child.reason, child.pid, child.since) == (ChildState.RUNNING, "", 7, 1)
    assert effects == [L.Spawn("a")]
    assert child.deadline is None


def test_silence_is_ended_politely_then_by_force_then_charged() -> None:
    child, effects = play(
        RestartPolicy(),
        *UP,
        (100, L.Unresponsive("3 heartbeats missed")),
        (110, L.Tick()),
        (111, L.Exited(-9)),
    )
    assert effects == [L.Spawn("a"), L.Signal("a", 7, "TERM"), L.Signal("a", 7, "KILL")]
    assert (child.state, child.next_restart_at) == (ChildState.BACKOFF, 112)
    assert child.reason == child.last_crash == "3 heartbeats missed"


def test_exit_0_that_nobody_asked_for_is_a_crash() -> None:
    child, _ = play(RestartPolicy(), *UP, (2, L.Exited(0)))
    assert (child.state, child.reason) == (ChildState.BACKOFF, "crashed, exit 0")


def test_what_the_child_said_is_part_of_the_reason() -> None:
    child, _ = play(RestartPolicy(), *UP, (2, L.Exited(1, "the port is in use")))
    assert child.reason == "crashed, exit 1: the port is in use"


def test_a_missed_readiness_deadline_is_a_crash() -> None:
    child, _ = play(
        RestartPolicy(),
        (0, L.StartRequested()),
        (0, L.Spawned(7)),
        (30, L.Tick()),
        (31, L.Exited(0)),
    )
    assert (child.state, child.reason) == (ChildState.BACKOFF, "not ready within 30 s")


def test_an_exit_that_was_asked_for_is_no_crash() -> None:
    child, _ = play(RestartPolicy(), *UP, (2, L.StopRequested()), (3, L.Exited(-15)))
    assert (child.state, child.reason, child.last_crash) == (ChildState.STOPPED, "stopped", "")


def test_a_stop_during_a_spawn_shows_as_stopping_and_ends_the_newborn() -> None:
    child, _ = play(RestartPolicy(), (0, L.StartRequested()), (0, L.StopRequested()))
    assert child.state is ChildState.STOPPING
    child, effects = L.step(child, L.Spawned(7), 1)
    assert effects == (L.Signal("a", 7, "TERM"),)
    child, _ = L.step(child, L.Exited(0), 2)
    assert child.state is ChildState.STOPPED


def test_a_stop_without_grace_is_kept_through_a_spawn() -> None:
    _, effects = play(
        RestartPolicy(), (0, L.StartRequested()), (0, L.StopRequested(grace=0)), (1, L.Spawned(7))
    )
    assert effects == [L.Spawn("a"), L.Signal("a", 7, "KILL")]


def test_an_overdue_spawn_is_hastened_and_its_failure_charged() -> None:
    child, effects = play(
        RestartPolicy(), (0, L.StartRequested()), (30, L.Tick()), (31, L.SpawnFailed("zygote died"))
    )
    assert effects == [L.Spawn("a"), L.HastenSpawn("a")]
    assert (child.state, child.reason) == (
        ChildState.BACKOFF,
        "could not be started: zygote died",
    )


def test_more_restarts_than_allowed_degrade_and_a_person_brings_it_back() -> None:
    policy = RestartPolicy(base_seconds=0, max_restarts=2)
    script = [*UP]
    for pid in (8, 9):
        script += [(2, L.Exited(1)), (2, L.Spawned(pid)), (2, L.Ready())]
    child, _ = play(policy, *script, (3, L.Exited(1)))
    assert child.state is ChildState.DEGRADED
    assert child.restarts == 2
    assert child.reason == "crashed, exit 1; gave up after 2 restarts within 1800 s"
    child, effects = L.step(child, L.RestartRequested(), 4)
    assert (child.state, child.restarts, effects) == (ChildState.SPAWNING, 0, (L.Spawn("a"),))


def test_with_no_base_a_child_that_ran_restarts_at_once() -> None:
    child, effects = play(RestartPolicy(base_seconds=0), *UP, (2, L.Exited(-9)))
    assert (child.state, effects) == (ChildState.SPAWNING, [L.Spawn("a"), L.Spawn("a")])
    assert child.restarts == 1


def test_a_lower_cap_cuts_a_wait_short() -> None:
    child, _ = play(RestartPolicy(base_seconds=200), *UP, (2, L.Exited(1)))
    assert child.next_restart_at == 202
    child, _ = L.step(child, L.PolicyChanged(RestartPolicy(cap_seconds=5)), 3)
    assert child.next_restart_at == 8


def test_a_process_that_outlives_its_kill_is_killed_again() -> None:
    _, effects = play(
        RestartPolicy(), *UP, (2, L.StopRequested(grace=0)), (3, L.Tick()), (4, L.Tick())
    )
    assert effects[1:] == [L.Signal("a", 7, "KILL")] * 3
