"""What has landed reaches a branch of the source, and nothing of a person's is touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from landing_support import PUBLISHED, World, replace_job, source_digest
from spawner_support import make_source, sh_git

from swarm.landing import publishing
from swarm.landing.land import publish_target
from swarm.landing.model import Job, Landed
from swarm.spawner import moving
from swarm.spawner.git import PERSONS_UMASK
from swarm.spawner.hub import ensure_hub, hub_path

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def job(world: World, task: str = "t-1", publish: str = PUBLISHED) -> Job:
    tip = world.branch(task, {f"file-{task}": "1\n"})
    return world.job(task, tip, publish=publish)


def test_only_one_branch_is_added_to_the_source(world: World) -> None:
    world.in_source("status")
    config = (world.source / ".git" / "config").read_bytes()
    before = source_digest(world.source)
    assert world.landed(job(world)).published == PUBLISHED
    assert world.landed(job(world, "t-2")).published == PUBLISHED
    assert source_digest(world.source) == before
    assert (world.source / ".git" / "config").read_bytes() == config
    assert world.in_source("rev-parse", PUBLISHED) == world.tip
    world.in_source("merge-base", "--is-ancestor", "main", PUBLISHED)


def test_nothing_is_published_unless_asked(world: World) -> None:
    came = world.landed(job(world, publish=""))
    assert (came.published, came.unpublished) == ("", "")
    assert "swarm" not in world.in_source("branch", "-a")


def test_a_branch_that_is_checked_out_is_never_touched(world: World) -> None:
    before = source_digest(world.source)
    tip = world.in_source("rev-parse", "main")
    came = world.landed(job(world, publish="main"))
    assert came.published == ""
    assert "main is checked out" in came.unpublished
    assert world.in_source("rev-parse", "main") == tip
    assert source_digest(world.source) == before


def test_nor_one_of_another_work_tree_or_amid_a_rebase(world: World) -> None:
    tree = world.root / "tree"
    world.in_source("worktree", "add", "-q", "-b", PUBLISHED, str(tree))
    at = world.in_source("rev-parse", PUBLISHED)
    one = job(world)
    assert "is checked out" in world.landed(one).unpublished
    sh_git(tree, "checkout", "-q", "--detach")
    rebasing = world.source / ".git" / "worktrees" / "tree" / "rebase-merge"
    rebasing.mkdir()
    (rebasing / "head-name").write_text(f"refs/heads/{PUBLISHED}\n")
    assert "is checked out" in world.landed(one).unpublished
    assert world.in_source("rev-parse", PUBLISHED) == at
    (rebasing / "head-name").unlink()
    assert world.landed(one).published == PUBLISHED, "what could not be published is, next time"


def test_a_check_out_just_before_the_push_is_refused_by_the_source(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the person's configuration allows."""
    world.in_source("config", "receive.denyCurrentBranch", "updateInstead")
    monkeypatch.setattr(publishing, "checked_out", lambda folder: frozenset())
    before = source_digest(world.source)
    assert "branch is currently checked out" in world.landed(job(world, publish="main")).unpublished
    assert source_digest(world.source) == before


def test_commits_of_a_person_on_the_published_branch_are_never_overwritten(world: World) -> None:
    world.landed(job(world))
    tree = world.root / "tree"
    world.in_source("worktree", "add", "-q", str(tree), PUBLISHED)
    sh_git(tree, "commit", "-q", "--allow-empty", "-m", "mine")
    world.in_source("worktree", "remove", str(tree))
    mine = world.in_source("rev-parse", PUBLISHED)
    came = world.landed(job(world, "t-2"))
    assert "has commits of its own" in came.unpublished
    assert world.in_source("rev-parse", PUBLISHED) == mine
    world.in_source("branch", "-m", PUBLISHED, "kept")
    only = publish_target(world.hub, str(world.source), "main", PUBLISHED)
    assert only == Landed(world.tip, merged=False, published=PUBLISHED)


@pytest.mark.parametrize("address", ["{}", "file://{}"])
def test_a_bare_source_takes_its_own_branch(home: Path, address: str) -> None:
    source = make_source(home / "first")
    bare = home / "with space.git"
    sh_git(home, "clone", "-q", "--bare", str(source), str(bare))
    where = address.format(bare)
    hub = ensure_hub(hub_path(home / "hub", where), where, "main").path
    sh_git(home, "clone", "-q", hub, str(home / "scratch"))
    world = World(home, bare, hub, home / "scratch")
    one = replace_job(job(world, publish="main"), source=where)
    before = source_digest(bare, "main")
    assert world.landed(one).published == "main"
    assert sh_git(bare, "rev-parse", "main") == world.tip
    assert source_digest(bare, "main") == before


def test_a_file_address_of_a_checkout_is_looked_at_too(world: World) -> None:
    one = replace_job(job(world, publish="main"), source=f"file://{world.source}")
    assert "main is checked out" in world.landed(one).unpublished


