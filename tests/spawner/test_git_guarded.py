"""Git that talks to a person's source takes along what it started, also from a busy process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from spawner_support import sh_git
from tests_support import eventually

HANGS = """#!/bin/sh
tail -f /dev/null & echo $! > {at}/child.part
mv {at}/child.part {at}/child
wait
"""
FETCHES = """
import sys, threading
from swarm.errors import GitError
from swarm.spawner.git import persons_git, run_git
wait = threading.Event()
threading.Thread(target=wait.wait, daemon=True).start()
try:
    run_git(persons_git(sys.argv[1], "fetch", sys.argv[2], timeout=float(sys.argv[3])))
except GitError as error:
    print(error)
"""


@pytest.fixture
def hub(home: Path) -> Path:
    made = home / "hub"
    sh_git(home, "init", "-q", "--bare", str(made))
    return made


def fetching(hub: Path, source: str, seconds: float, ssh: str) -> subprocess.Popen[str]:
    env = {**os.environ, "GIT_SSH_COMMAND": ssh, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = (sys.executable, "-c", FETCHES, str(hub), source, str(seconds))
    return subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def ssh(home: Path) -> Iterator[str]:
    """One that never connects, and has started another process."""
    program = home / "ssh"
    program.write_text(HANGS.format(at=home))
    program.chmod(0o755)
    yield str(program)
    if (home / "child").exists() and not gone(home):
        os.kill(int((home / "child").read_text()), signal.SIGKILL)


def gone(home: Path) -> bool:
    return not os.path.exists(f"/proc/{int((home / 'child').read_text())}")


def test_a_fetch_dies_with_a_process_that_has_threads(hub: Path, home: Path, ssh: str) -> None:
    process = fetching(hub, "ssh://nowhere.invalid/x", 900, ssh)
    try:
        eventually((home / "child").exists)
    finally:
        process.kill()
        process.communicate()
    eventually(lambda: gone(home), 2.0, promised=True)


def test_one_that_takes_too_long_is_ended_with_all_it_started(
    hub: Path, home: Path, ssh: str
) -> None:
    process = fetching(hub, "ssh://nowhere.invalid/x", 3, ssh)
    said, _ = process.communicate(timeout=60)
    assert "took longer than 3 s" in said
    eventually((home / "child").exists)
    eventually(lambda: gone(home), 2.0, promised=True)


def test_what_git_says_is_told(hub: Path, home: Path) -> None:
    process = fetching(hub, str(home / "nothing"), 60, "false")
    said, _ = process.communicate(timeout=60)
    assert "does not appear to be a git repository" in said
