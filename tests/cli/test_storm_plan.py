"""A storm is a pure function of its seed: bounded, whole, and the same again."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutants import mutant

from swarm.cli.storm import plan as plan_module
from swarm.cli.storm import work
from swarm.cli.storm.deliveries import PLAN_TASKS, drop_text, plan_of, plan_text
from swarm.cli.storm.plan import ACTIONS, APART, PACE, Kind, Target, Way, plan
from swarm.cli.storm.work import HASTY, Sort, piece
from swarm.config.places import Places
from swarm.core.model import OnFailed, Outcome, Review, TaskState
from swarm.inbox.asking import asked
from swarm.plans.reading import read_plan
from swarm.sessions.scripted import directive
from swarm.wire.lifeline import InboxRules

SEEDS = st.integers(0, 1_000_000)
LONG_ENOUGH = 1.5 * PACE * (len(Kind) + 1) + 1.0
"""Seconds in which every kind has come, whatever the seed."""


def is_bounded(planned: ModuleType, seed: int, seconds: float) -> None:
    found = planned.plan(seed, seconds)
    assert len(found) <= seconds / (0.5 * PACE) + 1
    assert [one.at for one in found] == sorted(one.at for one in found)
    for one in found:
        assert 0 < one.at < seconds
        assert one.seconds >= 0
        assert one.at + one.seconds <= seconds + 1e-9, "nothing is held after the end"
        assert one.seconds <= one.action.longest
        assert 0 <= one.pick < 1


@given(SEEDS, st.floats(0.1, 400))
def test_a_storm_is_bounded(seed: int, seconds: float) -> None:
    is_bounded(plan_module, seed, seconds)


def test_mutant_a_storm_that_holds_on_after_its_end_is_caught() -> None:
    with mutant(plan_module, "min(lasts, seconds - at)", "lasts") as planted:

        def all_are() -> None:
            for seed in range(20):
                is_bounded(planted, seed, 60)

        with pytest.raises(AssertionError):
            all_are()


@given(SEEDS, st.floats(LONG_ENOUGH, 400))
def test_every_kind_comes_early(seed: int, seconds: float) -> None:
    assert {one.action.kind for one in plan(seed, seconds)} == set(Kind)
    early = [one for one in plan(seed, seconds) if one.at < LONG_ENOUGH]
    assert {one.action.kind for one in early} == set(Kind)


@given(SEEDS)
def test_every_action_comes_in_a_short_storm(seed: int) -> None:
    assert {one.action for one in plan(seed, 150)} == set(ACTIONS)


@given(SEEDS, st.floats(1, 100))
def test_the_same_seed_is_the_same_storm(seed: int, seconds: float) -> None:
    assert plan(seed, seconds) == plan(seed, seconds)


def test_another_seed_is_another_storm() -> None:
    assert len({plan(seed, 60) for seed in range(50)}) == 50


@given(SEEDS, st.sets(st.sampled_from(list(Kind)), min_size=1))
def test_only_what_was_asked_for(seed: int, only: set[Kind]) -> None:
    found = plan(seed, 200, tuple(only), (Way.UPGRADE,))
    assert {one.action.kind for one in found} == only
    assert all(one.action.way is not Way.UPGRADE for one in found)


@given(SEEDS)
def test_the_fleet_has_time_to_come_up_again(seed: int) -> None:
    deaths = [
        one.at
        for one in plan(seed, 300)
        if (one.action.kind, one.action.target) == (Kind.KILL, Target.SUPERVISOR)
    ]
    assert deaths
    assert all(later - one >= APART for one, later in itertools.pairwise(deaths))


def test_nothing_at_all_can_be_asked_for() -> None:
    assert plan(1, 60, only=()) == ()


# -- the tasks ----------------------------------------------------------------------------------


@given(SEEDS, st.integers(0, 10_000))
def test_a_task_says_only_what_the_scripted_agent_does(seed: int, number: int) -> None:
    one = piece(seed, number)
    assert one == piece(seed, number)
    title, *lines = one.prompt.splitlines()
    assert directive(title) is None
    assert all(directive(line) is not None for line in lines), one.prompt
    for path, content in one.files:
        assert any(line.endswith(f"write {path} {content}") for line in lines)
    assert (one.role == HASTY) is (one.outcome is Outcome.TIMED_OUT)
    assert one.state.ended


@given(SEEDS)
def test_every_sort_of_task_comes(seed: int) -> None:
    pieces = [piece(seed, number) for number in range(len(work._DECK))]
    assert {one.sort for one in pieces} == set(Sort) - {Sort.REVIEW}, "that comes by itself"
    assert len({path for one in pieces for path, _ in one.files}) == sum(
        len(one.files) for one in pieces
    ), "no two tasks leave the same file"
    assert {one.state for one in pieces} == {
        TaskState.DONE,
        TaskState.FAILED,
        TaskState.NEEDS_HUMAN,
    }


@given(SEEDS, st.integers(0, 1000))
def test_a_storms_plan_can_be_applied(seed: int, number: int) -> None:
    planned = plan_of(seed, number)
    assert PLAN_TASKS[0] <= len(planned) <= PLAN_TASKS[1]
    assert [one.piece for one in planned] == [piece(seed, number + n) for n in range(len(planned))]
    found = read_plan(plan_text("a plan", planned), "plan.yaml", ("builder", HASTY)).plan
    assert found is not None
    for read, one in zip(found.tasks, planned, strict=True):
        assert (read.key, read.prompt, read.lane) == (
            one.key,
            one.piece.prompt.strip(),
            one.piece.lane,
        )
        assert read.review in (None, one.piece.review)
        assert set(read.after) == set(one.after)
        assert read.on_failed in (OnFailed.SKIP, OnFailed.RUN), "nothing waits for ever"
    asking = {one.key for one in planned if one.piece.waits_for_ever}
    assert all(asking.isdisjoint(one.after) for one in planned)


def test_a_storms_drop_asks_for_what_its_task_is(tmp_path: Path) -> None:
    places = Places(tmp_path)
    places.roles.mkdir()
    (places.roles / f"{HASTY}.yaml").write_text("runtime: scripted\n")
    for number in range(len(work._DECK)):
        one = piece(1, number)
        drop = tmp_path / "drop.md"
        drop.write_text(drop_text(one))
        new = asked(str(drop), InboxRules(), places)
        assert (new.prompt, new.role, new.lane) == (one.prompt, one.role, one.lane)
        assert (new.review or Review.NONE) is one.review
