"""Killing whoever started a session with -9 takes the session's whole tree along."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests_support import eventually, remains_false

from swarm.core.model import Containment
from swarm.sandbox import keeper, steps
from swarm.sandbox.launch import Command, Confinement, Tree, launch, read_status
from swarm.sandbox.trees import TreeId, alive, destroy, marker, start_time, survivors, sweep

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

# A grandchild in a session of its own, orphaned, its environment empty; and one that is stopped.
SCRIPT = """
(env -i setsid tail -f /dev/null "$1" >/dev/null 2>&1 &)
setsid sh -c 'kill -STOP $$; exec tail -f /dev/null "$0"' "$1" 2>/dev/null &
trap '' TERM HUP
while :; do sleep 300; done
"""


class Daemon:
    """A real process that launches a session and then waits to be killed."""

    def __init__(self, confinement: Confinement, env: dict[str, str], token: str) -> None:
        reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                tree = launch(Command(("sh", "-c", SCRIPT, "sh", token), "/", env), [], confinement)
                _wait_started(tree)
                os.write(writing, f"{tree.tree_pid} {tree.tree_start} {tree.pid}\n".encode())
                while True:
                    signal.pause()
            finally:
                os._exit(1)
        os.close(writing)
        words = os.read(reading, 100).split()
        os.close(reading)
        self.tree = TreeId(
            int(words[0]), int(words[1]), confinement.containment or Containment.PID_NAMESPACE,
            confinement.marker,
        )  # fmt: skip
        self.keeper = int(words[2])

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _wait_started(tree: Tree) -> None:
    data = b""
    os.set_blocking(tree.status, True)
    while not data.endswith(b"\n"):
        data += os.read(tree.status, 4096)
    assert read_status(data.splitlines()[0]).started


def test_a_killed_daemon_takes_its_session_along(
    rung: Confinement, env: dict[str, str], token: str, carrying: Callable[[], list[int]]
) -> None:
    daemon = Daemon(rung, env, token)
    eventually(lambda: len(carrying()) >= 3)
    daemon.kill()
    eventually(lambda: not carrying(), within=2.0, say="a descendant lives", promised=True)
    eventually(lambda: not survivors(daemon.tree))


def test_killing_only_the_keeper_takes_the_session_along(
    env: dict[str, str], token: str, carrying: Callable[[], list[int]]
) -> None:
    daemon = Daemon(Confinement(Containment.PID_NAMESPACE), env, token)
    try:
        eventually(lambda: len(carrying()) >= 3)
        os.kill(daemon.keeper, signal.SIGKILL)
        eventually(lambda: not carrying(), within=2.0, promised=True)
    finally:
        daemon.kill()


def test_another_process_can_end_a_tree(
    rung: Confinement, env: dict[str, str], token: str, carrying: Callable[[], list[int]]
) -> None:
    """The supervisor's way with the session of a daemon that hangs."""
    mark = marker("h" * 8, "t-1", 2)
    daemon = Daemon(replace(rung, marker=mark), env, token)
    try:
        # Some of what is being started ends again between the two looks.
        eventually(
            lambda: len(found := carrying()) >= 3 and set(found) <= set(survivors(daemon.tree))
        )

        def gone() -> bool:
            destroy(daemon.tree)
            return not survivors(daemon.tree)

        eventually(gone)
        assert not carrying()
    finally:
        daemon.kill()


def test_without_a_keeper_the_marker_finds_what_is_left(
    env: dict[str, str], token: str, carrying: Callable[[], list[int]]
) -> None:
    """No namespace, keeper and daemon both killed at once: found by marker and descent."""
    home = f"h{os.getpid()}x{os.urandom(3).hex()}"
    mark = marker(home, "t-1", 1)
    daemon = Daemon(Confinement(Containment.DESCENT, marker=mark), env, token)
    eventually(lambda: len(carrying()) >= 3)
    marked = set(survivors(TreeId(0, 0, Containment.DESCENT, mark)))
    assert marked, "the session's processes carry the marker"
    os.kill(daemon.keeper, signal.SIGSTOP)  # so that it cannot clean up
    os.kill(daemon.keeper, signal.SIGKILL)
    daemon.kill()
    eventually(lambda: not sweep(home))
    assert not survivors(TreeId(0, 0, Containment.DESCENT, mark))


def test_a_reused_pid_is_never_signalled(env: dict[str, str]) -> None:
    """A tree id whose start time is another's: the process that has the pid now is left alone."""
    child = os.fork()
    if child == 0:
        try:
            while True:
                signal.pause()
        finally:
            os._exit(1)
    try:
        start = start_time(child)
        assert start is not None
        assert alive(child, start)
        for containment in Containment:
            stale = TreeId(child, start - 1, containment, "nobody:t:1")
            assert survivors(stale) == []
            destroy(stale)
        assert alive(child, start)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert not alive(child, start)


def test_mutant_a_session_without_parent_death_signals_is_caught(
    env: dict[str, str],
    token: str,
    carrying: Callable[[], list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Planted bug: nobody asks to die with its parent."""

    def forget(parent: int, number: int) -> None:
        return None

    monkeypatch.setattr(keeper, "die_with", forget)
    monkeypatch.setattr(steps, "die_with", forget)
    daemon = Daemon(Confinement(Containment.DESCENT), env, token)
    eventually(lambda: len(carrying()) >= 3)
    daemon.kill()
    remains_false(lambda: not carrying(), 0.5)
    eventually(lambda: not (destroy(daemon.tree), survivors(daemon.tree))[1])
