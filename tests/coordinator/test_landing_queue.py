"""The landing queue: serial for each hub, in order, and nothing is forgotten or landed twice."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from mutants import mutant

from swarm.coordinator import landings
from swarm.coordinator.landings import (
    AskWhether,
    Land,
    NoteLanding,
    SettleLanding,
    StopLanding,
    ToLand,
)
from swarm.core.model import RemarkKind
from swarm.landing.model import Landed, NotLanded, SentBack, Verdict

GOOD = Landed("f" * 40)
BACK = SentBack(RemarkKind.CHECK, "no", "e" * 40)
FULL = NotLanded("the disk is full")


def one(n: int, hub: str = "", priority: int = 0) -> ToLand:
    return ToLand(f"t-{n}", f"{n:040x}", hub, priority, n)


def test_the_highest_priority_goes_first_then_the_oldest_one_at_a_time() -> None:
    tasks = [one(3), one(2, priority=5), one(1)]
    queue, effects = landings.found(landings.Landings(), tasks, 0.0)
    order = []
    while effects:
        (landing,) = effects
        assert isinstance(landing, Land)
        order.append(landing.what.seq)
        queue, (settle,) = landings.ended(queue, landing.what, GOOD, 0.0)
        assert isinstance(settle, SettleLanding)
        queue, effects = landings.settled(queue, landing.what, 0.0)
    assert order == [2, 1, 3]
    assert landings.deadline(queue) is None


def test_hubs_do_not_wait_for_each_other() -> None:
    _, effects = landings.found(landings.Landings(), [one(1), one(2, "b"), one(3, "b")], 0.0)
    assert [effect.what.seq for effect in effects] == [1, 2]


def test_what_could_not_be_tried_waits_1_2_4_to_60_seconds_and_holds_nobody_up() -> None:
    queue, _ = landings.found(landings.Landings(), [one(1), one(2)], 0.0)
    queue, effects = landings.ended(queue, one(1), FULL, 0.0)
    assert effects == (NoteLanding(one(1), FULL.reason), Land(one(2)))
    queue, _ = landings.ended(queue, one(2), GOOD, 0.5)
    queue, none = landings.settled(queue, one(2), 0.5)
    assert none == ()
    waits, now = [], 0.0
    for _ in range(8):
        at = landings.deadline(queue)
        assert at is not None
        waits.append(at - now)
        now = at
        queue, (again,) = landings.due(queue, now)
        assert again == Land(one(1))
        queue, _ = landings.ended(queue, one(1), FULL, now)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


def test_another_commit_of_the_task_does_not_wait_for_the_old_ones_delay() -> None:
    queue, _ = landings.found(landings.Landings(), [one(1)], 0.0)
    queue, _ = landings.ended(queue, one(1), FULL, 0.0)
    newer = ToLand("t-1", "b" * 40, "", 0, 1)
    _, effects = landings.found(queue, [newer], 0.1)
    assert effects == (Land(newer),)


def test_git_is_asked_about_a_doubt_once_its_flight_has_ended() -> None:
    queue, _ = landings.found(landings.Landings(), [one(1)], 0.0)
    assert landings.doubted(queue, [one(1), one(2)]) == (AskWhether(one(2)),)
    queue, _ = landings.found(queue, [], 0.0)
    assert landings.doubted(queue, [one(1)]) == (), "stopped, and not yet ended"
    queue, _ = landings.ended(queue, one(1), FULL, 0.0)
    assert landings.doubted(queue, [one(1)]) == (AskWhether(one(1)),)


def test_what_is_cancelled_in_flight_is_stopped_and_told_of_only_if_it_landed() -> None:
    queue, _ = landings.found(landings.Landings(), [one(1), one(2)], 0.0)
    queue, effects = landings.found(queue, [one(2)], 0.0)
    assert effects == (StopLanding(one(1)),)
    stopped, effects = landings.ended(queue, one(1), NotLanded("stopped"), 0.0)
    assert effects == (Land(one(2)),)
    assert stopped.delays == {}
    _, effects = landings.ended(queue, one(1), GOOD, 0.0)
    assert effects == (SettleLanding(one(1), GOOD),)


def test_a_verdict_is_told_once() -> None:
    queue, _ = landings.found(landings.Landings(), [one(1)], 0.0)
    queue, _ = landings.ended(queue, one(1), BACK, 0.0)
    assert landings.ended(queue, one(1), BACK, 0.0) == (queue, ())
    # The ledger is not told yet, and still has it in its queue: it is not landed once more.
    assert landings.found(queue, [one(1)], 0.0)[1] == ()


@dataclass
class Play:
    """The adversary: a ledger, landers that answer when they like, and a clock."""

    landings: ModuleType
    now: float = 0.0
    tasks: dict[str, ToLand] = field(default_factory=dict)
    flying: list[ToLand] = field(default_factory=list)
    settling: list[tuple[ToLand, Verdict]] = field(default_factory=list)
    landed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.queue = self.landings.Landings()

    def do(self, step: tuple[landings.Landings, tuple[landings.Do, ...]]) -> None:
        self.queue, effects = step
        for effect in effects:
            name = type(effect).__name__
            if name == "Land":
                self._starts(effect.what)
            elif name == "StopLanding":
                assert effect.what in self.flying, "stopped after its end"
            elif name == "SettleLanding":
                self.settling.append((effect.what, effect.verdict))

    def _starts(self, what: ToLand) -> None:
        busy = {*(f.hub for f in self.flying), *(w.hub for w, _ in self.settling)}
        assert what.hub not in busy, "two landings on one hub"
        delay = self.queue.delays.get(what.task)
        assert delay is None or delay.tip != what.tip or delay.until <= self.now, "too early"
        before = [t for t in self.queue.waiting if t.hub == what.hub and t.order < what.order]
        for task in before:
            held = self.queue.delays.get(task.task)
            assert held is not None, f"{task} was passed over"
            assert held.until > self.now, f"{task} was passed over"
        self.flying.append(what)

    def look(self) -> None:
        self.do(self.landings.found(self.queue, list(self.tasks.values()), self.now))

    def verdict(self, index: int, verdict: Verdict) -> None:
        if self.flying:
            what = self.flying.pop(index % len(self.flying))
            self.do(self.landings.ended(self.queue, what, verdict, self.now))

    def settle(self) -> None:
        if self.settling:
            what, verdict = self.settling.pop(0)
            if self.tasks.get(what.task) == what:
                assert what.task not in self.landed, "it landed twice"
                del self.tasks[what.task]
            if isinstance(verdict, Landed):
                self.landed.append(what.task)
            self.do(self.landings.settled(self.queue, what, self.now))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.do(self.landings.due(self.queue, self.now))

    def nothing_forgotten(self) -> None:
        """Whatever happened: look again, let everything end well, and all has landed."""
        for _ in range(400):
            self.look()
            if not (self.tasks or self.flying or self.settling):
                return
            self.verdict(0, GOOD)
            self.settle()
            at = self.landings.deadline(self.queue)
            if not self.flying and not self.settling and at is not None:
                self.now = max(self.now, at)
                self.pass_time(0.0)
        raise AssertionError(f"never landed: {self.tasks}")


ADD = st.tuples(
    st.just("add"), st.integers(0, 9), st.sampled_from(["", "", "b"]), st.integers(-1, 1)
)
ACTIONS = st.one_of(
    ADD,
    ADD,
    ADD,
    st.tuples(st.just("cancel"), st.integers(0, 9)),
    st.tuples(st.just("look")),
    st.tuples(st.just("verdict"), st.integers(0, 3), st.sampled_from([GOOD, BACK, FULL])),
    st.tuples(st.just("settle")),
    st.tuples(st.just("time"), st.floats(0.1, 90.0)),
)


def play(module: ModuleType, actions: list[tuple[object, ...]]) -> None:
    game = Play(module)
    for number, action in enumerate(actions):
        match action:
            case ("add", int(n), str(hub), int(priority)):
                task = f"t-{n}"
                if task not in game.landed and task not in game.tasks:
                    known = [f for f in game.flying if f.task == task]
                    fresh = ToLand(task, f"{number:040x}", hub, priority, number)
                    if not known and all(w.task != task for w, _ in game.settling):
                        game.tasks[task] = fresh
                        game.look()
            case ("cancel", int(n)):
                game.tasks.pop(f"t-{n}", None)
                game.look()
            case ("look",):
                game.look()
            case ("verdict", int(n), verdict):
                assert isinstance(verdict, Landed | SentBack | NotLanded)
                game.verdict(n, verdict)
            case ("settle",):
                game.settle()
            case ("time", float(seconds)):
                game.pass_time(seconds)
    game.nothing_forgotten()


@settings(max_examples=150, deadline=None)
@given(st.lists(ACTIONS, max_size=40))
def test_every_task_lands_once_in_order_one_at_a_time(actions: list[tuple[object, ...]]) -> None:
    play(landings, actions)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("if one.hub not in flights and not _delayed", "if not _delayed"),
        ("key=lambda o: o.order", "key=lambda o: o.seq"),
        ("and delay.until > now", "and delay.until < now"),
        ("replace(flight, settling=True)}", "replace(flight, settling=False)}"),
    ],
)
def test_the_property_sees_planted_bugs(old: str, new: str) -> None:
    with mutant(landings, old, new) as planted:

        @settings(
            max_examples=4000,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            report_multiple_bugs=False,  # the first is enough
        )
        @given(st.lists(ACTIONS, min_size=12, max_size=40))
        def sees(actions: list[tuple[object, ...]]) -> None:
            play(planted, actions)

        with pytest.raises((AssertionError, IndexError)):
            sees()
