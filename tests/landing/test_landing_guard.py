"""Git at a person's source, and its hooks, end with the lander; a good push disturbs nothing."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from landing_support import HOME_ID, PUBLISHED, World, source_digest
from tests_support import carrying, eventually, eventually_async

from swarm.landing import publishing
from swarm.landing.client import Lander
from swarm.landing.model import Job, Landed, NotLanded
from swarm.sandbox.trees import alive, descendants, start_time

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

# It waits in three ways: itself, by one that ignores what is polite, by one that has left it.
STUBBORN = """#!/bin/sh
cat >/dev/null
test -e {go} && exit 0
(cd / && env -i setsid tail -f /dev/null {word} >/dev/null 2>&1 &)
(trap '' TERM HUP INT; tail -f /dev/null {word} >/dev/null 2>&1) &
tail -f /dev/null {word}
"""


def hook(world: World, name: str, text: str) -> None:
    path = world.source / ".git" / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def job(world: World, task: str = "t-1") -> Job:
    return world.job(task, world.branch(task, {f"file-{task}": "1\n"}), publish=PUBLISHED)


@pytest.mark.parametrize("name", ["pre-receive", "update", "post-receive"])
async def test_a_killed_lander_takes_a_hook_of_the_source_along(
    world: World, word: str, name: str
) -> None:
    go = world.root / "go"
    hook(world, name, STUBBORN.format(go=go, word=word))
    before = source_digest(world.source)
    lander = Lander(HOME_ID)
    one = job(world)
    asked = asyncio.ensure_future(lander.land(one))
    try:
        await eventually_async(lambda: len(carrying(word)) == 3)
        process = lander._lines[world.hub].process
        assert process is not None
        family = [(pid, start_time(pid)) for pid in descendants([process.pid])]
        assert len(family) >= 5, "git, its receiving side, the hook and what that started"
        lander._closed = True
        os.kill(process.pid, signal.SIGKILL)
        eventually(
            lambda: not any(start and alive(pid, start) for pid, start in family),
            2.0,
            lambda: f"left: {family}",
            promised=True,
        )
        assert not carrying(word)
        assert isinstance(await asked, NotLanded)
    finally:
        await lander.close()
    assert not list((world.source / ".git").rglob("*.lock")), "git was let remove its locks"
    go.touch()
    assert world.landed(one).published == PUBLISHED
    assert world.in_source("rev-parse", PUBLISHED) == world.tip
    assert world.in_source("rev-list", "--count", f"main..{PUBLISHED}") == "1"
    assert source_digest(world.source) == before
    # What was not taken in yet git leaves lying at any signal, and knows by its name (tmp_…).
    world.in_source("fsck", "--strict", "--connectivity-only")
    world.in_source("prune", "--expire=now")
    assert not list((world.source / ".git" / "objects").glob("*incoming*"))


async def test_a_lander_that_is_told_to_end_ends_the_hook_too(world: World, word: str) -> None:
    hook(world, "pre-receive", STUBBORN.format(go=world.root / "go", word=word))
    lander = Lander(HOME_ID)
    asked = asyncio.ensure_future(lander.land(job(world)))
    try:
        await eventually_async(lambda: len(carrying(word)) == 3)
    finally:
        await lander.close()
    assert isinstance(await asked, NotLanded)
    assert not carrying(word)
    world.nothing_left()


def test_a_push_that_takes_too_long_is_ended_with_its_hook(
    world: World, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook(world, "pre-receive", STUBBORN.format(go=world.root / "go", word=word))
    monkeypatch.setattr(publishing, "PUSH_SECONDS", 1.0)
    pid = os.fork()  # one thread, as a worker has; this process may have more
    if pid == 0:
        try:
            came = publishing.publish(world.hub, str(world.source), "main", PUBLISHED)
            os._exit(0 if "took longer" in came.why_not else 2)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not carrying(word)


async def test_what_a_hook_leaves_running_after_a_good_push_is_its_owners(
    world: World, word: str
) -> None:
    """A deployment begun by a hook, say; and hooks see the machine as after anybody's push."""
    seen = world.root / "seen"
    hook(
        world,
        "post-receive",
        f"#!/bin/sh\ncat >/dev/null\n(setsid tail -f /dev/null {word} >/dev/null 2>&1 &)\n"
        f'grep NoNewPrivs /proc/self/status > {seen}; test -z "$AGENTCTL_TREE" || echo marked\n',
    )
    lander = Lander(HOME_ID)
    try:
        came = await lander.land(job(world))
        assert isinstance(came, Landed)
        assert came.published == PUBLISHED
    finally:
        await lander.close()
    assert len(carrying(word)) == 1
    assert seen.read_text().split() == ["NoNewPrivs:", "0"]
