"""A session over the limits of its cgroup, as its daemon, its supervisor and the report have it."""

from __future__ import annotations

import asyncio
import os
import select
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from daemon_bench import Bench, channel, daemon, git, start_work
from daemon_values import active_daemon, assign, grant, idle_daemon, of, told
from tests_support import eventually

from swarm.core.fleet_effects import CleanTree
from swarm.core.model import Containment, Outcome
from swarm.daemon import launching, machine
from swarm.daemon.launching import Means, limits_of
from swarm.daemon.session import Session
from swarm.daemon.state import (
    Ending,
    Job,
    Kill,
    Secure,
    SessionBegan,
    SessionOver,
    SessionOverLimit,
    Terminate,
)
from swarm.sandbox import cgroup_place, cgroups, limited
from swarm.sandbox.cgroups import Limits
from swarm.spawner.workspace import Brief, Workspace, make_workspace
from swarm.supervisor import cleaning, startup
from swarm.wire import lifeline

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
OVER = SessionOverLimit("used more than limits.memory_mb: 64 MB")


@pytest.fixture
def folders() -> Iterator[dict[str, str]]:
    found = cgroup_place.find()
    if "memory" not in found.bases:
        pytest.skip("no cgroup that limits memory can be made here")
    made = found.folders(f"test{uuid.uuid4().hex[:12]}")
    yield made
    cgroups.sweep(made)


# -- the machine -----------------------------------------------------------------------------------


def test_over_a_limit_it_is_killed_at_once_and_failed() -> None:
    daemon_, effects = machine.step(active_daemon(), OVER, 5.0)
    assert isinstance(daemon_.phase, Ending)
    assert of(effects, Kill)
    assert not of(effects, Terminate)
    daemon_, effects = machine.step(daemon_, SessionOver(), 6.0)
    (secure,) = of(effects, Secure)
    assert (secure.ended_by, secure.reason) == (Outcome.FAILED, OVER.reason)


def test_over_a_limit_before_its_program_ran_is_failed_too() -> None:
    """Git's checkout needs memory as well."""
    daemon_ = idle_daemon()
    for event in (assign(), grant(), OVER):
        daemon_, effects = machine.step(daemon_, event, 2.0)
    assert of(effects, Kill)


def test_what_ends_already_keeps_its_reason() -> None:
    ending, _ = machine.step(active_daemon(), OVER, 5.0)
    again, effects = machine.step(ending, replace(OVER, reason="processes"), 5.1)
    assert (again, effects) == (ending, ())


def test_the_supervisor_hears_of_the_cgroup() -> None:
    daemon_ = idle_daemon()
    began = SessionBegan(101, 100, 5000, Containment.PID_NAMESPACE, 1e9, "/sys/fs/cgroup/x")
    for event in (assign(), grant(), began):
        daemon_, effects = machine.step(daemon_, event, 2.0)
    assert [line.cgroup for line in told(effects, lifeline.Started)] == ["/sys/fs/cgroup/x"]


# -- real processes --------------------------------------------------------------------------------


async def test_a_session_that_allocates_without_end_dies_with_its_children(
    place: Bench, folders: dict[str, str]
) -> None:
    """Its work so far is on its branch; the daemon waits for work again."""
    async with (
        channel(place) as seat,
        daemon(place.spec(cgroups=folders), tune=False) as boss,
    ):
        boss.tell(
            lifeline.Tuning(30.0, (place.coordinator.agent_id,), grace_seconds=30.0, memory_mb=64)
        )
        job = place.work("write half.txt half\nsetsid 600\ndaemonize 600\nalloc 4000\nhang")
        await start_work(boss, seat, job)
        started = await boss.next(lifeline.Started)
        assert started.cgroup.startswith(folders["memory"])
        ended = (await boss.next(lifeline.Ended)).finished
        assert ended.outcome is Outcome.FAILED
        assert ended.reason.startswith("used more than limits.memory_mb: 64 MB")
        assert git(place.hub, "show", f"{place.branch()}:half.txt") == "half"
        assert not os.path.exists(started.cgroup)
        await boss.next(lifeline.Idle, lambda line: boss.lines.index(line) > 2)
        assert boss.process.poll() is None


def made_workspace(place: Bench) -> Workspace:
    return make_workspace(str(place.base), "swarm-builder-001", "home1234", Brief("builder"))


@contextmanager
def launched(place: Bench, **changes: object) -> Iterator[Session]:
    """A session without a repository, ended with the block."""
    means = Means(place.spec(**changes), made_workspace(place), sandboxed=True)
    work = msgspec.structs.replace(place.work("hang"), repo=None)
    session = launching.start(means, Job(work, 1, "c" * 16), Limits(64, 50, 150))
    try:
        yield session
    finally:
        session.kill()
        pidfd = session.tree.pidfd
        assert select.select([pidfd], [], [], 10.0)[0]
        session.readable(pidfd, 0.0)
        assert session.over


