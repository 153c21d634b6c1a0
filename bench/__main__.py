"""Run every measurement, or those named: ``python -m bench [memory 200 1000 latency …]``."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import crash, inbox, landing, plans, queue, start, survival, waiting, work
from bench.rows import Row, keep, table

MEASURES: dict[str, Callable[[], Iterator[Row]]] = {
    "claim": queue.claim,
    "memory": start.memory,
    "200": start.two_hundred,
    "1000": start.thousand,
    "latency": work.latency,
    "claims": work.claims,
    "crash": crash.crashes,
    "landing": landing.landing,
    "merged": landing.merged,
    "inbox": inbox.drops,
    "plans": plans.plans,
    "clean": survival.clean,
    "restarts": survival.restarts,
    "sampling": survival.sampling,
    "sandbox": survival.sandbox,
    "waiting": waiting.waiting,
}


def main() -> int:
    """Print the table and write the JSON; always 0, as numbers are read, not judged."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("measure", nargs="*", help=f"any of {', '.join(MEASURES)}; all by default")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results.json")
    chosen = parser.parse_args()
    if unknown := set(chosen.measure) - set(MEASURES):
        parser.error(f"no measurement is called {', '.join(sorted(unknown))}")
    rows: list[Row] = []
    for name in chosen.measure or MEASURES:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        rows += MEASURES[name]()
    print(f"{platform.system()} {platform.release()}, Python {platform.python_version()}\n")
    print(table(rows))
    keep(rows, chosen.json)
    print(f"\nwritten to {chosen.json}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
