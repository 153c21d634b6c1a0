"""A swarm of real processes, ended and removed whatever its test did."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from swarm_support import Swarm


@pytest.fixture
def swarm() -> Iterator[Swarm]:
    made = Swarm()
    yield made
    made.close()
