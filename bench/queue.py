"""A claim in a long queue."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.rows import Row, median, percentile
from swarm.ledger import NewTask, open_ledger

QUEUED = 50_000
CLAIMS = 200


def claim() -> Iterator[Row]:
    """Choose the next task and claim it, 50,000 queued."""
    with tempfile.TemporaryDirectory(prefix="agentctl-bench-") as folder:
        path = Path(folder) / "ledger.db"
        with open_ledger(path) as ledger:
            for number in range(QUEUED):
                ledger.submit(NewTask(prompt=f"task {number}", role="builder"))
            took = []
            for number in range(CLAIMS):
                began = time.perf_counter()
                task = ledger.ready([1], 1)[0]
                claimed = ledger.claim(task.id, "swarm-builder-001", f"{number:016x}", 90.0)
                took.append((time.perf_counter() - began) * 1000)
                assert claimed is not None
        scan = _without_an_index(Path(folder) / "plain.db")
    yield Row(
        "choose and claim in the ledger",
        "50,000 queued",
        f"median {median(took):.2f} ms, p99 {percentile(took, 0.99):.2f} ms",
        "<= 1 ms",
        median(took) <= 1,
        f"the same table without an index {scan:.1f} ms",
        {"median_ms": median(took), "p99_ms": percentile(took, 0.99), "baseline_ms": scan},
    )


def _without_an_index(path: Path) -> float:
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("CREATE TABLE tasks (id TEXT, state TEXT, priority INT, prompt TEXT)")
    with database:
        database.executemany(
            "INSERT INTO tasks VALUES (?, 'queued', 0, ?)",
            ((f"t-{number}", f"task {number}") for number in range(QUEUED)),
        )
    took = []
    for _ in range(20):
        began = time.perf_counter()
        with database:
            (task,) = database.execute(
                "SELECT id FROM tasks WHERE state = 'queued' ORDER BY priority DESC, id LIMIT 1"
            ).fetchone()
            database.execute("UPDATE tasks SET state = 'running' WHERE id = ?", (task,))
        took.append((time.perf_counter() - began) * 1000)
    database.close()
    return median(took)
