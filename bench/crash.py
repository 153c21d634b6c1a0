"""What a daemon's death costs: until the supervisor knows, and until its replacement beats."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from bench.fleet import Fleet, until
from bench.interpreters import CLIENT
from bench.rows import Row, median, percentile

KILLS = 100


def crashes() -> Iterator[Row]:
    """A hundred idle daemons killed one after another, restarted at once."""
    known, back = [], []
    with Fleet(10, base_seconds=0, max_restarts=0) as fleet:
        names = [agent["name"] for agent in fleet.status()["agents"]]
        for number in range(KILLS):
            name = names[number % len(names)]
            pid = _idle_pid(fleet, name)
            at = time.time()
            os.kill(pid, signal.SIGKILL)
            entry = until(lambda pid=pid: _entry(fleet, "child_exited", pid=pid))
            ready = until(
                lambda name=name, pid=pid: _entry(fleet, "child_ready", child=name, after=pid)
            )
            known.append((_seconds(entry) - at) * 1000)
            back.append((_seconds(ready) - at) * 1000)
        fresh = [_restart_fresh(fleet.status()["swarm"]["chat_url"]) for _ in range(10)]
    plain = [_plain_wait() for _ in range(20)]
    yield Row(
        "daemon killed to supervisor knows",
        f"{KILLS} kills",
        f"median {median(known):.2f} ms, p99 {percentile(known, 0.99):.2f} ms",
        "p99 <= 10 ms",
        percentile(known, 0.99) <= 10,
        f"blocking wait of a bare parent {median(plain):.2f} ms",
        {
            "median_ms": median(known),
            "p99_ms": percentile(known, 0.99),
            "baseline_ms": median(plain),
        },
    )
    yield Row(
        "daemon killed to replacement beats",
        f"{KILLS} kills",
        f"median {median(back):.1f} ms, p99 {percentile(back, 0.99):.1f} ms",
        "median <= 20 ms",
        median(back) <= 20,
        f"fresh interpreter signed in {median(fresh):.0f} ms",
        {
            "median_ms": median(back),
            "p99_ms": percentile(back, 0.99),
            "baseline_ms": median(fresh),
        },
    )


def _idle_pid(fleet: Fleet, name: str) -> int:
    def look() -> int | None:
        agent = next(a for a in fleet.status()["agents"] if a["name"] == name)
        return int(agent["pid"]) if agent["state"] == "idle" else None

    return int(until(look))


def _entry(
    fleet: Fleet, kind: str, *, pid: int = 0, child: str = "", after: int = 0
) -> dict[str, Any] | None:
    """The last such entry; ``after`` asks for one that follows the exit of that pid."""
    seen_exit = not after
    found = None
    for entry in fleet.journal():
        if entry["kind"] == "child_exited" and entry.get("pid") == after:
            seen_exit = True
        elif seen_exit and entry["kind"] == kind and child in ("", entry.get("child")):
            found = entry if pid in (0, entry.get("pid")) else found
        if entry["kind"] == kind and pid and entry.get("pid") == pid:
            found = entry
    return found


def _seconds(entry: dict[str, Any]) -> float:
    return dt.datetime.fromisoformat(entry["ts"]).timestamp()


def _plain_wait() -> float:
    process = subprocess.Popen(["sleep", "60"])
    at = time.perf_counter()
    process.kill()
    process.wait()
    return (time.perf_counter() - at) * 1000


def _restart_fresh(url: str) -> float:
    at = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", CLIENT, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        took = (time.perf_counter() - at) * 1000
        process.kill()
    return took
