"""The person and the outsider of a storm: what they do, and which answers they mind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from swarm.cli.demonstration.stage import Stage
from swarm.cli.storm.deliveries import Planned, PlanNote
from swarm.cli.storm.fleet import Fleet, Said
from swarm.cli.storm.history import plan_steps
from swarm.cli.storm.notes import Notes
from swarm.cli.storm.outsider import LATE, SHORT, SILENT, Outsider
from swarm.cli.storm.person import Person
from swarm.cli.storm.ways import ByCommand, Heard
from swarm.cli.storm.work import LANE, piece
from swarm.core.model import OnFailed, Outcome, Review
from swarm.ledger import NewTask, SqliteLedger, open_ledger

COMMIT = "a" * 40


class Commands(Fleet):
    """Takes commands and answers them as the test says."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.asked: list[tuple[tuple[str, ...], Callable[[Said], object]]] = []

    def run(self, *words: str, then: Callable[[Said], object], limit: float = 60.0) -> None:
        self.asked.append((words, then))

    def answer(self, code: int, text: str = "") -> tuple[str, ...]:
        """Answer the last one; its words."""
        words, then = self.asked.pop()
        then(Said(words, code, text, 0.1))
        return words


@pytest.fixture
def stage(home: Path) -> Stage:
    return Stage(home)


@pytest.fixture
def ledger(stage: Stage) -> Iterator[SqliteLedger]:
    stage.places.home.mkdir()
    with open_ledger(stage.places.ledger) as ledger:
        yield ledger


class Lane:
    """An outsider, its task, and what was complained of."""

    def __init__(self, stage: Stage, ledger: SqliteLedger, seed: int) -> None:
        self.fleet, self.ledger, self.notes = Commands(stage), ledger, Notes()
        self.wrong: list[tuple[str, str]] = []
        self.task = ledger.submit(NewTask("a task", lane=LANE))
        self.outsider = Outsider(
            ByCommand(self.fleet, lambda _said: None), ledger, seed, self.notes,
            lambda *what: self.wrong.append(what),
        )  # fmt: skip

    def claim(self) -> tuple[str, ...]:
        """It claims the task, really."""
        self.outsider.turn(10.0)
        words = self.fleet.asked[-1][0]
        seconds = float(words[words.index("--lease") + 1])
        claimed = self.ledger.lane_claim("stranger", lane=LANE, lease_seconds=seconds)
        assert claimed is not None
        lease = {"lease": {"id": self.task, "fence": claimed.fence}}
        self.fleet.answer(0, json.dumps(lease))
        return words


def test_an_answer_in_time_is_remembered(stage: Stage, ledger: SqliteLedger) -> None:
    lane = Lane(stage, ledger, _seed(stage, ledger, silent=False))
    lane.claim()
    lane.outsider.turn(float("inf"))
    lane.fleet.answer(0)
    assert lane.notes.answers == {lane.task: f"{lane.task} 1"}
    assert lane.outsider.idle
    assert lane.wrong == []


def test_a_refused_answer_in_time_is_a_violation(stage: Stage, ledger: SqliteLedger) -> None:
    lane = Lane(stage, ledger, _seed(stage, ledger, silent=False))
    lane.claim()
    lane.outsider.turn(float("inf"))
    lane.fleet.answer(1, "the ledger is locked")
    assert lane.wrong == []
    assert not lane.outsider.idle, "it still holds it, and tries again"
    ledger.lane_release(lane.task, 1, "stranger")  # as if somebody had taken it away
    lane.outsider.turn(float("inf"))
    lane.fleet.answer(1, "no")
    assert [rule for rule, _ in lane.wrong] == ["leases are kept"]


class Unheard:
    """A way by which no answer comes."""

    name, lease = "visitor", 12.0

    def __init__(self) -> None:
        self.then: Callable[[Heard], object] = lambda _heard: None

    def claim(self, seconds: float, then: Callable[[Heard], object]) -> None:
        self.then = then

    def respond(self, task: str, fence: int, text: str, then: Callable[[Heard], object]) -> None:
        self.then = then

    def listen(self) -> None:
        """Nothing comes."""


def _silences(seed: int) -> list[bool]:
    """Whether it goes silent the first two times."""
    random = Random(f"visitor {seed}")
    return [random.random() < SILENT for _ in (1, 2)]


