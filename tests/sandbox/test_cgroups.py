"""A session's cgroup: its limits, what the kernel tells of them, and that it goes away."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests_support import eventually

from swarm.core.model import Containment
from swarm.errors import SessionError
from swarm.sandbox import cgroup_place, cgroups, trees
from swarm.sandbox.alarms import Alarm
from swarm.sandbox.cgroups import Group, Limits
from swarm.sandbox.launch import Command, Confinement, Tree, kill, launch, reap
from swarm.sandbox.run import run
from swarm.sandbox.trees import TreeId, destroy, start_time, survivors

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

ENV = {"PATH": os.environ["PATH"]}
EAT = "import time\nheld = []\nwhile True: held.append(bytearray(1 << 20))\n"
V2_FILES = (
    "cgroup.procs", "cgroup.kill", "cgroup.subtree_control", "memory.max", "memory.swap.max",
    "memory.oom.group", "memory.events", "pids.max", "pids.events", "cpu.max",
)  # fmt: skip


def controlled(folders: dict[str, str], *controllers: str) -> None:
    """Skip where this machine does not keep a limit in the kernel."""
    for one in controllers:
        if one not in folders:
            pytest.skip(f"the kernel keeps no limit of {one} here: its controller is not writable")


@contextmanager
def started(command: Command, confinement: Confinement) -> Iterator[Tree]:
    tree = launch(command, [], confinement)
    try:
        yield tree
    finally:
        kill(tree)
        assert select.select([tree.pidfd], [], [], 10.0)[0]
        reap(tree)


def shell(script: str, *words: str) -> Command:
    return Command(("sh", "-c", script, "sh", *words), "/", ENV)


# -- v2, against files like the kernel's -----------------------------------------------------------


@pytest.fixture
def v2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A directory in which a new one has a cgroup's files, and goes away with them."""
    mkdir, rmdir = os.mkdir, os.rmdir

    def make(path: str, mode: int = 0o777) -> None:
        mkdir(path, mode)
        if str(path).startswith(str(tmp_path)):
            for name in V2_FILES:
                Path(path, name).touch()

    def remove(path: str) -> None:
        if str(path).startswith(str(tmp_path)):
            if any(entry.is_dir() for entry in os.scandir(path)):
                raise OSError(39, "Directory not empty")
            for name in os.listdir(path):
                os.unlink(f"{path}/{name}")
        rmdir(path)

    monkeypatch.setattr(os, "mkdir", make)
    monkeypatch.setattr(os, "rmdir", remove)
    home = f"{tmp_path}/agentctl-h1"
    return {"unified": home, "memory": home, "pids": home, "cpu": home}


def test_v2_limits_are_written_as_the_kernel_wants_them(v2: dict[str, str]) -> None:
    group = cgroups.make(v2, "t-1", 3, Limits(512, 100, 150))
    path = Path(group.path)
    assert path == Path(v2["unified"], "t-1.3")
    assert (path / "memory.max").read_text() == str(512 << 20)
    assert (path / "memory.swap.max").read_text() == "0"
    assert (path / "memory.oom.group").read_text() == "1"
    assert (path / "pids.max").read_text() == str(100 * cgroups.THREADS_A_PROCESS)
    assert (path / "cpu.max").read_text() == "150000 100000"
    assert cgroups.remove(group)
    assert not Path(v2["unified"]).exists(), "the last session's end takes the home's along"


def test_v2_tells_of_a_limit_by_an_event(v2: dict[str, str]) -> None:
    group = cgroups.make(v2, "t-1", 1, Limits(512))
    alarm = Alarm(group)
    try:
        (fd,) = alarm.descriptors
        assert not select.select([fd], [], [], 0)[0]
        events = Path(group.path, "memory.events")
        events.write_text("low 0\nhigh 0\nmax 31\noom 0\noom_kill 1\n")
        assert select.select([fd], [], [], 5)[0]
        assert alarm.look(fd) == "", "the machine ran out of memory, not the session"
        assert not select.select([fd], [], [], 0)[0], "what was heard is not heard again"
        events.write_text("low 0\nhigh 0\nmax 31\noom 1\noom_kill 1\n")
        assert select.select([fd], [], [], 5)[0]
        assert alarm.look(fd) == "memory"
    finally:
        alarm.close()
        cgroups.remove(group)


def test_v2_kills_by_one_word(v2: dict[str, str]) -> None:
    group = cgroups.make(v2, "t-1", 1, Limits())
    Path(group.path, "cgroup.procs").write_text(f"{os.getpid()}\n")
    assert cgroups.kill(group) == 1
    assert Path(group.path, "cgroup.kill").read_text() == "1"
    Path(group.path, "cgroup.procs").write_text("")
    cgroups.make_cage(group)
    Path(group.cage, "cgroup.procs").write_text("1\n")
    assert cgroups.kill(group, spare=[os.getpid()]) == 1
    assert Path(group.cage, "cgroup.kill").read_text() == "1"
    Path(group.cage, "cgroup.procs").write_text("")
    assert cgroups.remove(group)


