"""A plan killed at random moments, fifty times by seed, ends as one that was never killed."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from swarm_support import Swarm, kill
from tests_support import eventually

from swarm.core.model import TaskState
from swarm.errors import SwarmError
from swarm.ledger import open_ledger
from swarm.ledger.interface import LOST_LIMIT

KILLS, KILLS_OF_ONE_RUN = 50, 25
VICTIMS = ("daemon",) * 6 + ("chat",) * 2 + ("coordinator",) * 3 + ("all",)
"""What is killed, as often as it stands here; ``all`` is the supervisor, and all with it."""
SURELY_ALL = 10
"""So many kills into a run it is ``all``, whatever chance says."""


def work(name: str, *parents: str) -> str:
    """A session that takes a moment and makes a file of its parents' files."""
    files = " ".join(f"{parent}.txt" for parent in parents)
    make = f"run cat {files} > {name}.txt" if parents else f"write {name}.txt {name}"
    return f"think 0.1\n{make}\nrun echo {name} >> {name}.txt\ncommit {name}"


PLAN = "\n".join(
    f"- {{key: {key}, after: [{', '.join(after)}], on_failed: {on_failed}, text: {text!r}}}"
    for key, after, on_failed, text in (
        ("top", (), "hold", work("top")),
        ("left", ("top",), "hold", work("left", "top")),
        ("right", ("top",), "hold", work("right", "top")),
        ("join", ("left", "right"), "hold", work("join", "left", "right")),
        ("talk", ("top",), "hold", "think 0.1\nanswer the talk"),
        ("wrong", ("top",), "hold", "think 0.1\nfail no"),
        ("spared", ("wrong",), "skip", work("spared")),
        ("below", ("spared", "join"), "skip", work("below")),
        ("anyway", ("wrong", "talk"), "run", work("anyway", "top")),
        ("east", ("join",), "hold", work("east", "join")),
        ("west", ("join", "anyway"), "hold", work("west", "join", "anyway")),
        ("end", ("east", "west"), "skip", work("end", "east", "west")),
    )
).replace("'", '"')
"""Three diamonds, an answer, a failure, what is skipped for it and what runs all the same."""


@dataclass(slots=True)
class Outcome:
    """What a plan came to."""

    states: dict[str, tuple[str, str, str]]
    tree: str
    commits: int


@dataclass(slots=True)
class Run:
    """One swarm, one plan, and who is killed meanwhile."""

    swarm: Swarm
    random: random.Random
    plan: str = ""
    killed: list[str] = field(default_factory=list)

    def begin(self) -> None:
        """Bring it up and apply the plan."""
        self.swarm.configure(
            repo={"merge": "squash"},
            restart={"base_seconds": 0.02, "cap_seconds": 0.1, "max_restarts": 0},
        )
        self.swarm.up()
        file = self.swarm.root / "plan.yaml"
        file.write_text(PLAN)
        self.plan = self.swarm.must("plan", "apply", str(file), "--once").strip()

    def over(self) -> bool:
        """Whether every task of the plan has ended."""
        with open_ledger(self.swarm.places.ledger) as ledger:
            return ledger.find_plan(self.plan).ended_at is not None

    def strike(self) -> None:
        """Kill one of the swarm's processes, and bring it up again where nobody else does."""
        victim = self.random.choice(VICTIMS)
        if len(self.killed) == SURELY_ALL:
            victim = "all"
        try:
            status = self.swarm.status()
        except SwarmError:
            return
        if victim == "all":
            pids = [int(status["swarm"]["pid"])]
        elif victim == "daemon":
            pids = [int(a["pid"]) for a in status["agents"] if a["pid"] and not self._frail(a)]
        else:
            pids = [int(s["pid"]) for s in status["services"] if s["name"] == victim and s["pid"]]
        if not pids or not kill(self.random.choice(pids)):
            return
        self.killed.append(victim)
        if victim == "all":
            self.swarm.gone(within=10)
            self.swarm.up()

    def _frail(self, agent: dict[str, object]) -> bool:
        """Whether one more loss would make its task poison, which is meant to end otherwise."""
        holds = agent["task"]
        if not isinstance(holds, dict):
            return False
        return self.swarm.task(str(holds["id"])).lost + 1 >= LOST_LIMIT

    def outcome(self) -> Outcome:
        """What the plan came to; times, agents and ids differ from run to run."""
        with open_ledger(self.swarm.places.ledger) as ledger:
            found = {task.id: task.plan_key for task in ledger.plan_tasks(self.plan)}
            states = {
                task.plan_key: (str(task.state), str(task.result), _named(task.answer, found))
                for task in ledger.plan_tasks(self.plan)
            }
        hub = self.swarm.hub()
        tree = self.swarm.git("ls-tree", "-r", "main", cwd=hub)
        commits = int(self.swarm.git("rev-list", "--count", "main", cwd=hub))
        return Outcome(states, tree, commits)


def _named(answer: str, keys: dict[str, str]) -> str:
    for task, key in keys.items():
        answer = answer.replace(task, key)
    return answer if answer.startswith("the ") else ""


@pytest.fixture
def swarms() -> Iterator[list[Swarm]]:
    made: list[Swarm] = []
    yield made
    for swarm in made:
        swarm.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_plan_killed_fifty_times_ends_as_one_that_never_was(swarms: list[Swarm]) -> None:
    seed = int(os.environ.get("KILL_SEED", "20261120"))
    pause = threading.Event()  # never set: its wait is the moment between two kills

    def run(number: int, kills: int) -> tuple[Outcome, list[str]]:
        swarms.append(Swarm())
        one = Run(swarms[-1], random.Random(seed * 1000 + number))
        one.begin()
        while len(one.killed) < kills and not one.over():
            pause.wait(one.random.uniform(0.02, 0.2))
            one.strike()
        eventually(one.over, 60, one.swarm.log_tail)
        found = one.outcome()
        swarms.pop().close()
        return found, one.killed

    calm, _ = run(0, 0)
    assert {key: state for key, (state, _, _) in calm.states.items()} == {
        **dict.fromkeys(("top", "left", "right", "join", "talk", "anyway"), TaskState.DONE),
        **dict.fromkeys(("east", "west", "end"), TaskState.DONE),
        "wrong": TaskState.FAILED,
        **dict.fromkeys(("spared", "below"), TaskState.SKIPPED),
    }
    killed: list[str] = []
    number = 0
    while len(killed) < KILLS:
        number += 1
        found, victims = run(number, min(KILLS_OF_ONE_RUN, KILLS - len(killed)))
        killed += victims
        assert found == calm, f"seed {seed}, run {number}, killed {victims}"
    assert {"daemon", "coordinator", "chat", "all"} <= set(killed), killed
