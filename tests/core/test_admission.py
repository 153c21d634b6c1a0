"""Admission: memory and load hold sessions back, and only a busy machine spreads their starts."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
from fleet_plays import A, B, C, Play
from hypothesis import given, settings
from hypothesis import strategies as st
from mutants import mutant

from swarm.core import fleet_effects as fx
from swarm.core import fleet_events as e
from swarm.core import gate as real
from swarm.core.gate import Closed, GateFacts, Open, judge, opens_at
from swarm.core.limits import SessionLimits, Use

FREE = GateFacts(max_active=8, free_memory_mb=9000, min_free_memory_mb=1000, load=0.5)


def test_a_high_load_closes_the_gate() -> None:
    facts = replace(FREE, load=2.5, max_load=2.0)
    assert judge(facts, 0) == Closed("the load is 2.5 a processor, limits.max_load is 2", 10)
    assert judge(replace(facts, load=None), 0) == Open(8)


def test_memory_is_kept_for_those_who_just_started() -> None:
    facts = replace(FREE, free_memory_mb=3000, reserved_mb=2500, session_memory_mb=500)
    assert judge(facts, 0) == Closed(
        "3000 MB of memory are free, 2500 of it for sessions that just started, "
        "limits.min_free_memory_mb is 1000",
        10,
    )
    assert judge(replace(facts, reserved_mb=1000), 0) == Open(3)


@pytest.mark.parametrize(
    ("changed", "busy"),
    [({}, False), ({"load": 1.0}, True), ({"free_memory_mb": 1999}, True),
     ({"free_memory_mb": 2900, "reserved_mb": 1000}, True), ({"free_memory_mb": None}, False),
     ({"load": None}, False), ({"free_memory_mb": 5, "min_free_memory_mb": 0}, False)],
)  # fmt: skip
def test_when_the_machine_is_busy(changed: dict[str, Any], busy: bool) -> None:
    assert real.busy(replace(FREE, **changed)) is busy


def test_a_quiet_machine_takes_a_burst_and_a_busy_one_takes_turns() -> None:
    facts = replace(FREE, stagger_seconds=2.0, last_start=99.5)
    assert judge(facts, 100) == Open(8)
    verdict = judge(replace(facts, load=1.2), 100)
    assert verdict == Closed("sessions start 2 s apart while the machine is busy", 1.5)
    assert opens_at(verdict) == 101.5
    assert judge(replace(facts, load=1.2), 101.5) == Open(1)
    assert judge(replace(facts, load=1.2, last_start=None), 0) == Open(1)


FACTS = st.builds(
    GateFacts,
    active=st.integers(0, 2),
    max_active=st.integers(1, 4),
    free_memory_mb=st.none() | st.integers(900, 5000),
    min_free_memory_mb=st.sampled_from([0, 1000]),
    session_memory_mb=st.none() | st.integers(1, 2000),
    reserved_mb=st.sampled_from([0, 800, 2500]),
    load=st.sampled_from([None, 0.5, 1.0, 3.0]),
    max_load=st.sampled_from([None, 2.5]),
    stagger_seconds=st.sampled_from([0.0, 1.0]),
    last_start=st.sampled_from([None, 98.9, 99.2, 99.6]),
)


def nothing_starts_that_would_hurt(module: ModuleType) -> None:
    @settings(max_examples=300, derandomize=True, database=None, report_multiple_bugs=False)
    @given(FACTS)
    def check(facts: GateFacts) -> None:
        verdict = module.judge(facts, 100.0)
        if isinstance(verdict, module.Closed):
            assert verdict.reason
            assert verdict.retry_after > 0
            assert verdict.until is None or verdict.until > 100.0, "it would open in the past"
            return
        assert 0 < verdict.slots <= facts.max_active - facts.active
        if facts.free_memory_mb is not None and facts.min_free_memory_mb:
            spare = facts.free_memory_mb - facts.reserved_mb - facts.min_free_memory_mb
            assert spare >= 0, "started into memory that is spoken for"
            assert (verdict.slots - 1) * (facts.session_memory_mb or 0) <= spare
        if facts.max_load is not None and facts.load is not None:
            assert facts.load <= facts.max_load
        if facts.stagger_seconds and real.busy(facts):
            assert verdict.slots == 1, "a burst on a busy machine"
            assert facts.last_start is None or 100.0 - facts.last_start >= facts.stagger_seconds

    check()


def test_nothing_starts_that_would_hurt() -> None:
    nothing_starts_that_would_hurt(real)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("free_memory_mb - facts.reserved_mb - facts.min", "free_memory_mb - facts.min"),
        ("        free = 1\n", ""),
        ("        if until > now:\n", "        if until > now + 0.5:\n"),
        ("facts.load > facts.max_load", "False"),
        ("until = now if facts.last_start is None else facts.last_start + facts.stagger_seconds",
         "until = now if facts.last_start is None else facts.last_start"),
    ],
)  # fmt: skip
def test_a_planted_bug_in_the_admission_is_caught(old: str, new: str) -> None:
    with mutant(real, old, new) as planted, pytest.raises(AssertionError):
        nothing_starts_that_would_hurt(planted)


# -- in the fleet ----------------------------------------------------------------------------------


def test_starts_on_a_busy_machine_are_spread_and_the_coordinator_hears_when_the_next_may() -> None:
    play = Play({"builder": 3}, stagger_seconds=2.0, min_free_memory_mb=0).up()
    play.do(e.MemoryIs(9000.0, 1.5))
    assert play.of(fx.TellSlots)[-1] == fx.TellSlots(1, "")
    play.activate(A, "t-1")
    assert play.of(fx.TellSlots)[-1].free == 0
    play.assign(B, "t-2")
    play.ask(B, "t-2")
    (denied,) = play.of(fx.Deny)
    assert denied.reason == "sessions start 2 s apart while the machine is busy"
    at = play.fleet.deadline()
    assert at is not None
    assert at <= play.now + 2.0
    play.do(e.Tick(), later=2.0)
    assert play.of(fx.TellSlots)[-1] == fx.TellSlots(1, "")
    play.activate(B, "t-2")


def test_a_burst_on_a_quiet_machine_starts_at_once() -> None:
    play = Play({"builder": 3}, stagger_seconds=2.0, min_free_memory_mb=0).up()
    play.do(e.MemoryIs(9000.0, 0.2))
    for number, name in enumerate((A, B, C)):
        play.activate(name, f"t-{number}")
    assert len(play.of(fx.Grant)) == 3
    assert not play.of(fx.Deny)


def test_a_young_session_keeps_the_memory_it_has_yet_to_take() -> None:
    limits = {"builder": SessionLimits(memory_mb=2000)}
    play = Play({"builder": 3}, role_limits=limits, min_free_memory_mb=1000).up()
    play.do(e.MemoryIs(2500.0))
    play.activate(A, "t-1")
    assert play.of(fx.TellSlots)[-1].free == 0
    play.do(e.SessionUse(A, "t-1", 1, Use(memory_mb=1500.0)))  # it has grown, most is taken
    assert play.of(fx.TellSlots)[-1].free > 0
    play.do(e.SessionUse(A, "t-1", 1, Use(memory_mb=0.0)))
    play.do(e.ChildBeat(A, "t-1", 1), later=real.YOUNG_SECONDS)
    play.do(e.MemoryIs(2500.0))  # it is as large as it will be
    assert play.of(fx.TellSlots)[-1].free > 0
