"""The places of a daemon under test, and a workspace of its with a clone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon_bench import HOME_ID, NAME, Bench, bench

from swarm.spawner.clone import ensure_clone
from swarm.spawner.workspace import Brief, Workspace, make_workspace


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as made:
        yield made


@pytest.fixture
def workspace(place: Bench) -> Workspace:
    made = make_workspace(str(place.base), NAME, HOME_ID, Brief("builder"))
    ensure_clone(made, place.hub)
    return made
