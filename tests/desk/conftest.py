"""A home without a running swarm, and its ledger."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm.config.places import Places
from swarm.ledger import Ledger, open_ledger


@pytest.fixture
def places(home: Path) -> Places:
    return Places(home)


@pytest.fixture
def ledger(places: Places) -> Iterator[Ledger]:
    with open_ledger(places.ledger) as opened:
        yield opened
