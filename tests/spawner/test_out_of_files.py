"""Without a descriptor left, git and references say so: nothing is taken for not being there."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from spawner_support import Desk

from swarm.coordinator.hubs import Hubs, RepoSettings
from swarm.errors import GitError
from swarm.spawner.git import git, try_git
from swarm.spawner.hub import branch_tip
from swarm.spawner.refs import all_refs, read_ref

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Only so many more can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(fd) for fd in os.listdir("/proc/self/fd"))
    held = [os.dup(0) for _ in range(count + 3)]
    try:
        top = max([highest, *held]) + 1
        fill = [os.dup(0) for _ in range(top - len(os.listdir("/proc/self/fd")))]
        held += fill
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + 1, hard))
        for _ in range(count):
            os.close(held.pop(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in held:
            os.close(fd)


@pytest.mark.parametrize("left", range(5))
def test_git_that_cannot_be_started_is_an_error_and_leaks_nothing(desk: Desk, left: int) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with descriptors_left(left), pytest.raises(GitError, match="cannot be started"):
        try_git(git(desk.hub.path, "rev-parse", "HEAD"))
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    "read",
    [
        lambda desk: read_ref(desk.hub.path, "refs/heads/main"),
        lambda desk: all_refs(desk.hub.path),
        lambda desk: branch_tip(desk.hub.path, "main"),
    ],
    ids=["one", "all", "branch"],
)
def test_a_reference_that_cannot_be_read_is_not_one_that_is_not_there(
    desk: Desk, read: Callable[[Desk], object]
) -> None:
    assert read(desk)
    with descriptors_left(0), pytest.raises(GitError, match="cannot be read"):
        read(desk)


def test_the_coordinator_asks_git_then_and_does_not_begin_anew(desk: Desk) -> None:
    hubs = Hubs(desk.root / "hub", RepoSettings(source=str(desk.source)))
    work = hubs.with_git(None, desk.branch)
    assert hubs.at_once(None, desk.branch) == work
    with descriptors_left(0):
        assert hubs.at_once(None, desk.branch) is None