def test_names_from_outside_stay_inside(v2: dict[str, str]) -> None:
    for task in ("../../x", "a/b", "..", ".", "", "x" * 500, "ä\0\n"):
        name = os.path.relpath(cgroups.named(v2, task, 1).path, v2["unified"])
        assert "/" not in name
        assert not name.startswith(".")
        assert len(name) <= 200


def test_what_is_no_homes_is_never_swept(tmp_path: Path) -> None:
    (tmp_path / "system.slice" / "sshd").mkdir(parents=True)
    with pytest.raises(ValueError, match="no home's cgroup"):
        cgroups.sweep({"memory": str(tmp_path / "system.slice")})
    assert (tmp_path / "system.slice" / "sshd").exists()


# -- the real ones of this machine -----------------------------------------------------------------


def test_a_session_that_eats_memory_dies_alone(folders: dict[str, str]) -> None:
    """By the kernel, with an event for its daemon; the one beside it goes on."""
    controlled(folders, "memory")
    small = cgroups.make(folders, "t-1", 1, Limits(memory_mb=48))
    beside = cgroups.make(folders, "t-2", 1, Limits(memory_mb=48))
    alarm = Alarm(small)
    try:
        child = "sh -c 'while :; do sleep 1; done' & exec /usr/bin/python3 -I -S -c \"$1\""
        with (
            started(shell("echo ok; exec sleep 60"), Confinement(group=beside)) as other,
            started(shell(child, EAT), Confinement(group=small, oom_score=500)) as tree,
        ):
            ready = select.select(alarm.descriptors, [], [], 20)[0]
            assert [one for fd in ready if (one := alarm.look(fd))] == ["memory"]
            kill(tree)  # as the daemon does: v1 took one process of several
            assert select.select([tree.pidfd], [], [], 10.0)[0]
            eventually(lambda: not cgroups.members(small))
            assert not select.select([other.pidfd], [], [], 0)[0]
            assert cgroups.over(beside) == ""
            assert len(cgroups.members(beside)) >= 2
    finally:
        alarm.close()
    assert not [path for path in small.directories if os.path.exists(path)]


def test_a_session_that_forks_without_end_is_told(folders: dict[str, str]) -> None:
    controlled(folders, "pids")
    group = cgroups.make(folders, "t-1", 1, Limits(processes=10))
    forks = shell("trap 'exec sleep 60' EXIT; for i in $(seq 200); do sleep 60 & done; wait")
    with started(forks, Confinement(group=group)):
        eventually(lambda: cgroups.over(group) == "processes", within=20)
        assert len(cgroups.members(group)) <= 10 * cgroups.THREADS_A_PROCESS


def test_processor_time_is_capped_in_the_kernel(folders: dict[str, str]) -> None:
    controlled(folders, "cpu")
    group = cgroups.make(folders, "t-1", 1, Limits(cpu_percent=20))
    with started(shell("while :; do :; done"), Confinement(group=group)):
        stat = Path(group.folder("cpu"), "cpu.stat")
        eventually(lambda: "nr_throttled 0\n" not in stat.read_text(), within=10)


def test_v2_processes_are_born_in_their_group() -> None:
    """On the real v2 hierarchy, where there is one: it needs no controllers for that."""
    own, writable, _ = cgroup_place.look()
    base = cgroup_place.base_of(own.unified)
    if base not in writable or os.path.exists(f"{base}/cgroup.type"):
        pytest.skip("no v2 hierarchy in which processes and cgroups may be side by side")
    home = f"{base}/agentctl-test{os.getpid()}"
    folders = {"unified": home}
    group = cgroups.make(folders, "t-1", 1, Limits())
    show = shell("cat /proc/self/cgroup; sh -c 'exit 3'; echo $?; kill -TERM $$")
    done = run(show, Confinement(group=group), prelude=[show, shell("true")][1:])
    assert f"0::{group.path.removeprefix(base)}" in done.out.decode() or group.path in str(done)
    assert done.out.decode().endswith("3\n")
    assert done.exit == -signal.SIGTERM
    assert not os.path.exists(home)
    tree_of = cgroups.make(folders, "t-1", 2, Limits())
    escape = "(env -i setsid sleep 60 >/dev/null 2>&1 &) ; exec sleep 60"
    with started(shell(escape), Confinement(Containment.CGROUP, group=tree_of)) as tree:
        eventually(lambda: len(cgroups.members(tree_of)) >= 3)
        assert tree.containment is Containment.CGROUP
        assert cgroups.kill(tree_of) >= 3
        assert select.select([tree.pidfd], [], [], 10.0)[0]
    assert cgroups.sweep(folders) == []
    assert not os.path.exists(home)


