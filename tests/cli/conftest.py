"""A stand-in supervisor for this test's home, and a way to run commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_fake import FakeSupervisor, Ran

from swarm.cli.main import run
from swarm.config.places import Places


@pytest.fixture
def supervisor(home: Path) -> Iterator[FakeSupervisor]:
    """A running stand-in for this test's home."""
    fake = FakeSupervisor(home)
    yield fake
    fake.close()


@pytest.fixture
def places(home: Path) -> Places:
    """The files of this test's home."""
    return Places(home)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run a command line in this process, as ``agentctl`` would."""

    def call(*arguments: str) -> Ran:
        code = run(list(arguments))
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call
