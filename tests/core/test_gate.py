"""The promotion gate: what closes it, and who goes through."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from mutants import mutant

from swarm.core import gate as real
from swarm.core.gate import Budget, Closed, GateFacts, Open, Pause, admit, judge

FREE = GateFacts(active=1, max_active=3)


def test_an_open_gate_says_how_many_more() -> None:
    assert judge(FREE, 0) == Open(2)
    assert real.slots(FREE, 0) == (2, "")


@pytest.mark.parametrize(
    ("changed", "reason", "retry"),
    [
        ({"stopping": True}, "the swarm is stopping", 30),
        ({"pauses": (Pause("lunch"),)}, "paused: lunch", 30),
        ({"pauses": (Pause("", until=50),)}, "paused", 40),
        ({"active": 3}, "3 of 3 sessions are active", 1),
        ({"active": 5}, "5 of 3 sessions are active", 1),
        ({"max_active": 0, "active": 0}, "limits.max_active is 0", 30),
        (
            {"free_disk_mb": 9, "min_free_disk_mb": 10, "free_memory_mb": 9, "max_load": 0.1},
            "9 MB of disk are free, limits.min_free_disk_mb is 10",
            10,
        ),
        (
            {"free_memory_mb": 900, "min_free_memory_mb": 1024},
            "900 MB of memory are free, limits.min_free_memory_mb is 1024",
            10,
        ),
        ({"budget": Budget(token_limit=9, tokens=9)}, "the token budget is spent: 9 of 9", 1),
        (
            {"budget": Budget(usd_limit=2.5, usd=3.0, resets_at=110)},
            "the budget is spent: $3.00 of $2.50",
            1,
        ),
    ],
)
def test_each_thing_that_closes_it(changed: dict, reason: str, retry: float) -> None:
    assert judge(replace(FREE, **changed), 10) == Closed(reason, retry)


@pytest.mark.parametrize(
    "changed",
    [
        {"pauses": (Pause("over", until=10),)},
        {"free_memory_mb": None, "min_free_memory_mb": 1024},
        {"free_memory_mb": 5, "min_free_memory_mb": 0},
        {"free_disk_mb": None, "min_free_disk_mb": 10},
        {"free_disk_mb": 0, "min_free_disk_mb": 0},
        {"free_disk_mb": 10, "min_free_disk_mb": 10},
        {"budget": Budget(token_limit=9, tokens=None, usd_limit=1.0, usd=None)},
    ],
)
def test_what_is_over_or_unknown_closes_nothing(changed: dict) -> None:
    assert judge(replace(FREE, **changed), 10) == Open(2)


def test_only_so_many_sessions_as_fit_into_memory() -> None:
    facts = GateFacts(max_active=9, free_memory_mb=2500, min_free_memory_mb=1000)
    assert judge(replace(facts, session_memory_mb=1000), 0) == Open(2)


def test_what_nobody_knows_waits_a_moment_and_then_is_refused() -> None:
    assert admit(0, True, FREE, 0) == Open(2)
    assert admit(0, False, FREE, 4.9) is None
    assert admit(0, False, FREE, 5.0) == Closed("the coordinator does not know it", 1)
    full = replace(FREE, active=3)
    assert admit(0, False, full, 0) == judge(full, 0), "what is closed need not wait for a word"


facts = st.builds(
    GateFacts,
    active=st.integers(0, 5),
    max_active=st.integers(0, 4),
    stopping=st.booleans(),
    free_memory_mb=st.sampled_from([None, 500, 1000, 3000]),
    min_free_memory_mb=st.sampled_from([0, 1000]),
    session_memory_mb=st.sampled_from([None, 1000]),
)


def check(gate: ModuleType) -> None:
    @settings(max_examples=1000, derandomize=True, database=None, phases=[Phase.generate])
    @given(facts, st.integers(0, 20), st.booleans())
    def the_gate_holds(seen: GateFacts, since: int, known: bool) -> None:
        now = 10.0
        seen = gate.GateFacts(*(getattr(seen, f) for f in seen.__dataclass_fields__))
        answer = gate.admit(since, known, seen, now)
        free, reason = gate.slots(seen, now)
        assert (free > 0) == (not reason), "closed without a reason"
        assert seen.active + free <= seen.max_active or not free
        assert not (seen.stopping and free), "started while stopping"
        if free and seen.free_memory_mb is not None:
            left = seen.free_memory_mb - (free - 1) * (seen.session_memory_mb or 0)
            assert left >= seen.min_free_memory_mb or not seen.min_free_memory_mb
        if isinstance(answer, gate.Open):
            assert known, "started without its work"
            assert free, "more started than the coordinator was promised"
        elif answer is None:
            assert free
            assert not known, "it waits though nothing hinders it"
            assert now - since < gate.WORK_WAIT_SECONDS, "waits for ever"
        else:
            assert answer.retry_after > 0
            assert not (known and free), "refused without a reason"

    the_gate_holds()


def test_the_gate_holds_whatever_asks() -> None:
    check(real)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("facts.active >= facts.max_active", "facts.active > facts.max_active"),
        ("isinstance(verdict, Closed) or known", "known"),
        ("isinstance(verdict, Closed) or known", "True"),
        ("    if now - since >= WORK_WAIT_SECONDS:", "    if False:"),
        (
            "return 1 + spare // facts.session_memory_mb",
            "return 2 + spare // facts.session_memory_mb",
        ),
        ("    if facts.stopping:\n", "    if facts.stopping and facts.active:\n"),
    ],
)
def test_a_planted_bug_in_the_gate_is_caught(old: str, new: str) -> None:
    with mutant(real, old, new) as planted, pytest.raises(AssertionError):
        check(planted)
