"""How long ``up`` takes, and what a waiting fleet weighs and burns."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.fleet import Fleet, processor_seconds, proportional_memory
from bench.interpreters import Interpreters
from bench.rows import Row

BASELINE_CLIENTS = 10
WINDOW_SECONDS = 60


def memory() -> Iterator[Row]:
    """Proportional memory of one idle daemon, by the difference of fleets of 20 and 220."""
    total = {}
    baseline = 0.0
    for count in (20, 220):
        with Fleet(count) as fleet:
            daemons = set(fleet.daemons())
            everything = fleet.processes()
            total[count] = (
                sum(proportional_memory(pid) for pid in daemons),
                sum(proportional_memory(pid) for pid in everything),
            )
            if count == 20:
                with Interpreters(BASELINE_CLIENTS, fleet.status()["swarm"]["chat_url"]) as fresh:
                    baseline = (
                        sum(proportional_memory(pid) for pid in fresh.pids) / BASELINE_CLIENTS
                    )
    one = (total[220][0] - total[20][0]) / 200
    whole = (total[220][1] - total[20][1]) / 200
    yield Row(
        "memory of one idle daemon (PSS)",
        "220",
        f"{one:.2f} MB ({whole:.2f} MB with its share of everything else)",
        "<= 1.0 MB",
        one <= 1.0,
        f"fresh interpreter {baseline:.1f} MB",
        {"daemon_mb": one, "whole_mb": whole, "baseline_mb": baseline},
    )


def two_hundred() -> Iterator[Row]:
    """``up`` of 200 against 200 fresh interpreters, and what 200 idle ones burn."""
    with Fleet(200) as fleet:
        ours = fleet.seconds_to_ready
        url = fleet.status()["swarm"]["chat_url"]
        yield from _idle(fleet, url)
        with Interpreters(200, url) as fresh:
            theirs = fresh.seconds_to_ready
    yield Row(
        "up to all ready",
        "200",
        f"{ours:.2f} s ({theirs / ours:.1f} x faster)",
        ">= 8 x faster",
        theirs / ours >= 8,
        f"200 fresh interpreters {theirs:.1f} s",
        {"seconds": ours, "baseline_seconds": theirs, "ratio": theirs / ours},
    )


def _idle(fleet: Fleet, url: str) -> Iterator[Row]:
    with Interpreters(BASELINE_CLIENTS, url) as fresh:
        processes = fleet.processes()
        time.sleep(5)  # the fleet settles: what follows `ready` is not idling
        before = sum(map(processor_seconds, processes))
        theirs = sum(map(processor_seconds, fresh.pids))
        time.sleep(WINDOW_SECONDS)
        ours = (sum(map(processor_seconds, processes)) - before) / WINDOW_SECONDS
        theirs = (sum(map(processor_seconds, fresh.pids)) - theirs) / WINDOW_SECONDS
    scaled = theirs / BASELINE_CLIENTS * 200
    yield Row(
        "processor use of an idle fleet",
        "200, 30 s beats",
        f"{ours:.2%} of a core",
        "<= 1 % of a core",
        ours <= 0.01,
        f"200 silent asyncio clients {scaled:.2%}",
        {"share": ours, "baseline_share": scaled},
    )


def thousand() -> Iterator[Row]:
    """``up`` of 1,000, and what it weighs in all."""
    with Fleet(1000) as fleet:
        whole = sum(proportional_memory(pid) for pid in fleet.processes())
        with Interpreters(BASELINE_CLIENTS, fleet.status()["swarm"]["chat_url"]) as fresh:
            each = fresh.seconds_to_ready / BASELINE_CLIENTS
            weight = sum(proportional_memory(pid) for pid in fresh.pids) / BASELINE_CLIENTS
    yield Row(
        "up to all ready",
        "1,000",
        f"{fleet.seconds_to_ready:.1f} s, {whole / 1024:.2f} GB in all",
        "<= 10 s, <= 1.2 GB",
        fleet.seconds_to_ready <= 10 and whole <= 1.2 * 1024,
        f"fresh interpreters, from 10 of them: {each * 1000:.0f} s, {weight * 1000 / 1024:.1f} GB",
        {
            "seconds": fleet.seconds_to_ready,
            "memory_mb": whole,
            "baseline_seconds": each * 1000,
            "baseline_mb": weight * 1000,
        },
    )
