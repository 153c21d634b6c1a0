"""Fixtures every test may ask for, and the check that none leaves anything behind."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "lean", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "lean"))

for name in [n for n in os.environ if n.startswith(("AGENTCTL_", "GIT_"))]:
    del os.environ[name]
os.environ["AGENTCTL_HOME"] = "/nonexistent/agentctl-home"
"""A test that forgets to name its home must fail, never touch a person's."""


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary ``AGENTCTL_HOME``; its path is short, as a unix socket lies in it."""
    path = Path(tempfile.mkdtemp(prefix="ac-"))
    monkeypatch.setenv("AGENTCTL_HOME", str(path))
    yield path
    shutil.rmtree(path)


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    """No test leaves a file descriptor open or a child unreaped."""
    before = _descriptors()
    yield
    leaked = {fd: what for fd, what in _descriptors().items() if fd not in before}
    leaked = {fd: w for fd, w in leaked.items() if not w.startswith(("/dev/null", "pipe:[xdist"))}
    assert not leaked, f"file descriptors left open: {leaked}"


def _descriptors() -> dict[int, str]:
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            found[int(entry)] = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            continue  # the descriptor of the listing itself
    return found
