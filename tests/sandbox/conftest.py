"""What the sandbox's tests share: a plain environment and a look at the machine's processes."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
import tests_support

from swarm.core.model import Containment
from swarm.sandbox import cgroup_place, cgroups
from swarm.sandbox import launch as launching
from swarm.sandbox.cgroups import Group, Limits
from swarm.sandbox.launch import Confinement
from swarm.sandbox.probe import what_holds

RUNGS = {
    "namespace": Confinement(Containment.PID_NAMESPACE),
    "user-namespace": Confinement(Containment.PID_NAMESPACE, user_ns=True),
    "cgroup": Confinement(Containment.CGROUP),
    "descent": Confinement(Containment.DESCENT),
}
NO_CGROUPS = "no cgroup can be made here: neither v2 nor v1 is writable for this user"


@pytest.fixture
def folders() -> Iterator[dict[str, str]]:
    """A home's cgroups in the real hierarchy of this machine; emptied and removed at the end."""
    place = cgroup_place.find()
    if not place.version:
        pytest.skip(NO_CGROUPS)
    made = place.folders(f"test{uuid.uuid4().hex[:12]}")
    yield made
    cgroups.sweep(made)
    assert not [path for path in made.values() if os.path.exists(path)]


@pytest.fixture(params=list(RUNGS))
def rung(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Confinement:
    """Every rung of the ladder that this machine has, asked for by name."""
    wanted = RUNGS[request.param]
    if wanted.containment is Containment.CGROUP:
        folders = request.getfixturevalue("folders")

        def remove_and_make(group: Group) -> bool:
            """A test may launch twice under the same rung."""
            return cgroups.remove(group) and bool(cgroups.make(folders, "t", 1, Limits()))

        monkeypatch.setattr(launching, "cgroups", SimpleNamespace(remove=remove_and_make))
        return replace(wanted, group=cgroups.make(folders, "t", 1, Limits()))
    holds = what_holds()
    if wanted.containment is Containment.PID_NAMESPACE:
        if holds.containment is not Containment.PID_NAMESPACE:
            pytest.skip("no PID namespaces on this machine")
        if wanted.user_ns is None and holds.user_ns:
            pytest.skip("PID namespaces need a user namespace here")
    return wanted


@pytest.fixture
def env() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "LC_ALL": "C"}


@pytest.fixture
def token() -> str:
    """A word that no other process on the machine has in its arguments."""
    return f"tok{uuid.uuid4().hex}"


@pytest.fixture
def carrying(token: str) -> Iterator[Callable[[], list[int]]]:
    """Asks who carries the token; what still does at the end of a test is killed."""
    yield lambda: tests_support.carrying(token)
    for pid in tests_support.carrying(token):
        os.kill(pid, 9)