def test_what_came_of_an_answer_that_nobody_heard_of_is_in_the_ledger(
    ledger: SqliteLedger,
) -> None:
    way, notes, wrong = Unheard(), Notes(), list[tuple[str, str]]()
    task = ledger.submit(NewTask("a task", lane=LANE))
    seed = next(n for n in range(100) if not any(_silences(n)))
    outsider = Outsider(way, ledger, seed, notes, lambda *what: wrong.append(what))
    outsider.turn(1.0)
    way.then(Heard(None))
    (harm,) = notes.harms
    assert (harm.agent, harm.task, harm.outcomes) == ("@visitor", "", {Outcome.LOST})
    outsider.turn(2.0)
    claimed = ledger.lane_claim("visitor", lane=LANE)
    assert claimed is not None
    way.then(Heard(True, "", {"id": task, "fence": claimed.fence}))
    outsider.turn(float("inf"))
    way.then(Heard(None))
    assert not outsider.idle, "it is still held, so it is answered once more"
    ledger.lane_respond(task, claimed.fence, "visitor", f"{task} {claimed.fence}")
    outsider.turn(float("inf"))
    way.then(Heard(False, "409"))
    assert outsider.idle
    assert (notes.answers, wrong) == ({task: f"{task} {claimed.fence}"}, [])


def test_silence_lets_a_lease_run_out_and_a_late_answer_taken_is_a_violation(
    stage: Stage, ledger: SqliteLedger
) -> None:
    lane = Lane(stage, ledger, _seed(stage, ledger, silent=True))
    lane.claim()
    (harm,) = lane.notes.harms
    assert (harm.agent, harm.outcomes) == ("@stranger", {Outcome.LOST})
    lane.outsider.turn(float("inf"))
    lane.fleet.answer(0)
    assert [rule for rule, _ in lane.wrong] == ["leases are kept"]
    assert lane.notes.late == {f"{lane.task} 1"}
    assert LATE > 0


def _seed(stage: Stage, ledger: SqliteLedger, *, silent: bool) -> int:
    return next(n for n in range(100) if _begins_silent(stage, ledger, n) is silent)


def _begins_silent(stage: Stage, ledger: SqliteLedger, seed: int) -> bool:
    lane = Lane(stage, ledger, seed)
    lane.outsider.turn(10.0)
    words = lane.fleet.asked[-1][0]
    ledger.cancel(lane.task)
    return float(words[words.index("--lease") + 1]) == SHORT


def test_a_person_approves_answers_and_leaves_the_rest(
    stage: Stage, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet, notes = Commands(stage), Notes()
    person = Person(stage, fleet, ledger, notes, lambda _said: None)
    for title, changes in (
        ("storm task 1, asks", {"state": "needs_human"}),
        ("storm task 2, reviewed", {"state": "review", "tip": COMMIT, "review": "agent"}),
        ("storm task 3, commit", {"state": "done"}),
    ):
        _become(ledger, ledger.submit(NewTask(title)), **changes)
    assert person.idle, "nothing of that is a person's"
    given = ledger.submit(NewTask("storm task 4, approved", review=Review.HUMAN))
    _become(ledger, given, state="review", tip=COMMIT)
    person.turn(1.0)
    assert fleet.answer(0) == ("task", "approve", given, "--commit", COMMIT)
    _become(ledger, given, state="done")
    asked = ledger.submit(NewTask("storm task 5, answered"))
    _become(ledger, asked, state="needs_human")
    person.turn(2.0)
    assert not person.idle
    assert fleet.answer(2) == ("task", "answer", asked, "go on")
    assert notes.done == {"task approve": 1}


def test_a_person_retries_half_of_what_ended_badly_once(stage: Stage, ledger: SqliteLedger) -> None:
    fleet, notes = Commands(stage), Notes()
    person = Person(stage, fleet, ledger, notes, lambda _said: None)
    ones = [ledger.submit(NewTask(f"storm task {n}, fails")) for n in range(12)]
    for one in ones:
        _become(ledger, one, state="failed")
    assert person.idle, "none of them is the storm's"
    notes.pieces.update((one, piece(1, n)) for n, one in enumerate(ones))
    words = []
    for turn in range(len(ones)):
        person.turn(2.0 * turn)
        if fleet.asked:
            words.append(fleet.answer(0))
    assert person.idle
    assert len({word[2] for word in words}) == len(words) == len(ones) / 2
    assert {word[3:] for word in words} == {(), ("--fresh",), ("once more, please",)}


def test_what_waited_for_a_task_need_not_wait_for_its_retry(ledger: SqliteLedger) -> None:
    task = ledger.submit(NewTask("a"))
    ledger.cancel(task)
    ledger.retry(task)
    ledger.cancel(task)
    note = PlanNote("plan", (Planned("a", piece(1, 1), (), OnFailed.SKIP),), tasks={"a": task})
    ((_, (step,), _),) = plan_steps(ledger, Notes(plans=[note]))
    first, last = [one.at for one in ledger.events(task=task) if one.kind == "cancelled"]
    assert step.ended == first < last


def _become(ledger: SqliteLedger, task: str, **changes: Any) -> None:
    sets = ", ".join(f"{name} = ?" for name in changes)
    with ledger._database.writing() as db:
        db.execute(f"UPDATE tasks SET {sets} WHERE id = ?", (*changes.values(), task))
