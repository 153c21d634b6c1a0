"""What is told of this machine is what launching does; and the package stays small."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from swarm.core.model import Containment
from swarm.sandbox import cgroup_place, cgroups, keeper, kernel, probe
from swarm.sandbox.cgroups import Limits
from swarm.sandbox.launch import Command, Confinement, kill, launch, reap
from swarm.sandbox.probe import Capabilities, what_holds

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def test_the_probe_says_what_launch_does() -> None:
    holds = what_holds()
    tree = launch(Command(("true",), "/", {"PATH": os.environ["PATH"]}), [], Confinement())
    kill(tree)
    reap(tree)
    assert tree.containment is holds.containment
    assert holds.landlock_abi == kernel.landlock_abi()


def test_without_namespaces_the_last_rung_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(flags: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(keeper.kernel, "unshare", refuse)
    monkeypatch.setattr(probe.kernel, "landlock_abi", lambda: 0)
    holds = what_holds()
    assert holds == Capabilities(Containment.DESCENT, False, False, 0)
    assert not holds.sandboxed
    assert holds.limits_by == "sampling"
    assert holds.landlock_covers == ()
    assert len(holds.problems) == 2
    assert all("\n" not in line for line in holds.problems)


def test_without_namespaces_a_cgroup_is_the_next_rung(
    monkeypatch: pytest.MonkeyPatch, folders: dict[str, str]
) -> None:
    """What is told is what a launch does."""

    def refuse(flags: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(keeper.kernel, "unshare", refuse)
    place = cgroup_place.find()
    holds = what_holds(place)
    assert holds.containment is Containment.CGROUP
    assert holds.limits_by == place.limits_by
    group = cgroups.make(folders, "t-1", 1, Limits())
    tree = launch(Command(("true",), "/", {"PATH": "/usr/bin:/bin"}), [], Confinement(group=group))
    kill(tree)
    reap(tree)
    assert tree.containment is Containment.CGROUP


@pytest.mark.parametrize(
    ("abi", "covers"),
    [
        (0, ()),
        (1, ("files",)),
        (4, ("files", "TCP ports")),
        (6, ("files", "TCP ports", "signals", "abstract sockets")),
    ],
)
def test_what_landlock_covers_is_told_by_its_abi(abi: int, covers: tuple[str, ...]) -> None:
    assert Capabilities(Containment.PID_NAMESPACE, False, True, abi).landlock_covers == covers


def test_a_masked_proc_is_told() -> None:
    lines = Capabilities(Containment.PID_NAMESPACE, True, False, 7).problems
    assert len(lines) == 1
    assert "/proc" in lines[0]
    assert Capabilities(Containment.PID_NAMESPACE, False, True, 7).problems == ()


@pytest.mark.parametrize(
    "module",
    [
        "swarm.sandbox.launch", "swarm.sandbox.run", "swarm.sandbox.grants", "swarm.sandbox.probe",
        "swarm.sandbox.environment", "swarm.spawner.clone", "swarm.spawner.homecoming",
        "swarm.spawner.workspace", "swarm.spawner.context", "swarm.spawner.author",
    ],
)  # fmt: skip
def test_nothing_heavy_is_imported(module: str) -> None:
    """The daemon imports these: no threads, no event loop, no logging (architecture)."""
    heavy = ("subprocess", "threading", "asyncio", "logging", "shutil", "tempfile", "random",
             "multiprocessing", "concurrent", "yaml", "pathlib", "socket")  # fmt: skip
    script = f"import sys, {module}; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}; {script}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
