"""The tally of what was spent: the ledger's totals and what was heard since, against a model."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from types import ModuleType

import hypothesis.strategies as st
import pytest
from hypothesis import Phase, given, settings
from mutants import mutant

from swarm.core import budget
from swarm.core.budget import (
    MAX_ENDED,
    NOTHING,
    Amount,
    Booked,
    Reading,
    Tally,
    left,
    over,
    shares,
    until_midnight,
)

A, B = "swarm-builder-001", "swarm-builder-002"
ONE, TWO = ("t-1", 1), ("t-2", 1)


def reading(total: int, *known: tuple[tuple[str, int], int], day: int = 0) -> Reading:
    """What agent A has spent in all, and what is booked of some sessions."""
    sessions = {key: Booked(Amount(tokens), Amount(tokens)) for key, tokens in known}
    return Reading({A: Amount(total)}, sessions, day)


# -- by example


def test_what_is_heard_counts_before_the_ledger_has_it_and_once_when_it_has() -> None:
    tally = Tally().read(reading(100)).opened(ONE, A, NOTHING, NOTHING)
    assert tally.spent() == Amount(100)
    tally = tally.heard(ONE, A, Amount(30, 0.5))
    assert tally.spent() == Amount(130, 0.5)
    assert tally.read(reading(120, (ONE, 20))).spent() == Amount(130, 0.5)
    assert tally.read(reading(130, (ONE, 30))).spent().tokens == 130


def test_unknown_is_unknown_and_not_zero() -> None:
    tally = Tally().opened(ONE, A, NOTHING, NOTHING)
    assert tally.spent() == NOTHING
    assert tally.heard(ONE, A, NOTHING).spent() == NOTHING
    assert tally.heard(ONE, A, Amount(5)).spent() == Amount(5, None)


def test_a_later_word_that_knows_less_takes_nothing_back() -> None:
    tally = Tally().heard(ONE, A, Amount(5, 0.1)).ended(ONE, A, NOTHING)
    assert tally.spent() == Amount(5, 0.1)


def test_each_agent_has_its_own() -> None:
    tally = Tally().heard(ONE, A, Amount(5)).heard(TWO, B, Amount(7))
    assert (tally.spent(A), tally.spent(B), tally.spent()) == (Amount(5), Amount(7), Amount(12))
    assert tally.spent("swarm-builder-003") == NOTHING


def test_an_estimate_counts_from_the_grant_on_and_makes_nothing_certain() -> None:
    tally = Tally().opened(ONE, A, Amount(50, 0.5), NOTHING)
    assert (tally.spent(), tally.certain()) == (Amount(50, 0.5), Amount(0, 0.0))
    told = tally.heard(ONE, A, Amount(8))
    assert (told.spent(), told.certain()) == (Amount(8, 0.5), Amount(8, 0.0))
    over_now = tally.ended(ONE, A, NOTHING)
    assert over_now.spent() == over_now.certain() == Amount(50, 0.5)
    assert tally.forgotten(ONE).spent() == NOTHING


def test_an_estimate_the_ledger_has_booked_is_not_certain_either() -> None:
    tally = Tally().opened(ONE, A, Amount(50), NOTHING)
    booked = Reading({A: Amount(70)}, {ONE: Booked(NOTHING, Amount(50))})
    tally = tally.read(booked)
    assert (tally.spent().tokens, tally.certain().tokens) == (70, 20)


def test_what_the_ledger_knows_of_a_session_is_known_after_a_restart() -> None:
    tally = Tally().opened(ONE, A, Amount(50), NOTHING)
    tally = tally.read(Reading({A: Amount(9)}, {ONE: Booked(Amount(9), Amount(9))}))
    assert (tally.spent().tokens, tally.certain().tokens) == (9, 9)


def test_midnight_begins_anew_and_only_what_comes_after_counts() -> None:
    tally = (
        Tally(day=7).read(reading(100, day=7)).heard(ONE, A, Amount(30)).ended(TWO, A, Amount(9))
    )
    tally = tally.begun_anew(8)
    assert (tally.spent(), tally.day) == (NOTHING.plus(Amount(0)), 8)
    assert tally.heard(ONE, A, Amount(34)).spent() == Amount(4)


def test_a_reading_of_a_later_day_begins_it_and_one_of_yesterday_is_believed() -> None:
    """The clock of the wall decides; it may be put forward, or back."""
    tally = Tally(day=7).read(reading(100, day=7)).heard(ONE, A, Amount(30))
    assert tally.read(reading(2, (ONE, 30), day=8)).spent() == Amount(2)
    assert tally.read(reading(50, (ONE, 30), day=6)).spent() == Amount(50)


def test_ended_sessions_do_not_pile_up_and_still_count() -> None:
    tally = Tally()
    for n in range(MAX_ENDED + 20):
        tally = tally.ended((f"t-{n}", 1), A, Amount(1))
    assert len(tally.sessions) == MAX_ENDED
    assert tally.spent() == tally.spent(A) == Amount(MAX_ENDED + 20)
    read = tally.read(reading(3))
    assert read.spent().tokens == MAX_ENDED + 23


@pytest.mark.parametrize(
    ("spent", "limit", "said"),
    [
        (Amount(9, 1.0), NOTHING, ""),
        (NOTHING, Amount(10, 1.0), ""),
        (Amount(9, 0.99), Amount(10, 1.0), ""),
        (Amount(10), Amount(10), "the token budget is spent: 10 of 10"),
        (Amount(None, 1.5), Amount(10, 1.5), "the budget is spent: $1.50 of $1.50"),
        (NOTHING, Amount(0), "the token budget is spent: 0 of 0"),
    ],
)
def test_when_it_is_spent(spent: Amount, limit: Amount, said: str) -> None:
    assert over(spent, limit) == said
    if said:
        assert " of t-1 is spent" in over(spent, limit, "t-1")


def test_what_is_left_and_the_shares() -> None:
    assert left(Amount(10, None), Amount(4, 2.0)) == Amount(6, None)
    assert left(Amount(10, 1.0), Amount(40, 2.0)) == Amount(0, 0.0)
    assert left(Amount(10, 1.0), NOTHING) == Amount(10, 1.0)
    assert shares(Amount(8), Amount(10, 1.0)) == {"tokens": 0.8}
    assert shares(NOTHING, Amount(0, 0.0)) == {"tokens": 1.0, "usd": 1.0}


@given(st.floats(0, 4e9))
def test_midnight_is_always_ahead_and_at_most_a_day(now: float) -> None:
    wait = until_midnight(now)
    assert 0 < wait <= 86_400
    assert abs((now + wait) % 86_400) < 1e-3 or abs((now + wait) % 86_400 - 86_400) < 1e-3


# -- against a model: a ledger that hears of everything late


@dataclass
class Books:
    """A ledger's totals: what was booked of each session, and what counts today."""

    booked: dict[tuple[str, int], Amount] = field(default_factory=dict)
    today: dict[str, int] = field(default_factory=dict)
    day: int = 1

    def take(self, key: tuple[str, int], agent: str, tokens: int) -> None:
        before = self.booked.get(key, NOTHING).tokens or 0
        self.booked[key] = Amount(tokens)
        self.today[agent] = self.today.get(agent, 0) + tokens - before

    def reading(self) -> Reading:
        known = {key: Booked(amount, amount) for key, amount in self.booked.items()}
        return Reading({a: Amount(n) for a, n in self.today.items()}, known, self.day)


Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["grant", "spend", "spend", "end", "deliver", "deliver", "read", "midnight"]
        ),
        st.integers(0, 3),
        st.integers(0, 50),
    ),
    max_size=40,
)


