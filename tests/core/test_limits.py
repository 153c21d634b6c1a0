"""A running session against its limits: over is over, and only proved silence is a stall."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutants import mutant

from swarm.core import limits as real
from swarm.core.limits import Over, SessionLimits, Use, Watch, progress
from swarm.core.model import Outcome

LOOK = 10.0
BEAT = 30.0
IDLE = Use(cpu_seconds=0.0, io_bytes=0, seconds=LOOK)


def judged(use: Use, limits: SessionLimits, watch: Watch | None = None) -> Over | None:
    watch = watch or Watch("t", 1, 0.0)
    return real.judge(watch, use, limits, beat_seconds=BEAT, now=1.0)


def test_over_its_memory_is_killed_at_once_and_failed() -> None:
    limits = SessionLimits(memory_mb=512)
    assert judged(Use(memory_mb=512.0), limits) is None
    over = Over(Outcome.FAILED, "used more than limits.memory_mb: 512 MB", kill=True)
    assert judged(Use(memory_mb=512.1), limits) == over


def test_too_many_processes_are_killed_at_once() -> None:
    limits = SessionLimits(max_processes=20)
    assert judged(Use(processes=20), limits) is None
    over = Over(Outcome.FAILED, "used more than limits.max_processes: 20", kill=True)
    assert judged(Use(processes=21), limits) == over


def test_without_limits_nothing_is_too_much() -> None:
    assert judged(Use(memory_mb=1e6, processes=10**6), SessionLimits()) is None
    assert judged(Use(), SessionLimits(1, 1)) is None


@pytest.mark.parametrize(
    ("cpu", "moved", "seconds", "does"),
    [
        (0.04, 0, 10.0, False),  # an idle node: 0.4 % of a core
        (0.02, 3000, 1.0, False),  # two ticks and a line of log
        (0.11, 0, 10.0, True),
        (1.0, 0, 1.0, True),
        (0.0, 20_000, 10.0, True),  # a slow copy
        (None, None, 10.0, False),
    ],
)
def test_waiting_is_told_from_working(
    cpu: float | None, moved: int | None, seconds: float, does: bool
) -> None:
    assert progress(Use(cpu_seconds=cpu, io_bytes=moved, seconds=seconds)) is does


def stall(module: ModuleType, story: list[tuple[str, Any]], stall_seconds: float) -> float | None:
    """Play a session second by second; when it was said to be stalled, if ever.

    ``story``: what it does in each stretch of ten seconds (``print``, ``work``, ``wait``) and
    whether its daemon beats and the supervisor looks.
    """
    limits = SessionLimits(stall_seconds=stall_seconds)
    watch, printed, looked_at, computed = module.Watch("t", 1, 0.0), 0.0, 0.0, 0.0
    now = 0.0
    for does, (beats, looks) in story:
        if does == "print":
            printed = now + 3
        now += 10.0
        computed += 5.0 if does == "work" else 0.05
        if beats:
            watch = module.heard(watch, now - printed, now)
        if looks:
            use = module.Use(cpu_seconds=computed, io_bytes=0, seconds=now - looked_at)
            watch = module.looked(watch, use, LOOK, now)
            looked_at, computed = now, 0.0
            over = module.judge(watch, use, limits, beat_seconds=10.0, now=now)
            if over is not None:
                assert over.outcome is Outcome.STALLED
                return now
    return None


DOES = st.sampled_from(["print", "work", "wait", "wait", "wait", "wait"])
STORY = st.lists(st.tuples(DOES, st.tuples(st.booleans(), st.booleans())), max_size=40)


def only_silence_is_a_stall(module: ModuleType) -> None:
    @settings(max_examples=200, derandomize=True, database=None, report_multiple_bugs=False)
    @given(STORY, st.sampled_from([20.0, 45.0, 60.0]))
    def check(story: list[tuple[str, Any]], stall_seconds: float) -> None:
        at = stall(module, story, stall_seconds)
        if at is None:
            return
        done = [(i, does) for i, (does, _) in enumerate(story) if (i + 1) * 10 <= at]
        beats = [i for i, _ in done if story[i][1][0]]
        assert beats, "condemned without a word from its daemon"
        proved = (beats[-1] + 1) * 10
        printed = max((i * 10 + 3 for i, does in done if does == "print" and i <= beats[-1]),
                      default=0)  # fmt: skip
        assert proved - printed >= stall_seconds, "condemned though it may have printed"
        worked = max(((i + 1) * 10 for i, does in done if does == "work"), default=0)
        assert at - worked >= stall_seconds - 10, "condemned though it worked"

    check()


def test_only_silence_that_is_proved_is_a_stall() -> None:
    only_silence_is_a_stall(real)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("min(watch.quiet, now - watch.progress_at)", "now - watch.progress_at"),
        ("min(watch.quiet, now - watch.progress_at)", "watch.quiet"),
        ("min(watch.quiet,", "min(watch.quiet + now - watch.beat_at,"),
        ("    if limits.stall_seconds <= 0 or watch.beat_at is None:\n",
         "    watch = replace(watch, beat_at=now, quiet=now)\n    if limits.stall_seconds <= 0:\n"),
        ("    if progress(use) or use", "    if use"),
    ],
)  # fmt: skip
def test_a_planted_bug_in_the_judgement_is_caught(old: str, new: str) -> None:
    with mutant(real, old, new) as planted, pytest.raises(AssertionError):
        only_silence_is_a_stall(planted)


def test_silence_is_found() -> None:
    story = [("wait", (True, True))] * 10
    assert stall(real, story, 60.0) == 60.0
    assert stall(real, story, 0.0) is None


def test_a_supervisor_that_was_held_up_condemns_nobody() -> None:
    watch = real.heard(Watch("t", 1, 0.0), 3600.0, 3600.0)
    watch = real.looked(watch, Use(cpu_seconds=5.0, io_bytes=0, seconds=3600.0), LOOK, 3600.0)
    assert not real.stalled(watch, SessionLimits(stall_seconds=600), BEAT, 3600.0)


def test_a_late_beat_proves_nothing() -> None:
    watch = real.heard(Watch("t", 1, 0.0), 700.0, 700.0)
    limits = SessionLimits(stall_seconds=600)
    assert real.stalled(watch, limits, BEAT, 755.0)
    assert not real.stalled(watch, limits, BEAT, 765.0)


def test_an_end_that_does_not_come_is_overdue() -> None:
    watch = Watch("t", 1, 0.0, end_by=15.0)
    assert not real.overdue(watch, 14.9)
    assert real.overdue(watch, 15.0)
    assert not real.overdue(Watch("t", 1, 0.0), 1e9)