def test_a_source_that_cannot_be_reached_stops_no_landing(world: World) -> None:
    away = world.root / "away"
    os.rename(world.source, away)
    came = world.landed(job(world))
    assert came.merged
    assert came.unpublished
    assert "cannot be fetched" in came.note
    os.rename(away, world.source)
    only = publish_target(world.hub, str(world.source), "main", PUBLISHED)
    assert isinstance(only, Landed)
    assert only.published == PUBLISHED


def test_an_address_that_cannot_be_reached_is_told_as_that(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_SSH_COMMAND", "false")
    address = "ssh://nowhere.invalid/x"
    came = publish_target(world.hub, address, "main", PUBLISHED)
    assert isinstance(came, Landed)
    assert came.unpublished.startswith(f"{PUBLISHED} cannot be pushed to {address}: fatal: ")
    assert came.unpublished.endswith(f"; it is tried again; see: git ls-remote {address}")


def test_a_lock_that_a_killed_push_left_in_the_source_is_outlived(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "STALE_SECONDS", 0.2)
    lock = world.source / ".git" / "refs" / "heads" / f"{PUBLISHED}.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("")
    landed = world.landed(job(world))
    assert (landed.published, landed.unpublished) == (PUBLISHED, "")
    assert not lock.exists()


def test_a_branch_in_the_way_of_the_name_is_told(world: World) -> None:
    world.in_source("branch", "swarm")
    came = world.landed(job(world))
    assert came.published == ""
    assert "cannot be pushed" in came.unpublished
    assert "'refs/heads/swarm' exists" in came.unpublished
    assert "\n" not in came.unpublished


def test_what_a_hook_of_the_source_says_is_told(world: World) -> None:
    hook = world.source / ".git" / "hooks" / "update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(
        "#!/bin/sh\nprintf '\\n\\033[31mmain is protected\\033[0m: ask Ann\\n' >&2\nexit 1\n"
    )
    hook.chmod(0o755)
    came = world.landed(job(world))
    assert came.unpublished == (
        f"{PUBLISHED} cannot be pushed to {world.source}: [remote rejected] (hook declined):"
        " main is protected: ask Ann; let it in there, or set repo.publish to another branch"
    )


@pytest.mark.parametrize(
    ("told", "mode"), [("022", 0o644), ("0002", 0o664), ("", 0o600), ("0; touch x", 0o600)]
)
def test_what_is_published_is_as_open_as_what_the_person_writes(
    world: World, monkeypatch: pytest.MonkeyPatch, told: str, mode: int
) -> None:
    monkeypatch.setenv(PERSONS_UMASK, told)
    before = os.umask(0o077)
    try:
        landed = world.landed(job(world))
    finally:
        os.umask(before)
    assert (landed.published, landed.unpublished) == (PUBLISHED, "")
    branch = world.source / ".git" / "refs" / "heads" / PUBLISHED
    assert branch.stat().st_mode & 0o777 == mode
    assert branch.parent.stat().st_mode & 0o777 == mode | (mode & 0o444) >> 2
    assert not (world.source / "x").exists()


def test_hostile_words_never_reach_the_push(world: World) -> None:
    for branch in ("--force", "+a:b", "a:b", "HEAD", "../x", "a b"):
        came = publishing.publish(world.hub, str(world.source), "main", branch)
        assert "cannot be a branch" in came.why_not
    came = publishing.publish(world.hub, "--upload-pack=touch x", "main", PUBLISHED)
    assert came.why_not


def test_the_source_collects_no_garbage_for_our_push(world: World) -> None:
    """``gc`` would drop what a person lost sight of, and has not lost."""
    world.in_source("config", "gc.auto", "1")
    world.in_source("config", "gc.pruneExpire", "now")
    lost = world.in_source("commit-tree", "-m", "lost", "main^{tree}")
    assert world.landed(job(world)).published
    assert world.in_source("cat-file", "-t", lost) == "commit"


def test_commits_of_a_person_meanwhile_are_landed_on_and_publishing_goes_forward(
    world: World,
) -> None:
    world.in_source("stash", "drop", "-q")
    world.in_source("commit", "-q", "-a", "-m", "edited")
    world.landed(job(world))
    (world.source / "mine").write_text("1\n")
    world.in_source("add", "mine")
    world.in_source("commit", "-q", "-m", "mine")
    came = world.landed(job(world, "t-2"))
    assert (came.published, came.note) == (PUBLISHED, "")
    assert {"mine", "file-t-1", "file-t-2"} <= set(
        world.in_source("ls-tree", "--name-only", PUBLISHED).split()
    )
    (world.source / "file-t-1").write_text("other\n")
    world.in_source("add", "file-t-1")
    world.in_source("commit", "-q", "-m", "against")
    came = world.landed(job(world, "t-3"))
    assert came.published == PUBLISHED, "what has landed goes on"
    assert "conflict in file-t-1" in came.note
    assert f"git pull {world.hub} main" in came.note
    again = world.landed(job(world, "t-4"))
    assert again.note == came.note, "told as long as it is so, though nothing is to be fetched"