def play(module: ModuleType, steps: list[Step]) -> None:
    """What must hold after every step, whatever the module's tally."""
    tally, books = module.Tally(day=1), Books()
    on_the_way: deque[tuple[tuple[str, int], str, int]] = deque()
    running: dict[tuple[str, int], int] = {}
    today, fresh = 0, 0
    for what, pick, tokens in steps:
        names = sorted(running)
        key = names[pick % len(names)] if names else None
        agent = A if pick % 2 else B
        if what == "grant":
            fresh += 1
            running[f"t-{fresh}", 1] = 0
            agent = A if fresh % 2 else B
            tally = tally.opened((f"t-{fresh}", 1), agent, module.NOTHING, module.NOTHING)
        elif what in ("spend", "end") and key is not None:
            agent = A if int(key[0][2:]) % 2 else B
            running[key] += tokens
            today += tokens
            on_the_way.append((key, agent, running[key]))
            said = module.Amount(running[key])
            tally = (
                tally.heard(key, agent, said) if what == "spend" else tally.ended(key, agent, said)
            )
            if what == "end":
                del running[key]
        elif what == "deliver" and on_the_way:
            books.take(*on_the_way.popleft())
        elif what == "read":
            tally = tally.read(_as(module, books.reading()))
        elif what == "midnight":
            while on_the_way:  # what was said before counts before, as it does in the ledger
                books.take(*on_the_way.popleft())
            books.day, books.today, today = books.day + 1, {}, 0
            tally = tally.begun_anew(books.day)
        assert (tally.spent().tokens or 0) == today, f"after {what}"
        assert (tally.spent(A).tokens or 0) + (tally.spent(B).tokens or 0) == today
        assert (tally.spent().tokens or 0) >= sum(books.today.values()), "less than the ledger"
    while on_the_way:
        books.take(*on_the_way.popleft())
    tally = tally.read(_as(module, books.reading()))
    assert (tally.spent().tokens or 0) == sum(books.today.values()) == today
    assert not any(session.ended for session in tally.sessions.values()), "minded for ever"


def _as(module: ModuleType, reading: Reading) -> Reading:
    """The same reading, of the module's own classes."""
    agents = {name: module.Amount(one.tokens) for name, one in reading.agents.items()}
    sessions = {
        key: module.Booked(module.Amount(one.known.tokens), module.Amount(one.counted.tokens))
        for key, one in reading.sessions.items()
    }
    made: Reading = module.Reading(agents, sessions, reading.day)
    return made


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_it_counts_everything_once_however_late_the_ledger_is(steps: list[Step]) -> None:
    play(budget, steps)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return self.counted.beyond(self.booked)", "return self.counted"),
        ("return self.counted.beyond(self.booked)", "return NOTHING"),
        ("session.ended and found is not None and _settled(session)", "session.ended"),
        ("session.ended and found is not None and _settled(session)", "False"),
        ("booked=session.counted, estimate=NOTHING", "estimate=NOTHING"),
        ("heard=heard, booked=found.counted", "heard=heard"),
        ("held = self.booked.get(agent, NOTHING)", "held = NOTHING"),
    ],
)
def test_a_planted_bug_is_caught(old: str, new: str) -> None:
    with mutant(budget, old, new) as broken:

        @settings(
            max_examples=300,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
        )
        @given(STEPS)
        def property_of_the_mutant(steps: list[Step]) -> None:
            play(broken, steps)

        with pytest.raises(AssertionError):
            property_of_the_mutant()
