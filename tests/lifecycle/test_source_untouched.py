"""The person's repository stays byte for byte, whatever the swarm goes through."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from source_watch import changes, fingerprint, make_lived_in
from swarm_support import Swarm, git
from tests_support import eventually

from swarm.core.model import TaskState

HARMS: dict[str, Callable[[Path], object]] = {
    "git safety": lambda at: git(at, "clean", "-ffdxq"),
    "stash": lambda at: git(at, "stash", "-q", "-u"),
    "stash dropped": lambda at: git(at, "stash", "drop", "-q"),
    "reset": lambda at: git(at, "reset", "-q", "--hard"),
    "staged": lambda at: git(at, "add", "-A"),
    "checkout": lambda at: git(at, "switch", "-q", "-f", "other"),
    "a branch": lambda at: git(at, "branch", "task/t-1"),
    "a branch deleted": lambda at: git(at, "branch", "-q", "-D", "other"),
    "a branch moved": lambda at: git(at, "branch", "-q", "-f", "other", "HEAD~1"),
    "a tag": lambda at: git(at, "tag", "v2"),
    "a worktree": lambda at: git(at, "worktree", "add", "-q", "--detach", str(at.parent / "wt")),
    "configured": lambda at: git(at, "config", "user.name", "agent"),
    "collected": lambda at: git(at, "gc", "-q", "--prune=now"),
    "one byte": lambda at: (at / "debug.log").write_text("ignoreD\n"),
    "one mode": lambda at: (at / "run.sh").chmod(0o755),
    "one time": lambda at: os.utime(at / "untracked.txt", (1, 1)),
    "an empty folder": lambda at: (at / "empty").rmdir(),
}


@pytest.mark.parametrize("harm", HARMS)
def test_every_harm_is_seen(home: Path, harm: str) -> None:
    """The faults as they were found elsewhere: the check that follows fails on each of them."""
    where = home / "project"
    make_lived_in(where)
    before = fingerprint(where)
    assert changes(before, where) == []
    HARMS[harm](where)
    assert changes(before, where), f"{harm} was not seen"


def hostile(where: Path) -> str:
    """What a session does that means well with other people's checkouts."""
    at = f"git -C {where}"
    return "\n".join([
        f"run {at} stash -u; {at} clean -ffdx; {at} reset --hard; rm -rf {where}/notes",
        f"run {at} push {where} HEAD:refs/heads/other; {at} gc --prune=now; echo x > {where}/x",
    ])  # fmt: skip


def live(swarm: Swarm, merge: str) -> None:
    """A whole life: work that lands or not, work that is saved, a clean-up, kills, a stop."""
    swarm.up()
    done = [swarm.add(f"write new{n}.txt x\ncommit new {n}\nanswer yes") for n in range(2)]
    done += [swarm.add(f"{hostile(swarm.repository)}\nwrite b.txt b\ncommit b")]
    failed = swarm.add("write half.txt half\nfail no idea")
    ended = swarm.ended([*done, failed], 60)
    assert [task.state for task in ended] == [*[TaskState.DONE] * 3, TaskState.FAILED]
    if merge != "none":
        assert {str(task.result) for task in ended[:3]} == {"merged"}
        git(swarm.repository, "rev-parse", "--verify", "refs/heads/swarm/main")
        ours, persons = (swarm.repository / ".git" / at for at in ("refs/heads/swarm/main", "HEAD"))
        assert ours.stat().st_mode == persons.stat().st_mode  # others may read what they could
    hanging = swarm.add("write torn.txt torn\nhang")
    (agent,) = swarm.active(1)
    eventually((swarm.clone(agent) / "torn.txt").exists, 20)
    os.kill(agent["pid"], signal.SIGKILL)  # its workspace is put right, the task goes on
    swarm.active(1)
    swarm.must("swarm", "scale", "1")
    swarm.must("clean", "--older-than", "0")
    os.kill(swarm.status()["swarm"]["pid"], signal.SIGKILL)
    swarm.gone()
    swarm.must("clean", "--dry-run", "--older-than", "0")
    swarm.up()
    swarm.active(1)
    swarm.must("task", "cancel", hanging)
    swarm.ended([hanging])
    swarm.must("swarm", "stop")
    assert "torn.txt" in everything_saved(swarm)
    swarm.must("clean", "--older-than", "0")
    kept = everything_saved(swarm)
    assert "half.txt" in kept
    assert "torn.txt" in kept
    assert (merge != "none") == ("new0.txt" in files(swarm.hub(), "main"))
    assert {"new0.txt", "new1.txt", "b.txt"} <= kept


def files(hub: Path, ref: str) -> set[str]:
    return set(git(hub, "ls-tree", "-r", "--name-only", ref).split())


def everything_saved(swarm: Swarm) -> set[str]:
    """Every file that some reference of the hub still has."""
    refs = git(swarm.hub(), "for-each-ref", "--format=%(refname)").split()
    return set().union(*(files(swarm.hub(), ref) for ref in refs))


@pytest.mark.slow
@pytest.mark.parametrize("merge", ["none", "squash"])
def test_the_source_is_byte_for_byte_what_it_was(swarm: Swarm, merge: str) -> None:
    shutil.rmtree(swarm.repository)
    make_lived_in(swarm.repository)
    swarm.configure(repo={"merge": merge}, persist=True)
    before = fingerprint(swarm.repository)
    live(swarm, merge)
    assert changes(before, swarm.repository) == []
