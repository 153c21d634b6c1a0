"""A check that would use up the machine is ended alone, by a cgroup or by looking at its tree."""

from __future__ import annotations

import os
import shlex
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from landing_support import HOME_ID, World
from tests_support import eventually

from swarm.core.model import RemarkKind
from swarm.landing import bounds
from swarm.landing.client import Lander
from swarm.landing.model import Job, Landed, SentBack
from swarm.sandbox import cgroup_place, cgroups, limited, oom
from swarm.sandbox.cgroups import Limits

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

EATER = (
    "import time\nkept = []\nwhile True:\n"
    " if len(kept) < 200: kept.append(b'x' * (4 << 20))\n time.sleep(0.005)  # {word}\n"
)
"""No more than 800 MB, so that a limit that is not kept costs the test and not the machine."""


@pytest.fixture
def folders() -> Iterator[dict[str, str]]:
    """A home's cgroups that limit memory, in the real hierarchy of this machine."""
    found = cgroup_place.find()
    if "memory" not in found.bases:
        pytest.skip("no cgroup that limits memory can be made here")
    made = found.folders(f"test{uuid.uuid4().hex[:12]}")
    yield made
    cgroups.sweep(made)


def eats(word: str, *, detached: bool = False) -> str:
    """A check that takes memory without end, itself or by a process that has left it."""
    eater = f"python3 -c {shlex.quote(EATER.format(word=word))}"
    if not detached:
        return f"echo begun; {eater}"
    return f"echo begun; (cd / && env -i setsid {eater} >/dev/null 2>&1 &); tail -f /dev/null"


def forks(word: str) -> str:
    """A check that starts more processes than it may."""
    return (
        f"echo begun; for i in $(seq 60); do tail -f /dev/null {word} >/dev/null 2>&1 & done; wait"
    )


def carrying(word: str) -> list[str]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if word.encode() in Path(f"/proc/{name}/cmdline").read_bytes():
                found.append(name)
        except OSError:
            continue
    return found


def job(world: World, task: str, script: str, **more: object) -> Job:
    tip = world.branch(task, {f"file-{task}": "1\n"})
    return world.job(task, tip, checks=(script,), check_seconds=60.0, **more)


def sent_back(world: World, one: Job, word: str, limit: str) -> None:
    back = world.sent_back(one)
    assert back.kind is RemarkKind.CHECK
    assert f"was stopped: it used more than {limit}." in back.text
    words = back.text.rpartition("Its last output:")[2].split()
    assert words[0] == "begun", "with its last words, as a failing check"
    eventually(lambda: not carrying(word))


@pytest.mark.parametrize("detached", [False, True])
def test_without_a_cgroup_memory_is_looked_at(world: World, word: str, detached: bool) -> None:
    one = job(world, "t-1", eats(word, detached=detached), memory_mb=96)
    sent_back(world, one, word, "limits.memory_mb: 96 MB")
    world.landed(job(world, "t-2", "true", memory_mb=96))


def test_without_a_cgroup_processes_are_counted(world: World, word: str) -> None:
    one = job(world, "t-1", forks(word), max_processes=20)
    sent_back(world, one, word, "limits.max_processes: 20")


def test_a_cgroup_keeps_memory_between_two_looks(
    world: World, word: str, folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "LOOK_SECONDS", 3600.0)
    left = cgroups.make(folders, "landing-t-1", 1, Limits(1))  # by a lander that was killed
    one = job(world, "t-1", eats(word), memory_mb=96, cgroups=folders)
    sent_back(world, one, word, "limits.memory_mb: 96 MB")
    assert not os.path.exists(left.path), "with the check its cgroup is gone"
    tolerant = f"{eats(word)} || true"
    sent_back(world, job(world, "t-2", tolerant, memory_mb=96, cgroups=folders), word,
              "limits.memory_mb: 96 MB")  # fmt: skip


def test_in_a_cgroup_processes_are_counted_too(
    world: World, word: str, folders: dict[str, str]
) -> None:
    one = job(world, "t-1", forks(word), max_processes=20, cgroups=folders)
    sent_back(world, one, word, "limits.max_processes: 20")
    world.landed(job(world, "t-2", "true", max_processes=20, cgroups=folders))
    assert not cgroups.leftovers(folders)


def test_a_cgroup_that_cannot_be_made_costs_the_limit_not_the_landing(
    world: World, word: str, capfd: pytest.CaptureFixture[str]
) -> None:
    nowhere = {"memory": "/proc/agentctl-nowhere"}
    world.landed(job(world, "t-1", "true", cgroups=nowhere, max_processes=20))
    assert "a check of t-1: no cgroup can be made" in capfd.readouterr().err
    one = job(world, "t-2", forks(word), max_processes=20, cgroups=nowhere)
    sent_back(world, one, word, "limits.max_processes: 20")


def test_a_check_gives_way_and_the_kernel_takes_it_first(world: World) -> None:
    """Also without any limit of memory; and by priority where processor time is not capped."""
    gives_way = min(19, os.getpriority(os.PRIO_PROCESS, 0) + limited.UNCAPPED_NICE)
    script = (
        f"test $(cat /proc/self/oom_score_adj) -ge {min(1000, oom.score() + oom.SESSION)}"
        f" && test $(nice) -eq {gives_way}"
    )
    world.landed(job(world, "t-1", script, cpu_percent=50))


async def test_only_the_check_dies_and_its_lander_goes_on(world: World, word: str) -> None:
    lander = Lander(HOME_ID)
    try:
        back = await lander.land(job(world, "t-1", eats(word), memory_mb=96))
        assert isinstance(back, SentBack)
        first = lander._lines[world.hub].process
        assert isinstance(await lander.land(job(world, "t-2", "true", memory_mb=96)), Landed)
        assert lander._lines[world.hub].process is first
    finally:
        await lander.close()
