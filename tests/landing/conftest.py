"""A source, its hub and branches, for every test of landing."""

from __future__ import annotations

from pathlib import Path

import pytest
from landing_support import World, make_world


@pytest.fixture
def world(home: Path) -> World:
    return make_world(home)
