"""A task's commit becomes part of its target, once and in the way that was asked for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from landing_support import AGENT, World, replace_job
from spawner_support import sh_git

from swarm.core.model import Merge, RemarkKind
from swarm.landing import land as landing
from swarm.landing.model import Landed
from swarm.spawner import moving

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def parents(world: World, commit: str = "main") -> list[str]:
    return world.in_hub("log", "-1", "--format=%P", commit).split()


def test_a_squash_is_one_commit_with_the_persons_name_and_the_agents(world: World) -> None:
    base = world.tip
    world.branch("t-1", {"a": "1\n"})
    tip = world.commit("t-1", {"b": "2\n"})
    came = world.landed(world.job("t-1", tip))
    assert came == Landed(world.tip)
    assert parents(world) == [base]
    assert world.log(form="%an|%ae|%cn|%s")[0] == f"Ann|ann@example.org|{AGENT}|Do t-1"
    assert world.in_hub("log", "-1", "--format=%(trailers:only)").split("\n") == [
        "Task: t-1",
        f"Commit: {tip}",
    ]
    assert (world.show("a"), world.show("b")) == ("1", "2")
    world.in_hub("fsck", "--strict", "--connectivity-only")


def test_a_merge_keeps_the_branchs_history(world: World) -> None:
    base = world.tip
    tip = world.branch("t-1", {"a": "1\n"})
    world.landed(world.job("t-1", tip, merge=Merge.MERGE))
    assert parents(world) == [base, tip]


def test_a_rebase_replays_each_commit_with_its_author_and_message(world: World) -> None:
    world.branch("t-1", {"a": "1\n"}, message="one\n\nwith a body: ünïcode")
    tip = world.commit("t-1", {"b": "2\n"}, message="two")
    world.landed(world.job("t-0", world.branch("t-0", {"other": "x\n"})))
    base = world.tip
    world.landed(world.job("t-1", tip, merge=Merge.REBASE))
    assert world.log(form="%s|%an|%cn")[:2] == [f"two|Ann|{AGENT}", f"one|Ann|{AGENT}"]
    assert world.in_hub("log", "-1", "--format=%b", "main~1") == "with a body: ünïcode"
    assert parents(world, "main~1") == [base]
    assert world.in_hub("log", "-1", "--format=%ad", "main") == world.in_hub(
        "log", "-1", "--format=%ad", tip
    )


@pytest.mark.parametrize(
    ("author", "lands_as"),
    [
        ("... <x@example.org> 1700000000 +0000", "Ann <ann@example.org>"),
        ("Bob <x@example.org> 0 +0000", "Bob <x@example.org> 0 +0000"),
        ("Bob <x@example.org> 99999999 -0130", "Bob <x@example.org> 99999999 -0130"),
        ("Bob <x@example.org> 999999999999 +0000", "Bob <x@example.org> 999999999999 +0000"),
        ("Bob <x@example.org> 1700000000 +9999", "Ann <ann@example.org>"),
        ("nobody at all", "Ann <ann@example.org>"),
    ],
)
def test_an_odd_author_of_a_session_stops_no_rebase(
    world: World, author: str, lands_as: str
) -> None:
    """A session writes what it likes into a commit; git itself would not make all of it."""
    world.branch("t-1", {"a": "1\n"})
    raw = sh_git(world.scratch, "cat-file", "commit", "HEAD").splitlines()
    odd = [f"author {author}" if line.startswith("author ") else line for line in raw]
    (world.scratch / "odd").write_text("\n".join(odd) + "\n")
    made = sh_git(world.scratch, *["hash-object", "-t", "commit", "-w", "--literally", "odd"])
    (world.scratch / "odd").unlink()
    sh_git(world.scratch, "checkout", "-q", "-f", made)
    tip = world.push("t-1")
    world.landed(world.job("t-0", world.branch("t-0", {"b": "1\n"})))
    world.landed(world.job("t-1", tip, merge=Merge.REBASE))
    (line,) = [x for x in world.in_hub("cat-file", "commit", "main").splitlines() if "author" in x]
    assert line.removeprefix("author ").startswith(lands_as)
    assert world.show("a") == "1"


def test_a_rebase_onto_where_it_stands_is_the_branch_itself(world: World) -> None:
    tip = world.branch("t-1", {"a": "1\n"})
    world.landed(world.job("t-1", tip, merge=Merge.REBASE))
    assert world.tip == tip


def test_a_rebase_of_a_branch_with_a_settled_conflict_lands_what_was_settled(world: World) -> None:
    """A revision merges the target in; replaying the commits alone would conflict for ever."""
    world.branch("t-1", {"README": "mine\n"}, message="mine")
    world.commit("t-1", {"first": "1\n"}, message="first")
    world.landed(world.job("t-0", world.branch("t-0", {"README": "theirs\n"})))
    target = world.tip
    sh_git(world.scratch, "fetch", "-q", "origin")
    sh_git(world.scratch, "checkout", "-q", f"swarm/{AGENT}/t-1")
    sh_git(world.scratch, "merge", "-q", "-s", "ours", "-m", "settled", "origin/main")
    tip = world.commit("t-1", {"README": "both\n"}, message="both")
    world.landed(world.job("t-1", tip, merge=Merge.REBASE))
    assert world.show("README") == "both"
    assert world.show("first") == "1"
    history = world.in_hub("rev-list", "--min-parents=2", f"{target}..main")
    assert history == "", "it is linear"


@pytest.mark.parametrize("mode", [Merge.SQUASH, Merge.MERGE, Merge.REBASE])
def test_a_conflict_goes_back_naming_the_files(world: World, mode: Merge) -> None:
    tip = world.branch("t-1", {"README": "mine\n", "ok": "1\n", ".gitignore": None})
    other = world.branch("t-0", {"README": "theirs\n", ".gitignore": "kept/\n"})
    world.landed(world.job("t-0", other))
    objects = world.in_hub("count-objects")
    back = world.sent_back(world.job("t-1", tip, merge=mode))
    assert back.kind is RemarkKind.CONFLICT
    assert "- README\n" in back.text
    assert "- .gitignore\n" in back.text
    assert "modify/delete" in back.text
    assert "- ok" not in back.text
    assert world.in_hub("count-objects") == objects, "what came to nothing leaves nothing"


def test_histories_without_anything_in_common_go_back(world: World) -> None:
    sh_git(world.scratch, "checkout", "-q", "--orphan", "fresh")
    tip = world.commit("t-1", {"a": "1\n"})
    back = world.sent_back(world.job("t-1", tip))
    assert "no history in common" in back.text


@pytest.mark.parametrize("mode", [Merge.SQUASH, Merge.MERGE, Merge.REBASE])
def test_what_changes_nothing_is_a_noop(world: World, mode: Merge) -> None:
    first = world.branch("t-1", {"a": "1\n"})
    again = world.branch("t-2", {"a": "1\n"})
    empty = world.branch("t-3", {})
    world.landed(world.job("t-1", first))
    before = world.tip
    for task, tip in (("t-2", again), ("t-3", empty)):
        came = world.landed(world.job(task, tip, merge=mode))
        assert (came.merged, came.commit) == (False, before)


@pytest.mark.parametrize("mode", [Merge.SQUASH, Merge.MERGE, Merge.REBASE])
def test_asked_again_it_lands_once(world: World, mode: Merge) -> None:
    job = world.job("t-1", world.branch("t-1", {"a": "1\n"}), merge=mode)
    first = world.landed(job)
    assert world.landed(job) == first, "also when what asked never heard of it"
    later = world.branch("t-2", {"a": "2\n"})
    moved = world.landed(world.job("t-2", later)).commit
    assert world.landed(job) == Landed(moved), "it would conflict with what came after it"
    world.in_hub("update-ref", "-d", f"refs/heads/{job.branch}")
    assert world.landed(job).merged, "its branch may be cleaned up meanwhile"


def test_only_the_commit_that_was_approved_lands(world: World) -> None:
    tip = world.branch("t-1", {"a": "1\n"})
    world.commit("t-1", {"a": "2\n"})
    before = world.tip
    refused = world.not_landed(world.job("t-1", tip))
    assert not refused.retry
    assert f"not at {tip[:12]} any more" in refused.reason
    assert world.tip == before


def test_what_makes_no_sense_is_refused_for_good(world: World) -> None:
    job = world.job("t-1", world.branch("t-1", {"a": "1\n"}))
    for change in (
        {"target": "../../x"}, {"target": "--output=/tmp/x"}, {"branch": "-x"}, {"commit": "HEAD"},
        {"publish": "a b"}, {"task": "../x"}, {"merge": Merge.NONE}, {"hub": "/nowhere"},
    ):  # fmt: skip
        assert not world.not_landed(replace_job(job, **change)).retry, change


def test_a_target_moved_by_somebody_else_is_landed_on_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compare and swap: the other's commit stays, and the checks see it."""
    job = world.job("t-1", world.branch("t-1", {"a": "1\n"}), checks=("ls",))
    calls = rivals(world, 2)

    def moves(*args: object) -> bool:
        if args[1] == "refs/heads/main":
            next(calls, None)
        return moving.move(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(landing, "move", moves)
    world.landed(job)
    assert world.log()[:3] == ["Do t-1", "rival 1", "rival 0"]


def test_a_target_that_never_holds_still_is_given_up_for_now(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing, "move", lambda *args: args[1] != "refs/heads/main")
    refused = world.not_landed(world.job("t-1", world.branch("t-1", {"a": "1\n"})))
    assert refused.retry
    assert "moved by somebody else" in refused.reason


def rivals(world: World, count: int) -> Iterator[None]:
    for number in range(count):
        tree = world.in_hub("rev-parse", "main^{tree}")
        made = world.in_hub("commit-tree", "-p", world.tip, "-m", f"rival {number}", tree)
        world.in_hub("update-ref", "refs/heads/main", made)
        yield


def test_a_branch_that_moves_at_the_last_moment_does_not_land(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = world.job("t-1", world.branch("t-1", {"a": "1\n"}))
    before = world.tip

    def moves(*args: object) -> bool:
        if args[1] == "refs/heads/main":
            world.in_hub("update-ref", f"refs/heads/{job.branch}", before)
        return moving.move(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(landing, "move", moves)
    assert not world.not_landed(job).retry
    assert world.tip == before


def test_a_lock_that_a_killed_git_left_is_outlived(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "STALE_SECONDS", 0.2)
    job = world.job("t-1", world.branch("t-1", {"a": "1\n"}))
    ours = (f"refs/heads/{job.branch}", landing.landed_ref(job.task, job.commit))
    for ref in ("refs/heads/main", "HEAD", *ours):
        lock = Path(world.hub, f"{ref}.lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.write_text(world.tip)
    assert world.landed(job).merged


def test_union_merges_of_the_target_are_honoured(world: World) -> None:
    world.landed(world.job("t-0", world.branch("t-0", {
        ".gitattributes": "NEWS merge=union\nbinary merge=binary\ndriven merge=mine\n",
        "NEWS": "first\n", "binary": "1\n2\n3\n", "driven": "1\n2\n3\n4\n5\n",
    })))  # fmt: skip
    one = world.branch("t-1", {"NEWS": "first\none\n", "driven": "one\n2\n3\n4\n5\n"})
    two = world.branch("t-2", {"NEWS": "first\ntwo\n", "driven": "1\n2\n3\n4\ntwo\n"})
    three = world.branch("t-3", {"binary": "1\n2\nthree\n"})
    four = world.branch("t-4", {"binary": "four\n2\n3\n"})
    for task, tip in (("t-1", one), ("t-2", two), ("t-3", three)):
        world.landed(world.job(task, tip))
    assert set(world.show("NEWS").split()) == {"first", "one", "two"}
    assert world.show("driven").split() == ["one", "2", "3", "4", "two"]
    assert "binary" in world.sent_back(world.job("t-4", four)).text


def test_a_git_that_is_too_old_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    tip = world.branch("t-1", {"a": "1\n"})
    real = shutil.which("git")
    folder = world.root / "bin"
    folder.mkdir()
    old = folder / "git"
    old.write_text(f'#!/bin/sh\ncase "$*" in *merge-tree*) exit 129;; esac\nexec {real} "$@"\n')
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    assert "install git 2.38 or later" in world.not_landed(world.job("t-1", tip)).reason
