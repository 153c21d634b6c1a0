"""The coordinator's end: one worker a hub, when there is work, and none left over."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from landing_support import HOME_ID, PUBLISHED, World, make_world
from tests_support import eventually, eventually_async

from swarm.landing import client
from swarm.landing.client import Lander
from swarm.landing.model import Job, Landed, NotLanded, SentBack


def alive(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


async def test_jobs_of_a_hub_land_one_after_the_other(world: World) -> None:
    lander = Lander(HOME_ID)
    jobs = [world.job(f"t-{n}", world.branch(f"t-{n}", {f"f{n}": "1\n"})) for n in range(4)]
    assert not lander._lines, "idle costs nothing"
    try:
        verdicts = await asyncio.gather(*(lander.land(job) for job in jobs))
        assert len({line.process and line.process.pid for line in lander._lines.values()}) == 1
    finally:
        await lander.close()
    assert all(isinstance(v, Landed) and v.merged for v in verdicts)
    assert world.log()[:4] == [f"Do t-{n}" for n in (3, 2, 1, 0)]
    world.nothing_left()


async def test_hubs_do_not_wait_for_each_other(home: Path) -> None:
    worlds = [make_world(home / name) for name in ("a", "b")]
    lander = Lander(HOME_ID)
    slow, quick = worlds
    held = slow.job("t-1", slow.branch("t-1", {"a": "1\n"}), checks=("sleep 4646",))
    asked = asyncio.ensure_future(lander.land(held))
    try:
        await eventually_async(Path(held.log).exists)
        came = await lander.land(quick.job("t-1", quick.branch("t-1", {"a": "1\n"})))
        assert isinstance(came, Landed)
        assert not asked.done()
    finally:
        await lander.close()
    assert await asked == NotLanded("the lander is closed")


async def test_every_verdict_comes_through(world: World) -> None:
    lander = Lander(HOME_ID)
    one = world.job("t-1", world.branch("t-1", {"a": "ünï\n"}), message="Ünïcode \x1b\n\nbody")
    two = world.job("t-2", world.branch("t-2", {"a": "2\n"}))
    three = world.job("t-3", world.branch("t-3", {"b": "3\n"}), checks=("echo bäd; false",))
    try:
        assert isinstance(await lander.land(one), Landed)
        back = await lander.land(two)
        assert isinstance(back, SentBack)
        failed = await lander.land(three)
        assert isinstance(failed, SentBack)
        assert failed.text.endswith("bäd")
        assert isinstance(await lander.land(world.job("t-9", "0" * 40)), NotLanded)
        only = await lander.publish(world.hub, str(world.source), "main", PUBLISHED)
        assert only == Landed(world.tip, merged=False, published=PUBLISHED)
    finally:
        await lander.close()


async def test_an_idle_worker_leaves_and_another_comes(world: World) -> None:
    lander = Lander(HOME_ID, idle_seconds=0.05)
    try:
        for number in range(3):
            job = world.job(f"t-{number}", world.branch(f"t-{number}", {f"f{number}": "1\n"}))
            assert isinstance(await lander.land(job), Landed)
            process = lander._lines[world.hub].process
            assert process is not None
            await eventually_async(lambda p=process: p.returncode == 0)
    finally:
        await lander.close()


async def test_a_worker_writes_no_bytecode(
    world: World, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk Python leaves half a file, and no worker could be started ever after."""
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(home / "bytecode"))
    lander = Lander(HOME_ID)
    try:
        job = world.job("t-1", world.branch("t-1", {"a": "1\n"}))
        assert isinstance(await lander.land(job), Landed)
    finally:
        await lander.close()
    assert not (home / "bytecode").exists()


async def test_a_worker_that_dies_twice_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_BOOT", "import sys; sys.exit(7)")
    lander = Lander(HOME_ID)
    try:
        verdict = await lander.land(world.job("t-1", world.branch("t-1", {"a": "1\n"})))
    finally:
        await lander.close()
    assert verdict == NotLanded("the lander died 2 times: exit 7")


async def test_what_is_no_verdict_is_no_verdict(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_BOOT", "input(); print('nonsense'); input()")
    lander = Lander(HOME_ID)
    try:
        verdict = await lander.land(world.job("t-1", world.branch("t-1", {"a": "1\n"})))
    finally:
        await lander.close()
    assert isinstance(verdict, NotLanded)


async def test_a_landing_nobody_waits_for_any_more_is_ended(world: World) -> None:
    lander = Lander(HOME_ID)
    job = world.job("t-1", world.branch("t-1", {"a": "1\n"}), checks=("sleep 4747",))
    asked = asyncio.ensure_future(lander.land(job))
    try:
        await eventually_async(lambda: Path(job.log).exists())
        process = lander._lines[world.hub].process
        assert process is not None
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert not alive(process.pid)
        world.nothing_left()
        assert isinstance(await lander.land(world.job("t-1", job.commit)), Landed)
    finally:
        await lander.close()


def test_a_verdict_that_nobody_hears_is_one_line() -> None:
    """A parent that is killed has closed its end before its death is told."""
    reading, writing = os.pipe()
    os.close(reading)
    argv = (sys.executable, "-P", "-c", client._BOOT, "swarm.landing.worker")
    try:
        done = subprocess.run(
            (*argv, str(os.getpid()), HOME_ID, "30", client._PATH),
            input=b"no order\n",
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=30,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"agentctl-lander: [Errno 32] Broken pipe\n")


def test_a_worker_dies_with_its_parent(world: World) -> None:
    """Also amid a check, when it does not read its input."""
    job: Job = world.job("t-1", world.branch("t-1", {"a": "1\n"}), checks=("sleep 4848",))
    log = Path(job.log)
    script = (
        "import asyncio, sys, msgspec\n"
        "from swarm.landing.client import Lander\n"
        "from swarm.landing.model import Job\n"
        "job = msgspec.json.decode(sys.argv[1], type=Job)\n"
        "asyncio.run(Lander('h').land(job))\n"
    )
    argv = [sys.executable, "-P", "-c", script, msgspec.json.encode(job).decode()]
    with subprocess.Popen(argv) as parent:
        try:
            eventually(lambda: log.exists() and log.stat().st_size > 0)
            workers = _children(parent.pid)
        finally:
            parent.kill()
    assert len(workers) == 1
    eventually(lambda: not alive(workers[0]))


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]
