"""What a session put into the repository runs, writes and breaks nothing when it lands."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from landing_support import AGENT, World, source_digest
from spawner_support import sh_git

from swarm.core.model import Merge

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

CHECK = ("true",)


def trap(world: World) -> Path:
    """A program that leaves a file behind when anybody runs it."""
    path = world.root / "trap"
    path.write_text(f"#!/bin/sh\ntouch {world.root}/ran\nexec cat\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("mode", [Merge.SQUASH, Merge.REBASE])
def test_no_filter_driver_or_hook_of_the_repository_or_of_a_person_runs(
    world: World, mode: Merge, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = trap(world)
    config = world.root / "gitconfig"
    config.write_text(
        f"[filter \"t\"]\n\tclean = {path}\n\tsmudge = {path}\n\tprocess = {path}\n"
        f"\trequired = true\n[merge \"t\"]\n\tdriver = {path}\n[diff \"t\"]\n\ttextconv = {path}\n"
        f"[core]\n\tfsmonitor = {path}\n\thooksPath = {world.root}/hooks\n"
        f"[commit]\n\tgpgSign = true\n[gpg]\n\tprogram = {path}\n[push]\n\tgpgSign = if-asked\n"
    )  # fmt: skip
    (world.root / "hooks").mkdir()
    for hook in ("post-checkout", "pre-push", "pre-merge-commit", "post-index-change"):
        (world.root / "hooks" / hook).symlink_to(path)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    attributes = "* filter=t merge=t diff=t\n"
    world.landed(
        world.job("t-0", world.branch("t-0", {".gitattributes": attributes, "f": "1\n2\n3\n4\n"}))
    )
    one = world.branch("t-1", {"f": "one\n2\n3\n4\n"})
    two = world.branch("t-2", {"f": "1\n2\n3\ntwo\n", ".gitmodules": '[submodule "x"]\n'})
    world.landed(world.job("t-1", one, merge=mode, checks=CHECK))
    world.landed(world.job("t-2", two, merge=mode, checks=CHECK, publish="swarm/main"))
    assert world.show("f").split() == ["one", "2", "3", "two"]
    assert not (world.root / "ran").exists()


def test_links_in_the_place_of_folders_lead_nowhere(world: World) -> None:
    """A folder of the target that the branch has made a link out of the checkout."""
    outside = world.root / "outside"
    outside.mkdir()
    world.landed(world.job("t-0", world.branch("t-0", {"dir/file": "1\n"})))
    sh_git(world.scratch, "fetch", "-q", "origin")
    sh_git(world.scratch, "checkout", "-q", "-B", "x", "origin/main")
    sh_git(world.scratch, "rm", "-q", "-r", "dir")
    (world.scratch / "dir").symlink_to(outside)
    (world.scratch / "repo").symlink_to("/etc")
    (world.scratch / "loop").symlink_to("loop")
    tip = world.commit("t-1", {})
    script = f"rm -rf tmp && ln -s {outside} .git/x; test -L dir && ! touch dir/x"
    world.landed(world.job("t-1", tip, checks=(script,)))
    assert outside.is_dir()
    assert not list(outside.iterdir())


def test_a_check_that_fills_its_checkout_with_traps_is_cleared_away(world: World) -> None:
    script = (
        "mkdir -p a/b/c && touch a/b/c/f && chmod 000 a/b/c a/b a && ln -s / root && mkfifo pipe;"
        "git config core.fsmonitor 'touch /tmp/x'; chmod 000 .git"
    )
    tip = world.branch("t-1", {"f": "1\n"})
    world.landed(world.job("t-1", tip, checks=(script,)))


def test_submodules_are_left_alone(world: World) -> None:
    trapped = trap(world)
    base = world.tip
    sh_git(world.scratch, "checkout", "-q", "-B", "x", "origin/main")
    sh_git(world.scratch, "update-index", "--add", "--cacheinfo", f"160000,{base},sub")
    (world.scratch / ".gitmodules").write_text(
        f'[submodule "sub"]\n\tpath = sub\n\turl = ext::{trapped}\n\tupdate = !{trapped}\n'
    )
    sh_git(world.scratch, "add", ".gitmodules")
    sh_git(world.scratch, "commit", "-q", "-m", "sub")
    tip = world.push("t-1")
    world.landed(world.job("t-1", tip, checks=("test -d sub",), publish="swarm/main"))
    assert not (world.root / "ran").exists()
    assert "160000" in world.in_hub("ls-tree", "main", "sub")


def odd_tree(world: World, name: bytes) -> str:
    """A branch whose tree has a file of that name, which no work tree could be made to hold."""
    first = world.in_hub("rev-list", "--max-parents=0", "main")
    blob = world.in_hub("rev-parse", f"{first}:README")
    entry = f"100644 blob {blob}\t".encode() + name + b"\0"
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    made = subprocess.run(
        ["git", "-C", world.hub, "mktree", "-z"], input=entry, env=env, check=True,
        capture_output=True,
    )  # fmt: skip
    tree = made.stdout.decode().strip()
    tip = world.in_hub("commit-tree", "-p", world.tip, "-m", "odd", tree)
    world.in_hub("update-ref", f"refs/heads/swarm/{AGENT}/t-1", tip)
    return tip


def test_a_name_too_long_for_a_file_goes_back(world: World) -> None:
    tip = odd_tree(world, b"n" * 300)
    back = world.sent_back(world.job("t-1", tip, checks=CHECK))
    assert "cannot be checked out" in back.text
    assert "File name too long" in back.text


def test_odd_names_are_only_names(world: World) -> None:
    for name in (b"-rf", b"new\nline", b"\xff\xfe", b"\x1b[31m", b'"quoted"'):
        tip = odd_tree(world, name)
        world.landed(world.job("t-1", tip, checks=("ls -A | grep -q .",), merge=Merge.REBASE))


def test_a_conflict_in_an_odd_name_is_told_in_plain_words(world: World) -> None:
    name = "new\nline\x1b[31m"
    one = world.branch("t-1", {name: "1\n"})
    two = world.branch("t-2", {name: "2\n"})
    world.landed(world.job("t-1", one))
    text = world.sent_back(world.job("t-2", two)).text
    assert "\x1b" not in text


def test_messages_and_authors_of_a_session_are_only_text(world: World) -> None:
    world.landed(world.job("t-0", world.branch("t-0", {"x": "1\n"})))
    raw = (
        "tree {tree}\nparent {parent}\nauthor  <> 99999999999999999999 +9999\n"
        "committer A <a@b> 1 +0000\nencoding no-such-code\n\n"
    )
    world.branch("t-1", {"a": "1\n"}, base="origin/main~0")
    sh_git(world.scratch, "checkout", "-q", "-B", "x", "origin/main~1")
    (world.scratch / "a").write_text("1\n")
    sh_git(world.scratch, "add", "-A")
    tree = sh_git(world.scratch, "write-tree")
    parent = sh_git(world.scratch, "rev-parse", "HEAD")
    body = raw.format(tree=tree, parent=parent).encode() + b"-F /etc/passwd \xff $(touch x)\n"
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    made = subprocess.run(
        ["git", "-C", world.hub, "hash-object", "-t", "commit", "-w", "--stdin", "--literally"],
        input=body, env=env, check=True, capture_output=True,
    )  # fmt: skip
    objects = world.scratch / ".git" / "objects"
    sh_git(world.scratch, "fetch", "-q", "origin")
    subprocess.run(["cp", "-r", "-n", f"{objects}/.", f"{world.hub}/objects/"], check=True)
    tip = made.stdout.decode().strip()
    world.in_hub("update-ref", f"refs/heads/swarm/{AGENT}/t-1", tip)
    job = world.job("t-1", tip, merge=Merge.REBASE, message="%s {0} -F x\n\n\x00$(id)")
    world.landed(job)
    assert world.log(form="%an")[0] == "Ann", "an author that git does not take is the job's"
    assert world.log()[0].startswith("-F /etc/passwd")
    world.landed(world.job("t-2", world.branch("t-2", {"b": "1\n"}), message=job.message))
    assert world.log()[0] == "%s {0} -F x"


def test_the_source_stays_byte_for_byte_through_all_of_it(world: World) -> None:
    before = source_digest(world.source)
    status = world.in_source("status", "--porcelain")
    before = source_digest(world.source)  # status itself may have refreshed the index
    for number in range(3):
        tip = world.branch(f"t-{number}", {f"f{number}": "1\n"})
        came = world.landed(world.job(f"t-{number}", tip, checks=CHECK, publish="swarm/main"))
        assert came.published == "swarm/main"
    assert source_digest(world.source) == before
    assert world.in_source("rev-parse", "swarm/main") == world.tip
    assert world.in_source("status", "--porcelain") == status
    assert world.in_source("stash", "list").count("stash@") == 1
    assert (world.source / "untracked").read_text() == "mine"
