"""A source repository, its hub and a workspace: what the spawner's tests work on."""

from __future__ import annotations

from pathlib import Path

import pytest
from spawner_support import AGENT, HOME_ID, Desk, make_source

from swarm.spawner.hub import ensure_hub, hub_path
from swarm.spawner.workspace import Brief, make_workspace


@pytest.fixture(params=["shared"])
def desk(home: Path, request: pytest.FixtureRequest) -> Desk:
    source = make_source(home / "source")
    hub = ensure_hub(hub_path(home / "hub", str(source)), str(source), "main")
    workspace = make_workspace(str(home / "base"), AGENT, HOME_ID, Brief("builder", "Build it."))
    return Desk(home, source, hub, workspace, mode=request.param)
