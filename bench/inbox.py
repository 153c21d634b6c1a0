"""From a file that is closed in the inbox to a running session, and what watching costs."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.fleet import Fleet, processor_seconds, until
from bench.rows import Row, median, percentile
from swarm.ledger import Ledger, open_ledger

DROPS = 60
WARM_UP = 3
IDLE_SECONDS = 10.0


def drops() -> Iterator[Row]:
    """One drop at a time with 10 idle agents, settle 0; the same tasks by the ledger beside it."""
    fleet = Fleet(10)
    with fleet.places.config.open("a") as file:
        file.write("inbox: {settle_seconds: 0}\n")
    with fleet, open_ledger(fleet.places.ledger) as ledger:
        until(fleet.places.inbox.is_dir, 10)
        dropped = [_drop(fleet, ledger, number) for number in range(DROPS + WARM_UP)][WARM_UP:]
        added = [_add(fleet, ledger) for _ in range(DROPS)]
        (pid,) = (
            int(one["pid"]) for one in fleet.status()["services"] if one["name"] == "coordinator"
        )
        before = processor_seconds(pid)
        time.sleep(IDLE_SECONDS)
        idle = (processor_seconds(pid) - before) / IDLE_SECONDS * 100
    middle, worst, floor = median(dropped), percentile(dropped, 0.99), median(added)
    yield Row(
        "file closed in the inbox to session's process",
        "10 idle, settle 0",
        f"median {middle:.0f} ms, p99 {worst:.0f} ms; coordinator idle {idle:.2f} % of a core",
        "median <= 300 ms",
        middle <= 300,
        f"the same task by the ledger {floor:.0f} ms; a watcher that polls each second: 500 ms",
        {"median_ms": middle, "p99_ms": worst, "ledger_ms": floor, "idle_percent": idle},
    )


def _drop(fleet: Fleet, ledger: Ledger, number: int) -> float:
    """Milliseconds from the close of one dropped file to its session."""
    seen = ledger.last_event()
    with (fleet.places.inbox / f"{number}.md").open("w") as file:
        file.write("answer done\n")
    closed = time.time()
    until(lambda: ledger.last_event() > seen, 10)
    task = ledger.events(seen)[0].task
    return _started(ledger, task, closed)


def _add(fleet: Fleet, ledger: Ledger) -> float:
    """The same for a task that is committed to the ledger."""
    task, committed = fleet.submit("answer done")
    return _started(ledger, task, committed)


def _started(ledger: Ledger, task: str, since: float) -> float:
    until(lambda: _ended(ledger, task), 30)
    started = ledger.attempts(task)[0].started_at
    assert started is not None
    return (started - since) * 1000


def _ended(ledger: Ledger, task: str) -> bool:
    found = ledger.task(task)
    return found is not None and found.state.ended
