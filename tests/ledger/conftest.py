"""Every ledger there is, for the contract tests: another database is one more entry here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swarm.ledger import Ledger, SqliteLedger


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


MAKERS: dict[str, Callable[[Path, Clock], Ledger]] = {
    "sqlite": lambda folder, clock: SqliteLedger(folder / "ledger.db", clock),
}


@pytest.fixture(params=sorted(MAKERS))
def ledger(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    with MAKERS[request.param](tmp_path, clock) as made:
        yield made
