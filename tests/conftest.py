"""Fixtures every test may ask for, and the check that none leaves anything behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tests_support import carrying

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_GET_CHILD_SUBREAPER = 37

settings.register_profile(
    "lean", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "lean"))

for name in [n for n in os.environ if n.startswith(("AGENTCTL_", "GIT_"))]:
    del os.environ[name]
os.environ["AGENTCTL_HOME"] = "/proc/nonexistent/agentctl-home"
"""A test that forgets to name its home must fail, never touch a person's: nobody, not even root,
can make a folder there."""


def pytest_keyboard_interrupt(excinfo: pytest.ExceptionInfo[BaseException]) -> None:
    """Say where a worker was interrupted: pytest-xdist says only that it was."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        where = os.environ.get("PYTEST_CURRENT_TEST", "between two tests")
        print(f"\n{where}: {excinfo.getrepr(style='short')}", file=sys.__stderr__, flush=True)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary ``AGENTCTL_HOME``; its path is short, as a unix socket lies in it."""
    path = Path(tempfile.mkdtemp(prefix="ac-"))
    monkeypatch.setenv("AGENTCTL_HOME", str(path))
    yield path
    shutil.rmtree(path)


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    """No test leaves a file descriptor open."""
    before = _descriptors()
    yield
    leaked = {fd: what for fd, what in _descriptors().items() if fd not in before}
    leaked = {fd: w for fd, w in leaked.items() if not w.startswith(("/dev/null", "pipe:[xdist"))}
    assert not leaked, f"file descriptors left open: {leaked}"


@pytest.fixture(autouse=True)
def no_child_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test leaves a child process, living or unreaped: later tests count this one's children.

    A child left behind is ended here, so that only the test that left it fails.
    """
    before = _children()
    yield
    end = time.monotonic() + 2.0  # asyncio on Python 3.11 reaps in a thread of its own
    while (left := _children() - before) and time.monotonic() < end:
        time.sleep(0.005)
    said = [f"{pid} ({_command(pid)})" for pid in sorted(left)]
    for pid in left:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    assert not left, f"{request.node.nodeid} left child processes: {', '.join(said)}"
    assert not _adopts_orphans(), f"{request.node.nodeid} left this process a subreaper"


def _children() -> set[int]:
    """The pids of this process's children, whichever of its threads started them."""
    found: set[int] = set()
    for thread in os.listdir("/proc/self/task"):
        try:
            found.update(map(int, Path(f"/proc/self/task/{thread}/children").read_text().split()))
        except OSError:
            continue  # a thread that ended meanwhile
    return found


def _adopts_orphans() -> bool:
    """Whether orphans below this process become its children (prctl(2))."""
    answer = ctypes.c_int()
    assert _LIBC.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0) == 0
    return bool(answer.value)


def _command(pid: int) -> str:
    try:
        text = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ").strip()
    except OSError:
        text = ""
    return text[:200] or "ended, unreaped"


def _descriptors() -> dict[int, str]:
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            found[int(entry)] = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            continue  # the descriptor of the listing itself
    return found


@pytest.fixture
def word() -> Iterator[str]:
    """For the arguments of what a test starts, and of nothing else; kills who is left with it."""
    made = f"word{uuid.uuid4().hex}"
    yield made
    for pid in carrying(made):
        os.kill(pid, signal.SIGKILL)
