"""A landing killed at any point has landed or has not, and asked again it has, once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from pathlib import Path

import pytest
from landing_support import HOME_ID, PUBLISHED, World, replace_job, sleeping, source_digest
from tests_support import eventually_async

from swarm.core.model import Merge
from swarm.landing.client import Lander
from swarm.landing.land import land
from swarm.landing.model import Job, Landed
from swarm.spawner import git, moving

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

SEED = 4


def killed_at(job: Job, point: int, *, amid: bool) -> bool:
    """Land it in a child that kills itself at its git command number ``point``; whether it did.

    ``amid``: just after that command was started, else just before.
    """
    pid = os.fork()
    if pid == 0:
        try:
            begin, count = git._start, 0

            def start(*args: object) -> int:
                nonlocal count
                count += 1
                if count == point and not amid:
                    os.kill(os.getpid(), signal.SIGKILL)
                started = begin(*args)  # type: ignore[arg-type]
                if count == point:
                    os.kill(os.getpid(), signal.SIGKILL)
                return started

            git._start = start  # type: ignore[assignment]
            land(job, HOME_ID, {})
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize(("mode", "stride"), [(Merge.SQUASH, 1), (Merge.REBASE, 3)])
def test_killed_at_every_step_it_lands_exactly_once(
    world: World, mode: Merge, stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "STALE_SECONDS", 0.3)
    world.in_source("status")
    before = source_digest(world.source)
    was = world.tip
    job = world.job("t-0", was, merge=mode, publish=PUBLISHED)
    point, killed = 1 - stride, True
    while killed:
        point += stride
        name = f"t-{point}"
        base = world.branch(name, {f"f{point}": "1\n"}, base="origin/main")
        job = replace_job(job, task=name, branch=f"swarm/swarm-builder-001/{name}", commit=base)
        if mode is Merge.REBASE:  # so that there is something to replay
            move_on(world, point)
            was = world.tip
        killed = killed_at(job, point, amid=point % 2 == 0)
        after = world.tip
        came = world.landed(job)
        assert came.merged, "whatever it had come to before"
        assert after in (was, came.commit), "the old or the new, nothing else"
        assert came.published == PUBLISHED
        assert world.landed(job).commit == came.commit
        assert world.in_hub("log", "--format=%s", f"{was}..main", "--first-parent").count("\n") == 0
        assert world.show(f"f{point}") == "1"
        was = world.tip
    assert point > 8
    assert source_digest(world.source) == before
    world.in_hub("fsck", "--strict", "--connectivity-only")


def move_on(world: World, number: int) -> None:
    tree = world.in_hub("rev-parse", "main^{tree}")
    made = world.in_hub("commit-tree", "-p", world.tip, "-m", f"moved {number}", tree)
    world.in_hub("update-ref", "refs/heads/main", made)


async def test_killed_workers_land_each_job_once(world: World) -> None:
    """kill -9 at moments by seed; the client goes on with another worker, or is asked again."""
    chance = random.Random(SEED)
    lander = Lander(HOME_ID)
    jobs = [
        world.job(f"t-{n}", world.branch(f"t-{n}", {f"f{n}": "1\n"}), checks=("true",))
        for n in range(6)
    ]
    try:
        for job in jobs:
            asked = asyncio.ensure_future(lander.land(job))
            while not asked.done():
                await asyncio.wait([asked], timeout=chance.uniform(0.0, 0.5))
                line = lander._lines.get(job.hub)
                process = line.process if line else None
                if process and process.returncode is None and chance.random() < 0.7:
                    os.kill(process.pid, signal.SIGKILL)
            verdict = asked.result()
            while not isinstance(verdict, Landed):
                verdict = await lander.land(job)
    finally:
        await lander.close()
    world.nothing_left()
    told = world.log(form="%(trailers:key=Task,valueonly)")
    assert sorted(line for line in told if line) == sorted(job.task for job in jobs)


async def test_nothing_of_a_killed_worker_lives_on(world: World) -> None:
    """Its checks' whole tree ends with it; what it left is removed before the next landing."""
    lander = Lander(HOME_ID)
    script = "setsid sleep 4545 & sleep 4545"
    job = world.job("t-1", world.branch("t-1", {"a": "1\n"}), checks=(script,))
    asked = asyncio.ensure_future(lander.land(job))
    try:
        await eventually_async(lambda: len(sleeping("4545")) == 2)
        process = lander._lines[job.hub].process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        lander._closed = True  # no second try of a check that never ends
        await asked
        await eventually_async(lambda: not sleeping("4545"))
    finally:
        await lander.close()
    assert Path(world.hub, "landing").exists()
    world.landed(replace_job(job, checks=()))
