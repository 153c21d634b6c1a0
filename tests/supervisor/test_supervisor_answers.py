"""What a person is told by a real supervisor: frozen, with shares of -n, and its bounded log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervisor_world import World, world
from tests_support import eventually

from swarm import logs
from swarm.supervisor.children import _children_by_search, own_children


@pytest.fixture
def w(home: Path) -> Iterator[World]:
    with world(home) as made:
        yield made


def agentctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "swarm.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_frozen_supervisor_is_told_at_once_and_can_be_stopped(w: World) -> None:
    w.configure(count=1)
    w.up()
    os.kill(w.pid, signal.SIGSTOP)
    eventually(lambda: _state(w.pid) == "T")
    for asked in (["status"], ["status", "--json"], ["pause"]):
        ran = agentctl("swarm", *asked)
        assert (ran.returncode, ran.stdout) == (1, "")
        assert ran.stderr == (
            f"agentctl: the supervisor (pid {w.pid}) is stopped by a signal; let it go on with "
            f"'kill -CONT {w.pid}', or end it with 'agentctl swarm stop'\n"
        )
    ran = agentctl("swarm", "stop")
    assert ran.returncode == 0, ran
    assert "sent SIGKILL" in ran.stdout
    assert w.wait() == -signal.SIGKILL


def test_children_are_found_where_the_kernel_does_not_list_them() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        try:
            assert child.pid in _children_by_search(os.getpid())
            assert set(own_children()) <= set(_children_by_search(os.getpid()))
        finally:
            child.kill()
    assert child.pid not in _children_by_search(os.getpid())


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_n_with_roles_is_shared_in_their_proportions(w: World) -> None:
    (w.home / "roles" / "qa.yaml").write_text("runtime: scripted\n")
    w.up(n=4, roles={"builder": 2, "qa": 6})
    assert Counter(one["role"] for one in w.agents().values()) == {"builder": 1, "qa": 3}
    assert w.stop(now=True) == 0


def test_what_children_print_is_bounded_while_they_run(w: World) -> None:
    log = w.home / "logs" / "stderr.log"
    log.parent.mkdir()
    with log.open("wb") as file:
        file.truncate(logs.MAX_BYTES + 1)  # of an earlier run
    w.configure(count=1)
    w.up()
    kept = w.home / "logs" / "stderr.log.1"
    assert kept.stat().st_size == logs.MAX_BYTES
    assert log.stat().st_size < 4096
    kept.unlink()
    os.truncate(log, logs.MAX_BYTES + 1)  # a child prints without end
    eventually(kept.exists)
    eventually(lambda: log.stat().st_size < 4096)
    assert w.stop(now=True) == 0
