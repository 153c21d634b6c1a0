"""Two hundred tasks over twenty daemons, while daemons, sessions and services are killed."""

from __future__ import annotations

import itertools
import os
import random
import threading
from collections import Counter

import pytest
from swarm_support import Swarm, kill
from tests_support import eventually

from swarm.core.model import Outcome, TaskState
from swarm.errors import SwarmError
from swarm.ledger import NewTask, open_ledger

TASKS = 200
KILLS_EVERY = 0.25
"""Seconds between two kills."""


class Killer(threading.Thread):
    """Kills one process of the swarm at random, again and again, until told to stop."""

    def __init__(self, swarm: Swarm, seed: int) -> None:
        super().__init__()
        self._swarm = swarm
        self._random = random.Random(seed)
        self.over = threading.Event()
        self.killed: Counter[str] = Counter()

    def run(self) -> None:
        while not self.over.wait(KILLS_EVERY):
            try:
                status = self._swarm.status()
            except SwarmError:
                continue
            kind = self._random.choice(["daemon", "daemon", "session", "session", "service"])
            pids = {
                "daemon": [a["pid"] for a in status["agents"] if a["pid"]],
                "session": [a["task"]["session_pid"] for a in status["agents"] if a["task"]],
                "service": [s["pid"] for s in status["services"] if s["pid"]],
            }[kind]
            pids = [pid for pid in pids if pid]
            if pids and kill(self._random.choice(pids)):
                self.killed[kind] += 1


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_every_task_ends_exactly_once_while_processes_are_killed(swarm: Swarm) -> None:
    seed = int(os.environ.get("KILL_SEED", "20261120"))
    swarm.configure(
        agents=[{"role": "builder", "count": 20}],
        limits={"max_active": 8},
        restart={"base_seconds": 0.05, "cap_seconds": 0.5, "max_restarts": 0},
    )
    swarm.up()
    with open_ledger(swarm.places.ledger) as ledger:
        tasks = [
            ledger.submit(NewTask(prompt=f"write n{n}.txt {n}\ncommit n{n}", role="builder"))
            for n in range(TASKS)
        ]
    swarm.add("answer start")  # its poke makes the coordinator look
    killer = Killer(swarm, seed)
    killer.start()
    try:
        eventually(lambda: _ended(swarm, tasks) > TASKS * 0.8, within=150, say="most tasks ended")
    finally:
        killer.over.set()
        killer.join()
    ended = swarm.ended(tasks, within=60)
    assert killer.killed["daemon"] > 5, killer.killed
    assert killer.killed["session"] > 5, killer.killed
    assert killer.killed["service"] > 2, killer.killed
    for task in ended:
        attempts = swarm.attempts(task.id)
        settled = [a for a in attempts if a.outcome is not Outcome.LOST]
        assert all(a.outcome is not None for a in attempts)
        # A killed session is a failed attempt, a killed daemon a lost one; three make poison.
        assert len(settled) == 1 or (task.state is TaskState.FAILED and task.lost == 3), attempts
        assert len({a.fence for a in attempts}) == len(attempts)
        if task.state is TaskState.DONE:
            assert settled[0].outcome is Outcome.SUCCEEDED
            assert task.branch is not None
    _no_two_holders(swarm, tasks)


def _ended(swarm: Swarm, tasks: list[str]) -> int:
    with open_ledger(swarm.places.ledger) as ledger:
        return sum(1 for task in tasks if (t := ledger.task(task)) and t.state.ended)


def _no_two_holders(swarm: Swarm, tasks: list[str]) -> None:
    """No attempt of a task began before the one before it had ended."""
    for task in tasks:
        attempts = sorted(swarm.attempts(task), key=lambda attempt: attempt.fence)
        for earlier, later in itertools.pairwise(attempts):
            assert earlier.ended_at is not None
            assert later.started_at is None or later.started_at >= earlier.ended_at - 0.001