def priority(session: Session) -> int:
    """Of the program; its starter has the daemon's."""
    root = session.tree.tree_pid
    children = Path(f"/proc/{root}/task/{root}/children").read_text().split()
    return max((os.getpriority(os.PRIO_PROCESS, int(pid)) for pid in children), default=-99)


def test_without_a_cgroup_it_runs_at_a_lower_priority(place: Bench) -> None:
    wanted = min(19, os.getpriority(os.PRIO_PROCESS, 0) + limited.UNCAPPED_NICE)
    with launched(place) as session:
        assert session.tree.group is None
        assert session.trouble == ""
        eventually(lambda: priority(session) == wanted)


def test_with_a_cgroup_its_limits_are_the_tunings(place: Bench, folders: dict[str, str]) -> None:
    with launched(place, cgroups=folders) as session:
        group = session.tree.group
        assert session.trouble == ""
        assert group is not None
        limit = next(
            text
            for name in ("memory.max", "memory.limit_in_bytes")
            if (text := cgroups._text(group.path, name))
        )
        assert limit == str(64 << 20)
        assert select.select([session.tree.status], [], [], 10.0)[0], "its program was started"
        if "cpu" in folders:
            assert priority(session) == os.getpriority(os.PRIO_PROCESS, 0)
    assert not os.path.exists(folders["memory"])
    tuned = lifeline.Tuning(30.0, (), memory_mb=1, cpu_percent=2, max_processes=3)
    assert limits_of(tuned) == Limits(memory_mb=1, processes=3, cpu_percent=2)


def test_a_cgroup_that_cannot_be_made_costs_the_limits_not_the_session(place: Bench) -> None:
    with launched(place, cgroups={"memory": "/proc/agentctl-nowhere"}) as session:
        assert session.tree.group is None
        assert "no cgroup can be made" in session.trouble


def test_a_cgroup_that_cannot_be_entered_is_left_behind(
    place: Bench, folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_words: object, **_more: object) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(cgroups, "join", refuse)
    v1 = {name: path for name, path in folders.items() if name != "unified"}
    with launched(place, cgroups=v1) as session:
        assert session.tree.group is None
        assert "busy" in session.trouble
    assert not cgroups.leftovers(folders)


# -- the supervisor --------------------------------------------------------------------------------


async def test_a_dead_daemons_cgroup_is_emptied_and_removed(
    folders: dict[str, str], tmp_path: Path
) -> None:
    """It was killed before it could say what it had started; nothing else finds the process."""
    group = cgroups.make(folders, "t-1", 7, Limits())
    sleeper = os.posix_spawn("/bin/sleep", ["sleep", "600"], {})
    for path in group.directories:
        Path(path, "cgroup.procs").write_text(str(sleeper))
    effect = CleanTree("swarm-builder-001", "t-1", 7, None)
    cleaned = cleaning.clean(effect, "home1234", str(tmp_path), folders)
    reaped = asyncio.get_running_loop().run_in_executor(None, os.waitpid, sleeper, 0)
    assert (await cleaned).problem == ""
    assert os.waitstatus_to_exitcode((await reaped)[1]) == -9
    assert not os.path.exists(group.path)


def test_leftovers_of_another_place_are_swept_once(folders: dict[str, str], tmp_path: Path) -> None:
    """The swarm was started from another login; what its file says is not believed blindly."""
    home_id = os.path.basename(folders["memory"]).removeprefix(cgroups.PREFIX)
    elsewhere = {name: f"{os.path.dirname(path)}/agentctl-x" for name, path in folders.items()}
    assert startup.sweep_elsewhere(tmp_path, home_id, folders) == 0
    group = cgroups.make(folders, "t-1", 1, Limits())
    assert startup.sweep_elsewhere(tmp_path, home_id, folders) == 0
    assert os.path.exists(group.path), "the same place is swept by itself"
    startup.sweep_elsewhere(tmp_path, home_id, elsewhere)
    assert not os.path.exists(group.path)
    kept = tmp_path / "cgroups.json"
    assert msgspec.json.decode(kept.read_bytes()) == elsewhere
    other = cgroups.make(elsewhere, "t-1", 1, Limits())
    startup.sweep_elsewhere(tmp_path, home_id, {})
    assert os.path.exists(other.path), "of another home"
    cgroups.sweep(elsewhere)


def test_leftovers_are_swept_before_anything_starts(
    folders: dict[str, str], tmp_path: Path
) -> None:
    group = cgroups.make(folders, "t-1", 1, Limits())
    assert startup.sweep_leftovers(tmp_path, uuid.uuid4().hex, folders) == (0, 0)
    assert not os.path.exists(group.path)
