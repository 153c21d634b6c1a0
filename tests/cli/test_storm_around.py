"""The person and the outsider of a storm: what they do, and which answers they mind."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from swarm.cli.demonstration.stage import Stage
from swarm.cli.storm.fleet import Fleet, Said
from swarm.cli.storm.notes import Notes, Options
from swarm.cli.storm.outsider import LATE, SHORT, Outsider
from swarm.cli.storm.person import Person
from swarm.cli.storm.stage import Size
from swarm.cli.storm.work import LANE
from swarm.core.model import Outcome, Review
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
            self.fleet, ledger, Options(seed, 1.0, Size.of(3)), self.notes,
            lambda *what: self.wrong.append(what), lambda _said: None,
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
    lane = Lane(stage, ledger, seed=1)
    assert float(lane.claim()[-2]) != SHORT, "this seed does not begin with silence"
    lane.outsider.turn(float("inf"))
    lane.fleet.answer(0)
    assert lane.notes.answers == {lane.task: f"{lane.task} 1"}
    assert lane.outsider.idle
    assert lane.wrong == []


def test_a_refused_answer_in_time_is_a_violation(stage: Stage, ledger: SqliteLedger) -> None:
    lane = Lane(stage, ledger, seed=1)
    lane.claim()
    lane.outsider.turn(float("inf"))
    lane.fleet.answer(1, "the ledger is locked")
    assert lane.wrong == []
    assert not lane.outsider.idle, "it still holds it, and tries again"
    ledger.lane_release(lane.task, 1, "stranger")  # as if somebody had taken it away
    lane.outsider.turn(float("inf"))
    lane.fleet.answer(1, "no")
    assert [rule for rule, _ in lane.wrong] == ["leases are kept"]


def test_silence_lets_a_lease_run_out_and_a_late_answer_taken_is_a_violation(
    stage: Stage, ledger: SqliteLedger
) -> None:
    seed = next(n for n in range(100) if _begins_silent(stage, ledger, n))
    lane = Lane(stage, ledger, seed)
    lane.claim()
    (harm,) = lane.notes.harms
    assert (harm.agent, harm.outcomes) == ("@stranger", {Outcome.LOST})
    lane.outsider.turn(float("inf"))
    lane.fleet.answer(0)
    assert [rule for rule, _ in lane.wrong] == ["leases are kept"]
    assert LATE > 0


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


def _become(ledger: SqliteLedger, task: str, **changes: Any) -> None:
    sets = ", ".join(f"{name} = ?" for name in changes)
    with ledger._database.writing() as db:
        db.execute(f"UPDATE tasks SET {sets} WHERE id = ?", (*changes.values(), task))
