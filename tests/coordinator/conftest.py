"""A coordinator and its ledger in a world of its own, its books checked when the test is over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from coordinator_world import World


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.check()
    made.close()
