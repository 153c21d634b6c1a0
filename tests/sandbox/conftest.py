"""What the sandbox's tests share: a plain environment and a look at the machine's processes."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from swarm.core.model import Containment
from swarm.sandbox.launch import Confinement
from swarm.sandbox.probe import what_holds

RUNGS = {
    "namespace": Confinement(Containment.PID_NAMESPACE),
    "user-namespace": Confinement(Containment.PID_NAMESPACE, user_ns=True),
    "descent": Confinement(Containment.DESCENT),
}


@pytest.fixture(params=list(RUNGS))
def rung(request: pytest.FixtureRequest) -> Confinement:
    """Every rung of the ladder that this machine has, asked for by name."""
    wanted = RUNGS[request.param]
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


def with_token(token: str) -> list[int]:
    """Pids of every process whose arguments hold ``token``."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                text = Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue
            if token.encode() in text:
                found.append(int(name))
    return found


@pytest.fixture
def carrying(token: str) -> Iterator[Callable[[], list[int]]]:
    """Asks who carries the token; what still does at the end of a test is killed."""
    yield lambda: with_token(token)
    for pid in with_token(token):
        os.kill(pid, 9)
