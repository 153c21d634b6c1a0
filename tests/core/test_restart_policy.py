"""The restart policy against a model, and the bugs the comparison must catch."""

from __future__ import annotations

from types import ModuleType

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from mutants import mutant

from swarm.core import restart as real

PHASES = (Phase.explicit, Phase.generate)
policies = st.builds(
    dict,
    base_seconds=st.sampled_from([0, 0.5, 1, 7]),
    cap_seconds=st.sampled_from([3, 60, 300]),
    stable_seconds=st.sampled_from([0, 100, 300]),
    max_restarts=st.sampled_from([0, 1, 2, 5]),
    window_seconds=st.sampled_from([10, 1000]),
)
crashes = st.lists(
    st.tuples(
        st.sampled_from([0.0, 1.0, 8.0, 90.0, 400.0, 1100.0]),
        st.one_of(st.none(), st.sampled_from([0.0, 99.0, 100.0, 500.0])),
        st.floats(0, 1),
    ),
    max_size=14,
)


def check(restart: ModuleType, examples: int = 150) -> None:
    @settings(max_examples=examples, derandomize=True, database=None, phases=PHASES)
    @given(policies, crashes)
    @example({"base_seconds": 1, "max_restarts": 0}, [(0.0, 1.0, 1.0)] * 14)
    @example({"base_seconds": 1, "max_restarts": 0}, [(0.0, 1.0, 0.0)] * 1200)
    def follows_the_model(values: dict[str, float], script: list[tuple]) -> None:
        policy = restart.RestartPolicy(**values)
        history, now, in_a_row, granted = restart.History(), 0.0, 0, []
        for gap, ran, jitter in script:
            now += gap
            if ran is not None and ran >= policy.stable_seconds:
                in_a_row = 0
            recent = [at for at in granted if at > now - policy.window_seconds]
            verdict = restart.judge(policy, history, now, ran=ran, jitter=jitter)
            history = verdict.history
            if policy.max_restarts and len(recent) >= policy.max_restarts:
                assert isinstance(verdict, restart.GiveUp), "too many restarts in the window"
                continue
            assert isinstance(verdict, restart.Again), "gave up too early"
            plain = min(policy.cap_seconds, policy.base_seconds * 2 ** min(in_a_row, 60))
            floor = real.UNREADY_SECONDS if ran is None else 0
            assert verdict.delay >= max(plain, floor), "too early"
            most = min(policy.cap_seconds, plain * (1 + real.JITTER_SHARE))
            assert verdict.delay <= max(most, floor), "too late"
            assert (
                jitter == 0
                or plain in (0, policy.cap_seconds)
                or verdict.delay > plain
                or (jitter < 1e-9 or plain < floor)
            ), "no jitter"
            in_a_row += 1
            granted.append(now)
            assert len(history.granted) <= policy.max_restarts

    follows_the_model()


def test_the_policy_does_as_the_rules_say() -> None:
    check(real)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ran >= policy.stable_seconds else history.streak", "False else history.streak"),
        ("len(granted) >= policy.max_restarts", "len(granted) > policy.max_restarts"),
        ("if at > now - policy.window_seconds", "if at >= 0"),
        ("return recent[-policy.max_restarts :]", "return granted"),
        (
            "return min(policy.cap_seconds, plain * (1.0 + JITTER_SHARE * jitter))",
            "return min(policy.cap_seconds, plain) * (1.0 + JITTER_SHARE * jitter)",
        ),
        ("delay = max(delay, UNREADY_SECONDS)", "pass"),
        (
            "granted = _within(policy, history.granted, now)\n",
            "granted = _within(policy, history.granted, now) if streak else ()\n",
        ),
        ("2.0 ** min(streak, _MAX_DOUBLINGS)", "2.0 * min(streak, _MAX_DOUBLINGS)"),
        ("JITTER_SHARE * jitter))", "0))"),
        ("streak=streak + 1,", "streak=len(granted),"),
    ],
)
def test_a_planted_bug_in_the_policy_is_caught(old: str, new: str) -> None:
    with mutant(real, old, new) as planted, pytest.raises((AssertionError, OverflowError)):
        check(planted)


def test_a_long_streak_does_not_overflow() -> None:
    verdict = real.judge(
        real.RestartPolicy(max_restarts=0), real.History(streak=10**6), 0, ran=1, jitter=1
    )
    assert isinstance(verdict, real.Again)
    assert verdict.delay == 300
