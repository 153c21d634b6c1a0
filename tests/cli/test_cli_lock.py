"""The lock decides who runs; only its holder is ever signalled."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests_support import eventually

from swarm.cli import lock
from swarm.config.places import Places

HOLDER = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
file.write(sys.argv[2] if len(sys.argv) > 2 else str(__import__("os").getpid()))
file.flush()
print("locked", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(places: Places, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    param = getattr(request, "param", "")
    written = [str(os.getpid()) if param == "our own" else param] if param else []
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", HOLDER, str(places.pid_file), *written],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"locked\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_no_file_and_a_stale_file_are_not_locked(places: Places) -> None:
    assert not lock.is_locked(places)
    places.pid_file.write_text(str(os.getpid()))
    assert not lock.is_locked(places)
    assert lock.find_holder(places) is None


def test_the_holder_is_found_and_signalled(places: Places, holder: subprocess.Popen[bytes]) -> None:
    assert lock.is_locked(places)
    found = lock.find_holder(places)
    assert found is not None
    assert found.pid == holder.pid
    assert lock.send(found, signal.SIGTERM)
    assert lock.wait_until_free(places, 5)
    holder.wait()
    assert not lock.send(found, signal.SIGTERM)
    assert lock.find_holder(places) is None


@pytest.mark.parametrize("holder", ["1", "0", "garbage", "our own", "99999999999"], indirect=True)
def test_a_wrong_pid_in_the_file_is_never_signalled(
    places: Places, holder: subprocess.Popen[bytes]
) -> None:
    """The kernel's lock table knows the holder; a stranger's pid in the file is left alone."""
    found = lock.find_holder(places)
    assert found is None or found.pid == holder.pid


def test_a_reused_pid_is_not_signalled(places: Places, holder: subprocess.Popen[bytes]) -> None:
    found = lock.find_holder(places)
    assert found is not None
    assert not lock.send(lock.Holder(found.pid, found.start + 1), signal.SIGKILL)
    assert holder.poll() is None


def test_a_stopped_holder_is_seen(places: Places, holder: subprocess.Popen[bytes]) -> None:
    found = lock.find_holder(places)
    assert found is not None
    assert not lock.is_frozen(found)
    os.kill(holder.pid, signal.SIGSTOP)
    eventually(lambda: lock.is_frozen(found))


def test_looking_does_not_keep_the_lock(places: Places, tmp_path: Path) -> None:
    places.pid_file.write_text("")
    assert not lock.is_locked(places)
    with places.pid_file.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
