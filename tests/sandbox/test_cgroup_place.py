"""Where cgroups can be made is decided from two texts of /proc and from what can be written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from swarm.sandbox import cgroup_place
from swarm.sandbox.cgroup_place import LEAF, NOWHERE, Own, Place, decide, own_directories
from swarm.sandbox.scope import call, own_scope

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

# Recorded: Fedora 40 in a systemd service with Delegate=yes; Debian 12 over ssh; Ubuntu 18.04
# (v1, co-mounted cpu); Debian 10 (hybrid); docker on a v1 and on a v2 host.
V2_MOUNT = (
    "25 1 0:22 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
    "31 25 0:27 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 "
    "rw,nsdelegate,memory_recursiveprot\n"
)
V1_MOUNTS = (
    "33 24 0:29 / /sys/fs/cgroup/systemd rw,nosuid shared:9 - cgroup cgroup rw,xattr,name=systemd\n"
    "36 24 0:32 / /sys/fs/cgroup/memory rw,nosuid,relatime shared:16 - cgroup cgroup rw,memory\n"
    "37 24 0:33 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:17 - cgroup cgroup rw,cpu,cpuacct\n"
    "40 24 0:36 / /sys/fs/cgroup/pids rw,relatime shared:20 - cgroup cgroup rw,pids\n"
    "41 24 0:37 / /sys/fs/cgroup/freezer rw,relatime shared:21 - cgroup cgroup rw,freezer\n"
)
HYBRID_MOUNTS = V1_MOUNTS + (
    "32 24 0:28 / /sys/fs/cgroup/unified rw,nosuid shared:8 - cgroup2 cgroup2 rw,nsdelegate\n"
)
V1 = (
    "12:pids:/user.slice/user-1000.slice/session-2.scope\n11:freezer:/\n"
    "5:cpu,cpuacct:/user.slice\n4:memory:/user.slice\n"
    "1:name=systemd:/user.slice/user-1000.slice/session-2.scope\n"
)
SERVICE = "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/swarm.service"


def test_v2_delegated() -> None:
    own = own_directories(f"0::{SERVICE.removeprefix('/sys/fs/cgroup')}\n", V2_MOUNT)
    assert own == Own(SERVICE)
    place = decide(own, {SERVICE}, {SERVICE: "cpu io memory pids\n"})
    assert place == Place(2, dict.fromkeys(("unified", "memory", "pids", "cpu"), SERVICE))
    assert place.enforces == ("memory", "pids", "cpu")
    assert place.limits_by == "cgroup-v2"
    assert place.folders("h1")["memory"] == f"{SERVICE}/agentctl-h1"


def test_v2_once_moved_into_the_leaf() -> None:
    """As after an upgrade in place, and as every daemon sees it."""
    own = own_directories(f"0::{SERVICE.removeprefix('/sys/fs/cgroup')}/{LEAF}\n", V2_MOUNT)
    place = decide(own, {SERVICE, f"{SERVICE}/{LEAF}"}, {SERVICE: "memory pids"})
    assert place.bases["unified"] == SERVICE
    assert place.enforces == ("memory", "pids")


def test_v2_of_a_person_is_not_theirs_before_systemd_gave_them_a_scope() -> None:
    session = "/sys/fs/cgroup/user.slice/user-1000.slice/session-3.scope"
    own = own_directories("0::/user.slice/user-1000.slice/session-3.scope\n", V2_MOUNT)
    assert own.unified == session
    assert decide(own, set(), {session: "cpu memory pids"}) == NOWHERE


def test_v1() -> None:
    own = own_directories(V1, V1_MOUNTS)
    assert own.unified == ""
    memory, cpu = "/sys/fs/cgroup/memory/user.slice", "/sys/fs/cgroup/cpu,cpuacct/user.slice"
    assert own.v1["memory"] == memory
    assert own.v1["cpu"] == cpu
    assert own.v1["freezer"] == "/sys/fs/cgroup/freezer"
    everything = decide(own, set(own.v1.values()), {})
    assert everything.version == 1
    assert list(everything.bases) == ["memory", "pids", "cpu", "freezer"]
    assert everything.limits_by == "cgroup-v1"
    assert everything.folders("h1")["freezer"] == "/sys/fs/cgroup/freezer/agentctl-h1"
    part = decide(own, {cpu}, {})
    assert part.enforces == ("cpu",)
    assert part.limits_by == "sampling", "memory is kept by nobody else"


def test_hybrid_uses_v1_for_its_controllers() -> None:
    text = f"{V1}0::/user.slice/user-1000.slice/session-2.scope\n"
    own = own_directories(text, HYBRID_MOUNTS)
    assert own.unified.startswith("/sys/fs/cgroup/unified/")
    writable = {own.unified, *own.v1.values()}
    assert decide(own, writable, {own.unified: ""}).version == 1
    bare = decide(own, {own.unified}, {own.unified: ""})
    assert (bare.version, bare.enforces, bare.limits_by) == (2, (), "sampling")


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "sees"),
    [
        # v1 host, no namespace: the mount shows only the container's own part
        (
            "4:memory:/docker/0b9\n",
            "9 8 0:30 /docker/0b9 /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory\n",
            Own("", {"memory": "/sys/fs/cgroup/memory"}),
        ),
        # v2 host, cgroup namespace
        ("0::/\n", "9 8 0:27 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n", Own("/sys/fs/cgroup")),
        # of the host's, outside of what is mounted
        ("0::/../../init.scope\n", "9 8 0:27 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n", Own()),
        ("4:memory:/a\n", "9 8 0:3 /b /x ro - cgroup cgroup rw,memory\n", Own()),
        # a mount point with a space, and lines that are none
        ("0::/\n", "9 8 0:27 / /a\\040b rw - cgroup2 cgroup rw\nnonsense\n\n", Own("/a b")),
        ("", "", Own()),
        ("nonsense\n::\n", V2_MOUNT, Own()),
    ],
)
def test_containers_and_oddities(cgroup: str, mountinfo: str, sees: Own) -> None:
    own = own_directories(cgroup, mountinfo)
    assert own == sees
    assert decide(own, set(), {own.unified: "memory pids"}) == NOWHERE, "nothing can be written"


def test_mutant_a_decision_that_forgets_what_is_writable_is_caught() -> None:
    """Planted bug: everything is thought to be ours."""
    own = own_directories("0::/user.slice/session-3.scope\n", V2_MOUNT)
    thought = decide(own, {own.unified}, {own.unified: "memory"})
    assert thought.version == 2
    assert decide(own, frozenset(), {own.unified: "memory"}) != thought


def test_what_is_found_here_works_and_leaves_nothing() -> None:
    place = cgroup_place.find()
    if not place.version:
        pytest.skip("no cgroup can be made here: neither v2 nor v1 is writable for this user")
    left = [
        name
        for base in place.bases.values()
        for name in os.listdir(base)
        if name.startswith(f"agentctl-try-{os.getpid()}")
    ]
    assert not left


def test_a_place_that_does_not_work_is_none(tmp_path: Path) -> None:
    """It is tried: what can be written need not be a cgroup."""
    assert cgroup_place.works(Place(1, {"memory": str(tmp_path)})) == NOWHERE
    assert list(tmp_path.iterdir()) == []


def test_controllers_are_given_from_a_leaf(tmp_path: Path) -> None:
    """v2, against files like the kernel's: we move first, then the sessions' get controllers."""
    (tmp_path / "cgroup.type").write_text("domain\n")
    (tmp_path / "cgroup.subtree_control").write_text("")
    (tmp_path / "cgroup.procs").write_text("")
    (tmp_path / LEAF).mkdir()
    (tmp_path / LEAF / "cgroup.procs").write_text("")
    base = str(tmp_path)
    place = Place(2, {"unified": base, "memory": base, "pids": base})
    assert cgroup_place._spread(place, base)
    assert (tmp_path / LEAF / "cgroup.procs").read_text() == str(os.getpid())
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory +pids"


def test_controllers_that_are_refused_undo_the_move(tmp_path: Path) -> None:
    (tmp_path / "cgroup.type").write_text("domain\n")
    (tmp_path / "cgroup.procs").write_text("")
    (tmp_path / "cgroup.subtree_control").symlink_to("/proc/version")  # which nobody can write
    base = str(tmp_path)
    assert not cgroup_place._spread(Place(2, {"unified": base, "memory": base}), base)
    assert (tmp_path / "cgroup.procs").read_text() == str(os.getpid())


def test_systemd_is_asked_only_where_it_runs(tmp_path: Path) -> None:
    assert not own_scope({}, os.getpid())
    assert not own_scope({"XDG_RUNTIME_DIR": str(tmp_path)}, os.getpid())
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd" / "private").touch()
    nowhere = {"XDG_RUNTIME_DIR": str(tmp_path), "PATH": str(tmp_path)}
    assert not own_scope(nowhere, os.getpid()), "a machine without busctl loses nothing"


def test_a_manager_that_says_yes_and_does_nothing_is_not_waited_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd" / "private").touch()
    busctl = tmp_path / "busctl"
    busctl.write_text('#!/bin/sh\necho "$@" > "$XDG_RUNTIME_DIR/asked"\n')
    busctl.chmod(0o755)
    monkeypatch.setattr("swarm.sandbox.scope._MOVE_SECONDS", 0.05)
    environ = {"XDG_RUNTIME_DIR": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert not own_scope(environ, 4711)
    assert (tmp_path / "asked").read_text().split() == list(
        " ".join(call("agentctl-4711.scope", 4711)[1:]).split()
    )
