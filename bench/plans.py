"""A plan of a thousand tasks taken in, and how soon a child starts after its last dependency."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from bench.fleet import Fleet, until
from bench.rows import Row, median, percentile
from swarm.ledger import Ledger, open_ledger

TASKS = 1000
RUNS = 5
ADDED = 10
CHAIN = 60


def plans() -> Iterator[Row]:
    """``plan apply`` as a person runs it, then a chain of tasks over a small fleet."""
    yield from _applied()
    yield from _released()


def _applied() -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="agentctl-bench-") as folder:
        root = Path(folder)
        plan = root / "plan.yaml"
        plan.write_text("".join(_task(number) for number in range(TASKS)))
        took = []
        for run in range(RUNS):
            began = time.perf_counter()
            _agentctl(root / str(run), "plan", "apply", str(plan))
            took.append((time.perf_counter() - began) * 1000)
            with open_ledger(root / str(run) / "ledger.db") as ledger:
                assert sum(ledger.counts().values()) == TASKS
        began = time.perf_counter()
        for number in range(ADDED):
            _agentctl(root / "one", "task", "add", f"do {number}")
        one_by_one = (time.perf_counter() - began) / ADDED * TASKS
    yield Row(
        "plan apply, as a command",
        f"{TASKS:,} tasks",
        f"median {median(took):.0f} ms",
        "<= 2000 ms",
        median(took) <= 2000,
        f"so many `task add`: {one_by_one:.0f} s",
        {"median_ms": median(took), "task_add_s": one_by_one},
    )


def _task(number: int) -> str:
    after = f"[k{number - 1}, k{number // 2}]" if number > 1 else "[]"
    return (
        f"- {{key: k{number}, text: do part {number} of it, role: builder, priority: {number % 7},"
        f" after: {after}, files: [src/f{number}.py], component: part-{number % 9}}}\n"
    )


def _agentctl(home: Path, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-P", "-m", "swarm.cli", *arguments],
        env={"AGENTCTL_HOME": str(home), "PATH": "/usr/bin:/bin"},
        cwd=home.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )


def _released() -> Iterator[Row]:
    with Fleet(4) as fleet, open_ledger(fleet.places.ledger) as ledger:
        alone = []
        for _ in range(20):
            task, committed = fleet.submit("answer done")
            until(lambda task=task: ledger.task(task).state.ended)  # type: ignore[misc]
            alone.append((_started(ledger, task) - committed) * 1000)
        plan = fleet.root / "chain.yaml"
        plan.write_text(
            "".join(
                f"- {{key: k{n}, text: answer done, after: [{f'k{n - 1}' if n else ''}]}}\n"
                for n in range(CHAIN)
            )
        )
        name = fleet.agentctl("plan", "apply", str(plan)).strip()
        fleet.agentctl("plan", "wait", name, "-q")
        tasks = ledger.plan_tasks(name)
        waits = [
            (_started(ledger, child.id) - (parent.ended_at or 0.0)) * 1000
            for parent, child in pairwise(tasks)
        ]
    middle, worst = median(waits), percentile(waits, 0.99)
    yield Row(
        "child's session after its last dependency",
        f"a chain of {CHAIN}, 4 agents",
        f"median {middle:.1f} ms, p99 {worst:.1f} ms",
        "median <= 100 ms",
        middle <= 100,
        f"a task just added {median(alone):.1f} ms; a batch barrier of 4 s: 4000 ms",
        {"median_ms": middle, "p99_ms": worst, "added_ms": median(alone)},
    )


def _started(ledger: Ledger, task: str) -> float:
    return ledger.attempts(task)[0].started_at or 0.0