def test_everything_of_a_session_is_in_its_group(folders: dict[str, str]) -> None:
    """From the first step of the prelude on."""
    group = cgroups.make(folders, "t-1", 1, Limits())
    show = shell("cat /proc/self/cgroup")
    done = run(show, Confinement(group=group), prelude=[show])
    for text in (done.out.decode(), done.error):
        assert text.count("/t-1.1") >= len(set(group.folders)) - 1, text
    assert not os.path.exists(group.path)


def names(pids: list[int]) -> list[str]:
    """What they run; who is just gone is left out."""
    found = []
    for pid in pids:
        with suppress(OSError):
            found.append(Path(f"/proc/{pid}/comm").read_text().strip())
    return found


def test_what_left_its_parents_and_its_marker_is_found(
    folders: dict[str, str], token: str, carrying: Callable[[], list[int]]
) -> None:
    """What gets away by descent and marker does not get out of a cgroup."""
    group = cgroups.make(folders, "t-1", 1, Limits())
    script = '(env -i setsid tail -f /dev/null "$1" >/dev/null 2>&1 &) ; exec sleep 60'
    tree = launch(shell(script, token), [], Confinement(Containment.CGROUP, group=group))
    eventually(lambda: names(carrying()) == ["tail"])  # the shell and what led to it are others now
    for pid in (tree.pid, *trees.descendants([tree.pid])):
        if pid not in carrying():
            with suppress(ProcessLookupError):  # the keeper's end takes its children along
                os.kill(pid, signal.SIGKILL)  # the keeper too: it cannot clean up
    os.waitpid(tree.pid, 0)
    for fd in (tree.pidfd, tree.stdout, tree.stderr, tree.status):
        os.close(fd)
    assert set(carrying()) <= set(survivors(tree.id))
    blind = TreeId(tree.tree_pid, tree.tree_start, Containment.DESCENT, tree.marker or "none")
    assert not survivors(blind), "the mutant: without the group it is not found"

    def gone() -> bool:
        destroy(tree.id)
        return not survivors(tree.id)

    eventually(gone)
    assert not carrying()
    assert cgroups.remove(group)


def test_leftovers_of_this_home_are_swept_and_of_no_other(folders: dict[str, str]) -> None:
    theirs = {name: f"{home}x" for name, home in folders.items()}
    ours = cgroups.make(folders, "t-1", 1, Limits())
    other = cgroups.make(theirs, "t-1", 1, Limits())
    sleepers = [_sleeper(ours), _sleeper(other)]
    try:
        assert cgroups.sweep(folders) == [sleepers[0]]
        assert os.waitpid(sleepers[0], 0)[1] == signal.SIGKILL
        assert not os.path.exists(folders[next(iter(folders))]) or cgroups.sweep(folders) == []
        assert cgroups.members(other) == [sleepers[1]]
    finally:
        os.kill(sleepers[1], signal.SIGKILL)
        os.waitpid(sleepers[1], 0)
        cgroups.sweep(theirs)
    assert not os.path.exists(other.path)


def test_a_group_that_cannot_be_made_leaves_nothing(folders: dict[str, str]) -> None:
    controlled(folders, "pids")
    with pytest.raises(OSError, match="Invalid argument"):
        cgroups.make(folders, "t-1", 1, Limits(processes=-1))
    assert not cgroups.leftovers(folders)


def test_without_a_group_that_rung_is_an_error() -> None:
    with pytest.raises(SessionError, match="no cgroup"):
        launch(shell("true"), [], Confinement(Containment.CGROUP))


def test_a_group_that_is_gone_is_an_error_and_starts_nothing(folders: dict[str, str]) -> None:
    group = cgroups.named(folders, "t-9", 9)
    with pytest.raises(SessionError, match="cannot contain"):
        launch(shell("true"), [], Confinement(group=group))


def test_a_process_of_another_start_time_is_never_signalled() -> None:
    sleeper = _sleeper(None)
    start = start_time(sleeper)
    assert start is not None
    assert not trees.send(sleeper, start - 1, signal.SIGKILL)
    assert os.waitpid(sleeper, os.WNOHANG) == (0, 0)
    assert trees.send(sleeper, start, signal.SIGKILL)
    assert os.waitpid(sleeper, 0)[1] == signal.SIGKILL
    assert not trees.send(sleeper, start, signal.SIGKILL)


def _sleeper(group: Group | None) -> int:
    """A child of the test, in the group by the time this returns."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if group is not None:
                cgroups.join(group)
            os.write(writing, b"x")
            while True:
                signal.pause()
        finally:
            os._exit(1)
    os.close(writing)
    assert os.read(reading, 1) == b"x"
    os.close(reading)
    return pid
