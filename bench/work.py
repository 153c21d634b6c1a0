"""From a committed task to a running session, and what a task costs on the channel."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator

from bench.fleet import Fleet, until
from bench.rows import Row, median, percentile
from swarm.chat.client import ChatClient
from swarm.ledger import open_ledger
from swarm.spawner.identity import load_or_create
from swarm.wire import work
from swarm.wire.agentchat.session import Said

TASKS = 150
CLAIM_TASKS = 20


def latency() -> Iterator[Row]:
    """Committed task to session's process, one at a time, with 50 idle agents."""
    waits = []
    with Fleet(50) as fleet, open_ledger(fleet.places.ledger) as ledger:
        until(lambda: sum(_warm(agent) for agent in fleet.status()["agents"]) >= 5, 20)
        for number in range(TASKS + 5):
            task, committed = fleet.submit("answer done")
            until(lambda task=task: ledger.task(task).state.ended)  # type: ignore[misc]
            started = ledger.attempts(task)[0].started_at
            if number >= 5 and started is not None:
                waits.append((started - committed) * 1000)
    floor = median([_bare_start() for _ in range(20)])
    middle, worst = median(waits), percentile(waits, 0.99)
    yield Row(
        "committed task to session's process",
        "50 idle",
        f"median {middle:.1f} ms, p99 {worst:.1f} ms",
        "median <= 25 ms, p99 <= 80 ms",
        middle <= 25 and worst <= 80,
        f"bare start of a process {floor:.1f} ms; a poller of 1 s: 500 ms",
        {"median_ms": middle, "p99_ms": worst, "floor_ms": floor},
    )


def _warm(agent: dict[str, object]) -> bool:
    return agent["state"] == "idle" and bool(agent.get("warm", True))


def _bare_start() -> float:
    began = time.perf_counter()
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as process:
        started = time.perf_counter()
        process.wait()
    return (started - began) * 1000


def claims() -> Iterator[Row]:
    """Claims on the channel per task, at three sizes of the fleet."""
    found = {}
    for count in (10, 50, 200):
        with Fleet(count) as fleet:
            found[count] = asyncio.run(_count_claims(fleet)) / CLAIM_TASKS
    most = max(found.values())
    yield Row(
        "claims on the channel per task",
        "10, 50, 200 idle",
        ", ".join(f"{value:.2f}" for value in found.values()),
        "<= 3 and not growing",
        most <= 3 and found[200] <= found[10] + 0.5,
        "naive: 10, 50, 200",
        {str(count): value for count, value in found.items()},
    )


async def _count_claims(fleet: Fleet) -> int:
    identity = load_or_create(fleet.places.operator_identity, "operator")
    claimed = 0
    settled: set[str] = set()
    url = fleet.status()["swarm"]["chat_url"]
    async with ChatClient(url, identity, "#agents") as client:
        await client.joined()
        for _ in range(CLAIM_TASKS):
            fleet.submit("answer done")
        async with asyncio.timeout(120):
            async for event in client.events():
                if not isinstance(event, Said) or event.replay:
                    continue
                match work.decode(event.content):
                    case work.Claim():
                        claimed += 1
                    case work.Settled(task=task):
                        settled.add(task.id)
                        if len(settled) == CLAIM_TASKS:
                            break
                    case _:
                        pass
    return claimed
