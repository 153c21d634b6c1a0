"""Pacing: most urgent first, within the rate, nothing lost, nothing sent twice without need."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from mutants import mutant

from swarm.wire import pacing
from swarm.wire.pacing import ASSIGNING, CLAIMING, ECHO_MS, SETTLING, STATUS, Pacer


def test_one_a_second_most_urgent_first():
    pacer = Pacer(1)
    for key, priority in (("s", STATUS), ("c", CLAIMING), ("r", SETTLING), ("a", ASSIGNING)):
        pacer.put(key, key.upper(), priority, 0)
    sent = []
    for now in range(0, 5000, 10):
        for content in pacer.due(now):
            sent.append((now, content))
            assert pacer.echoed(content) == content.lower()
    assert [content for _, content in sent] == ["R", "A", "C", "S"]
    assert [b - a for (a, _), (b, _) in itertools.pairwise(sent)] == [1050] * 3
    assert pacer.pending == 0
    assert pacer.deadline() is None


def test_the_same_priority_keeps_its_order():
    pacer = Pacer(100)
    for n in range(20):
        pacer.put(f"k{n}", f"m{n}", STATUS, 0)
    assert pacer.due(0) == [f"m{n}" for n in range(20)]


def test_a_newer_one_takes_the_olders_place():
    pacer = Pacer(1)
    pacer.put("x", "X", SETTLING, 0)
    pacer.put("status", "10 %", STATUS, 0)
    pacer.put("status", "20 %", STATUS, 1)
    assert pacer.due(0) == ["X"]
    assert pacer.pending == 2
    pacer.put("status", "30 %", STATUS, 2)
    assert pacer.due(1050) == ["30 %"]


def test_a_newer_one_replaces_also_what_is_under_way():
    pacer = Pacer(10)
    pacer.put("status", "10 %", STATUS, 0)
    assert pacer.due(0) == ["10 %"]
    pacer.put("status", "20 %", STATUS, 1)
    assert pacer.due(1) == ["20 %"]
    assert pacer.echoed("10 %") is None
    assert pacer.echoed("20 %") == "status"
    assert pacer.pending == 0


def test_the_same_again_changes_nothing():
    pacer = Pacer(10)
    pacer.put("k", "m", STATUS, 0)
    assert pacer.due(0) == ["m"]
    pacer.put("k", "m", STATUS, 1)
    assert pacer.due(1) == []


def test_rate_limited_is_sent_again_later_and_with_more_room():
    pacer = Pacer(1)
    pacer.put("k", "m", STATUS, 0)
    assert pacer.due(0) == ["m"]
    pacer.rate_limited(100)
    assert pacer.due(1100) == []
    assert pacer.deadline() == 1200
    assert pacer.due(1200) == ["m"]
    assert pacer.echoed("m") == "k"


def test_rate_limited_means_the_oldest_unanswered():
    pacer = Pacer(10)
    pacer.put("a", "A", STATUS, 0)
    pacer.put("b", "B", STATUS, 0)
    assert pacer.due(0) == ["A", "B"]
    pacer.rate_limited(1)
    assert pacer.echoed("B") == "b"
    assert pacer.due(5000) == ["A"]


def test_a_broken_connection_loses_nothing_and_keeps_the_order():
    pacer = Pacer(10)
    for key in "abc":
        pacer.put(key, key.upper(), STATUS, 0)
    assert pacer.due(0) == ["A", "B", "C"]
    pacer.echoed("A")
    pacer.disconnected()
    pacer.put("r", "R", SETTLING, 1)
    assert pacer.due(2000) == ["R", "B", "C"]


def test_a_replayed_echo_after_a_reconnect_counts():
    """What was sent before the break was heard after all: it is not sent again."""
    pacer = Pacer(10)
    pacer.put("a", "A", STATUS, 0)
    pacer.due(0)
    pacer.disconnected()
    assert pacer.echoed("A") == "a"
    assert pacer.due(5000) == []
    pacer.put("b", "B", STATUS, 0)
    assert pacer.echoed("B") is None, "never sent: somebody else's words"
    assert pacer.pending == 1


def test_an_echo_that_never_comes_is_waited_for_and_given_up_in_the_end():
    pacer = Pacer(10)
    pacer.put("a", "A", STATUS, 0)
    sent = [now for now in range(0, 200_000, 500) if pacer.due(now)]
    assert sent == [n * ECHO_MS for n in range(5)]
    assert (pacer.pending, pacer.dropped) == (0, 1)


def test_refusals_hold_everything_and_are_a_reason():
    pacer = Pacer(10)
    pacer.put("a", "A", STATUS, 0)
    assert pacer.due(0) == ["A"]
    pacer.refused("new identities wait an hour", until=50_000)
    assert pacer.reason == "new identities wait an hour"
    assert pacer.due(49_999) == []
    assert pacer.deadline() == 50_000
    assert pacer.due(50_000) == ["A"]
    assert pacer.reason == ""
    pacer.refused("for ever")
    assert pacer.deadline() is None
    assert pacer.due(10**12) == []
    pacer.allowed()
    assert pacer.due(10**12) == ["A"]


def test_looking_at_the_deadline_changes_nothing():
    pacer = Pacer(1)
    pacer.put("a", "A", STATUS, 0)
    pacer.refused("why", until=5000)
    assert pacer.deadline() == 5000
    assert pacer.reason == "why"


def test_a_message_the_server_never_takes_is_dropped():
    pacer = Pacer(10)
    pacer.put("a", "A", STATUS, 0)
    pacer.put("b", "B", STATUS, 0)
    pacer.due(0)
    assert pacer.rejected() == "a"
    assert pacer.pending == 1
    assert pacer.echoed("B") == "b"
    assert pacer.rejected() is None


def test_forgotten_messages_are_not_sent():
    pacer = Pacer(10)
    pacer.put("a", "A", STATUS, 0)
    pacer.forget("a")
    pacer.forget("unknown")
    assert pacer.due(0) == []
    assert pacer.deadline() is None


@pytest.mark.parametrize(("rate", "most"), [(0.5, 1), (1, 1), (2.5, 2), (20, 20)])
def test_the_rate_holds_in_every_window(rate: float, most: int):
    pacer = Pacer(rate)
    for n in range(100):
        pacer.put(f"k{n}", f"m{n}", STATUS, 0)
    sent: list[int] = []
    for now in range(5000):
        for content in pacer.due(now):
            sent.append(now)
            pacer.echoed(content)
    window = 1000 * most / rate
    assert all(sum(a <= b < a + window for b in sent) <= most for a in sent)
    assert len(sent) >= 4 * rate * 0.9 or len(sent) == 100


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_a_rate_is_above_zero(rate: float):
    with pytest.raises(ValueError, match="above zero"):
        Pacer(rate)


def test_too_many_drops_the_least_urgent_oldest(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pacing, "MAX_ENTRIES", 3)
    pacer = Pacer(10)
    for key, priority in (("s1", STATUS), ("r", SETTLING), ("s2", STATUS), ("c", CLAIMING)):
        pacer.put(key, key, priority, 0)
    assert pacer.dropped == 1
    assert pacer.due(0) == ["r", "c", "s2"]


def test_hours_offline_do_not_pile_up():
    pacer = Pacer(1)
    for n in range(5000):
        pacer.put("status", f"{n} %", STATUS, n)
        pacer.put(f"claim-{n}", "CLAIM", CLAIMING, n)
        pacer.forget(f"claim-{n}")
    assert len(pacer._ready) < 100
    assert pacer.due(10**6) == ["4999 %"]


def test_whom_a_message_concerns_is_known_while_it_is_under_way():
    pacer = Pacer(10)
    pacer.put("a", "A", STATUS, 0, to=("x", "y"))
    pacer.put("b", "B", STATUS, 0)
    assert pacer.due(0) == ["A", "B"]
    assert pacer.addressees("A") == ("x", "y")
    assert pacer.addressees("B") == pacer.addressees("never said") == ()
    pacer.disconnected()
    pacer.put("a", "A", STATUS, 1, to=("z",))
    assert pacer.due(5000) == ["A", "B"]
    assert pacer.addressees("A") == ("z",), "sent again it goes to whom it concerns now"


def test_two_that_say_the_same_go_to_all_whom_either_concerns():
    pacer = Pacer(10)
    pacer.put("a", "A", STATUS, 0, to=("x", "y"))
    pacer.put("b", "A", STATUS, 0, to=("y", "z"))
    assert pacer.due(0) == ["A", "A"]
    assert pacer.addressees("A") == ("x", "y", "z")
    pacer.put("c", "A", STATUS, 0)
    assert pacer.due(0) == ["A"]
    assert pacer.addressees("A") == ()


class PacedChannel(RuleBasedStateMachine):
    """A server that answers in order, drops what is too fast, and may break off.

    Model: what was put last under each key and not heard is kept; the server hears no more than
    its rate; when all is quiet everything has been heard.
    """

    make = staticmethod(Pacer)

    def __init__(self) -> None:
        super().__init__()
        self.rate = 3
        self.pacer = self.make(self.rate)
        self.now = 0
        self.wire: list[tuple[int, str]] = []
        self.heard: list[tuple[int, str]] = []
        self.wanted: dict[str, str] = {}
        self.turn = 0

    @rule(key=st.sampled_from("abcd"), priority=st.integers(0, 3))
    def put(self, key: str, priority: int) -> None:
        self.turn += 1
        content = f"{key}{self.turn}"
        self.pacer.put(key, content, priority, self.now)
        self.wanted[key] = content

    @rule(milliseconds=st.integers(0, 1500))
    def wait(self, milliseconds: int) -> None:
        self.now += milliseconds
        self.wire += [(self.now, content) for content in self.pacer.due(self.now)]

    @precondition(lambda self: self.wire)
    @rule(refuse=st.booleans())
    def answer(self, refuse: bool) -> None:
        at, content = self.wire.pop(0)
        if refuse:
            self.pacer.rate_limited(self.now)
            return
        self.heard.append((at, content))
        key = self.pacer.echoed(content)
        if self.wanted.get(content[0]) == content:
            assert key == content[0]
            del self.wanted[content[0]]
        else:
            assert key is None

    @rule(delivered=st.booleans())
    def break_off(self, delivered: bool) -> None:
        lost, self.wire = self.wire, []
        self.pacer.disconnected()
        if delivered:
            for _, content in lost:
                self.pacer.echoed(content)  # the replay after the reconnect
                if self.wanted.get(content[0]) == content:
                    del self.wanted[content[0]]

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.pacer.pending == len(self.wanted)

    def teardown(self) -> None:
        for _ in range(200):
            self.wait(500)
            while self.wire:
                self.answer(refuse=False)
        assert not self.wanted, f"never heard: {self.wanted}"
        assert self.pacer.deadline() is None


TestPacedChannel = PacedChannel.TestCase


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("            self._return_oldest()\n\n    def deadline",
         "            self._flights.popleft()\n\n    def deadline"),
        ("sent_before=True)\n", "sent_before=False)\n"),
        ("entry is None or entry.turn != flight.turn:\n                    return None",
         "entry is None:\n                    return None"),
    ],
    ids=["forgets what was under way", "ignores replayed echoes", "an old echo settles a new one"],
)  # fmt: skip
def test_planted_bugs_are_caught(old: str, new: str):
    with mutant(pacing, old, new) as planted:

        class Broken(PacedChannel):
            make = planted.Pacer

        unshrunk = settings(
            phases=[Phase.generate], max_examples=300, database=None, derandomize=True
        )
        with pytest.raises((AssertionError, ExceptionGroup)):
            run_state_machine_as_test(Broken, settings=unshrunk)


@given(st.lists(st.sampled_from(["due", "echo", "limit", "reject", "off", "refuse", "allow"]),
                max_size=40))  # fmt: skip
def test_no_order_of_calls_raises(calls: list[str]):
    pacer = Pacer(5)
    for step, call in enumerate(calls):
        pacer.put(f"k{step % 3}", f"m{step}", step % 4, step)
        match call:
            case "due":
                pacer.due(step * 100)
            case "echo":
                pacer.echoed(f"m{step - 1}")
            case "limit":
                pacer.rate_limited(step * 100)
            case "reject":
                pacer.rejected()
            case "off":
                pacer.disconnected()
            case "refuse":
                pacer.refused("no", None if step % 2 else step * 100 + 50)
            case _:
                pacer.allowed()
        pacer.deadline()
