"""Checks and the source's own hooks may go wrong: the fleet goes on, nothing is left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from swarm_support import Swarm, kill
from tests_support import carrying, eventually

from swarm.core.model import RemarkKind, TaskResult, TaskState
from swarm.ledger import open_ledger
from swarm.sandbox.trees import alive, descendants, start_time

EATER = (
    "import time; kept = []\nwhile True:\n"
    " if len(kept) < 200: kept.append(b'x' * (4 << 20))\n time.sleep(0.005)"
)
"""No more than 800 MB, so that a limit that is not kept costs the test and not the machine."""
CLEAN_SECONDS = 2.0
"""Longest from the kill to nothing left (product, "Killed")."""


@pytest.fixture
def swarm() -> Iterator[Swarm]:
    made = Swarm()
    made.configure(repo={"merge": "squash"})
    try:
        yield made
    finally:
        made.close()


def test_a_check_that_eats_memory_dies_alone_and_goes_back(swarm: Swarm) -> None:
    """The limit is that of the role whose session wrote it, in place of the swarm's."""
    (swarm.places.roles / "builder.yaml").write_text(
        "runtime: scripted\nlimits: {memory_mb: 128}\n"
    )
    check = f'test ! -e big || python3 -c "{EATER}"'
    swarm.configure(repo={"merge": "squash", "checks": [check]}, limits={"memory_mb": 100_000})
    supervisor = swarm.up()
    services = {one["name"]: one["pid"] for one in swarm.status()["services"]}
    hungry = swarm.add("prompt told.txt\nwrite big yes\nagain run rm big\ncommit work")
    other = swarm.add("write a.txt a\ncommit work")
    for done in swarm.ended([hungry, other], within=60):
        assert done.state is TaskState.DONE, done
    with open_ledger(swarm.places.ledger) as ledger:
        (said,) = ledger.remarks(hungry)
    assert said.kind is RemarkKind.CHECK
    assert "was stopped: it used more than limits.memory_mb: 128 MB" in said.text
    assert int(swarm.status()["swarm"]["pid"]) == supervisor
    assert {one["name"]: one["pid"] for one in swarm.status()["services"]} == services


def test_a_killed_supervisor_takes_a_slow_hook_of_the_source_along(swarm: Swarm, word: str) -> None:
    """What was being published is published at the next start, once."""
    go, runs = swarm.root / "go", swarm.root / "runs"
    hook = swarm.repository / ".git" / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(
        f"#!/bin/sh\ncat >/dev/null\ntest -e {go} && echo run >> {runs} && exit 0\n"
        f"(cd / && env -i setsid tail -f /dev/null {word} >/dev/null 2>&1 &)\n"
        f"trap '' TERM HUP INT\ntail -f /dev/null {word}\n"
    )
    hook.chmod(0o755)
    supervisor = swarm.up()
    task = swarm.add("write a.txt a\ncommit work")
    eventually(lambda: len(carrying(word)) == 2, 30)
    family = [(pid, start_time(pid)) for pid in descendants([supervisor])]
    kill(supervisor)

    def left() -> list[object]:
        there = [pid for pid, start in family if start is not None and alive(pid, start)]
        return [*swarm.processes(), *there, *carrying(word)]

    eventually(lambda: not left(), CLEAN_SECONDS, lambda: f"left: {left()}", promised=True)
    assert "swarm/main" not in swarm.git("branch", "-a")
    go.touch()
    swarm.up()
    (done,) = swarm.ended([task])
    assert (done.state, done.result) == (TaskState.DONE, TaskResult.MERGED)
    tip = swarm.git("rev-parse", "main", cwd=swarm.hub())
    eventually(lambda: swarm.git("branch", "--list", "swarm/main") != "")
    assert swarm.git("rev-parse", "swarm/main") == tip == done.landed
    assert swarm.git("rev-list", "--count", "main..swarm/main") == "1"
    assert runs.read_text().split() == ["run"]
    assert not list((swarm.repository / ".git").rglob("*.lock"))
    assert swarm.git("status", "--porcelain") == ""
    swarm.git("fsck", "--strict", "--connectivity-only")
