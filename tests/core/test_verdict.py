"""Heartbeats: three missed in a row, never one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutants import mutant

from swarm.core import verdict as real


def silence(module: object, interval: float, misses: int, looks: list[float]) -> list[str]:
    pulse = module.first(interval, misses, 0.0)
    said = []
    for now in looks:
        pulse, why = module.look(pulse, now)
        said.append(why)
    return said


def test_the_third_miss_in_a_row_is_too_many() -> None:
    said = silence(real, 30, 3, [44, 45, 75, 105])
    assert said == ["", "", "", "3 heartbeats missed in a row, silent for 105 s"]


def test_one_late_look_is_one_miss() -> None:
    """A supervisor that slept for an hour finds the beats that wait for it before it condemns."""
    assert silence(real, 30, 3, [3600]) == [""]


def test_a_beat_forgives() -> None:
    pulse = real.first(30, 3, 0)
    for now in (45, 75):
        pulse, _ = real.look(pulse, now)
    pulse = real.heard(pulse, 80)
    assert (pulse.missed, pulse.deadline) == (0, 125)


@pytest.mark.parametrize("misses", [0, 1, 2])
def test_one_miss_is_never_enough(misses: int) -> None:
    assert silence(real, 30, misses, [45]) == [""]
    assert silence(real, 30, misses, [45, 75])[1]


def test_a_shorter_interval_gives_the_child_time_to_hear_of_it() -> None:
    pulse = real.retuned(real.first(30, 3, 0), 1, 3, 40)
    assert (pulse.deadline, pulse.heard_at) == (41.5, 0)


def beats_never_condemn(module: object) -> None:
    @given(st.lists(st.floats(0, 1.45), max_size=20), st.integers(1, 3))
    def check(gaps: list[float], misses: int) -> None:
        """A child that beats less than half an interval late is never late."""
        pulse, now = module.first(1.0, misses, 0.0), 0.0
        for gap in gaps:
            now += gap
            pulse, why = module.look(pulse, now)
            assert not why
            assert not pulse.missed
            pulse = module.heard(pulse, now)

    check()


def test_a_child_that_beats_is_left_alone() -> None:
    beats_never_condemn(real)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (" * (1 + TOLERANCE)", ""),
        ("look_at=now + pulse.interval * (1 + TOLERANCE), missed=0", "missed=0"),
    ],
)
def test_a_planted_bug_in_the_verdict_is_caught(old: str, new: str) -> None:
    with mutant(real, old, new) as planted, pytest.raises(AssertionError):
        beats_never_condemn(planted)
