"""Samples of real process trees."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests_support import eventually

from swarm.health import sampler as sampling
from swarm.health.sampler import Sampler

_TREE = (
    "import subprocess, sys\n"
    "child = subprocess.Popen([sys.executable, '-S', '-c', "
    '\'import os; os.setsid(); x = bytearray(30 << 20); x[::4096] = b"1" * len(x[::4096]);'
    "print(1, flush=True); input()'], stdin=subprocess.PIPE)\n"
    "input()\n"
)


@pytest.fixture
def tree() -> Iterator[subprocess.Popen[bytes]]:
    """A process with a child that called setsid and holds 30 MB."""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", _TREE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process


def test_the_whole_tree_is_measured(tree: subprocess.Popen[bytes]) -> None:
    sample = Sampler().sample({"a": tree.pid})["a"]
    assert sample.processes == 2
    assert sample.memory_mb > 30


def test_processor_use_is_that_since_the_last_sample() -> None:
    sampler = Sampler()
    me = {"me": os.getpid()}
    assert sampler.sample(me)["me"].cpu_percent == 0
    spin = 0

    def busy() -> bool:
        nonlocal spin
        for _ in range(200_000):
            spin += 1
        return sampler.sample(me)["me"].cpu_percent > 5

    eventually(busy)


def test_what_is_gone_is_left_out_and_forgotten(tree: subprocess.Popen[bytes]) -> None:
    sampler = Sampler()
    roots = {"a": tree.pid}
    assert "a" in sampler.sample(roots)
    tree.kill()
    tree.wait()
    assert sampler.sample(roots) == {}
    assert not sampler._pss
    assert not sampler._spent._before


def test_proportional_memory_is_taken_in_rotation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "PSS_A_SAMPLE", 2)
    sampler = Sampler()
    names = ["a", "b", "c", "d", "e"]
    met = [sampler._pss_turn(names) for _ in range(5)]
    assert all(len(turn) == 2 for turn in met)
    assert set().union(*met[:3]) == set(names)
