"""Clones share nothing writable, are used again, and are put right before every task."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from spawner_support import HOME_ID, Desk, fingerprint, make_source, sh_git

from swarm.errors import GitError, SpawnError, WorkspaceError
from swarm.spawner import clone as clone_module
from swarm.spawner.clone import (
    checkout_prelude,
    clone_record,
    ensure_clone,
    ensure_start,
    freshen,
    is_in_use,
    is_warm,
    mark_in_use,
    parked_clones,
)
from swarm.spawner.hub import branch_tip, ensure_hub, hub_path, refresh
from swarm.spawner.workspace import (
    Brief,
    broken_clones,
    make_workspace,
    set_aside,
    verify_workspace,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.mark.parametrize("desk", ["shared", "copy"], indirect=True)
def test_no_writable_file_is_shared(desk: Desk) -> None:
    """Hard links would let a session corrupt the source: every file is the clone's alone."""
    desk.session("echo x > new; git add new; git commit -qm new")
    links = {p: p.lstat().st_nlink for p in desk.repo.rglob("*") if p.is_file()}
    assert all(count == 1 for count in links.values()), links
    inodes = {(p.stat().st_dev, p.stat().st_ino) for p in links}
    for shared in (desk.source, Path(desk.hub.path)):
        theirs = {(p.stat().st_dev, p.stat().st_ino) for p in shared.rglob("*") if p.is_file()}
        assert not inodes & theirs
    borrows = (desk.repo / ".git/objects/info/alternates").exists()
    assert borrows is (desk.mode == "shared")


@pytest.mark.parametrize("desk", ["shared", "copy"], indirect=True)
def test_a_task_starts_clean_on_its_branch(desk: Desk) -> None:
    desk.session(
        "echo dirt > README; echo dirt > untracked; mkdir ignored; echo x > ignored/f;"
        "git checkout -q -b elsewhere; git commit -q --allow-empty -m side"
    )
    assert is_warm(desk.workspace, desk.hub.path, desk.mode)
    sh_git(desk.source, "commit", "-q", "--allow-empty", "-m", "second")
    desk.hub = refresh(desk.hub.path, str(desk.source), "main")
    desk.task = "t-2"
    ensure_start(desk.workspace, desk.hub.path, desk.mode, desk.hub.tip, desk.confinement())
    done = desk.session(
        "git rev-parse HEAD origin/main; git symbolic-ref HEAD; git status --porcelain --ignored"
    )
    assert done.out.decode().split() == [desk.hub.tip, desk.hub.tip, f"refs/heads/{desk.branch}"]


def test_a_copy_lives_without_its_hub(home: Path) -> None:
    source = make_source(home / "source")
    hub = ensure_hub(hub_path(home / "hub", str(source)), str(source), "main")
    workspace = make_workspace(str(home / "base"), "swarm-qa-001", HOME_ID, Brief("qa"))
    ensure_clone(workspace, hub.path, "copy")
    os.rename(hub.path, f"{hub.path}.away")
    sh_git(workspace.repo, "fsck")


def test_after_a_killed_session_the_next_one_starts(desk: Desk) -> None:
    """Locks, an unfinished merge, hooks and a changed configuration are put right."""
    desk.session(
        "git config core.hooksPath /tmp/x; git config core.bare true; mkdir .git/hooks;"
        "printf '#!/bin/sh\\ntouch /tmp/hooked' > .git/hooks/post-checkout;"
        "chmod +x .git/hooks/post-checkout; touch .git/index.lock .git/HEAD.lock;"
        "touch .git/refs/heads/x.lock; echo deadbeef > .git/MERGE_HEAD; mkdir .git/rebase-merge;"
        "mkdir -p .git/info; echo '* filter=x' > .git/info/attributes; echo / > .git/commondir"
    )
    desk.task = "t-2"
    assert desk.session("git status | cat; ls .git").exit == 0
    names = {p.name for p in (desk.repo / ".git").iterdir()}
    assert not names & {
        "hooks",
        "index.lock",
        "HEAD.lock",
        "MERGE_HEAD",
        "rebase-merge",
        "commondir",
    }
    assert not (desk.repo / ".git/refs/heads/x.lock").exists()
    assert "hooksPath" not in (desk.repo / ".git/config").read_text()
    assert not Path("/tmp/hooked").exists()


def test_a_clone_of_another_hub_is_parked_and_taken_out_again(desk: Desk, home: Path) -> None:
    desk.session("git branch mine")
    other = make_source(home / "other", branch="trunk")
    second = ensure_hub(hub_path(home / "hub", str(other)), str(other), "trunk")
    ensure_clone(desk.workspace, second.path)
    assert clone_record(desk.workspace) == (second.path, "shared")
    assert len(parked_clones(desk.workspace)) == 1
    ensure_clone(desk.workspace, desk.hub.path)
    assert "mine" in sh_git(desk.repo, "branch")
    assert is_warm(desk.workspace, desk.hub.path)


def test_an_interrupted_clone_is_made_anew(desk: Desk) -> None:
    half = Path(desk.workspace.private, "repo.making", ".git")
    half.mkdir(parents=True)
    ensure_clone(desk.workspace, desk.hub.path)
    assert is_warm(desk.workspace, desk.hub.path)
    assert not half.exists()


def test_the_folder_of_a_task_without_a_repository_makes_room(desk: Desk) -> None:
    desk.repo.mkdir()
    assert verify_workspace(desk.workspace, HOME_ID) == ()
    ensure_clone(desk.workspace, desk.hub.path)
    assert broken_clones(desk.workspace) == []


@pytest.mark.parametrize("what", ["file", "link-to-source", "link-to-hub", "gone"])
def test_a_replaced_git_folder_is_noticed(desk: Desk, what: str) -> None:
    """``.git`` turned into a pointer at the person's source: nothing there is written."""
    desk.session("true")
    gitdir = desk.repo / ".git"
    os.rename(gitdir, desk.root / "stolen")
    match what:
        case "file":
            gitdir.write_text(f"gitdir: {desk.source}/.git\n")
        case "link-to-source":
            gitdir.symlink_to(desk.source / ".git")
        case "link-to-hub":
            gitdir.symlink_to(desk.hub.path)
    before = fingerprint(desk.source), fingerprint(Path(desk.hub.path))
    assert verify_workspace(desk.workspace, HOME_ID)
    assert not is_warm(desk.workspace, desk.hub.path)
    with pytest.raises(WorkspaceError, match="no repository any more"):
        freshen(desk.workspace, new_task=True)
    came = desk.home()
    assert came.problem
    assert (fingerprint(desk.source), fingerprint(Path(desk.hub.path))) == before
    ensure_clone(desk.workspace, desk.hub.path)
    assert is_warm(desk.workspace, desk.hub.path)
    assert len(broken_clones(desk.workspace)) == 1
    assert fingerprint(desk.source) == before[0]


def test_a_full_disk_is_not_taken_for_a_broken_clone(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a sound clone would be set aside, and its workspace never be removed."""
    desk.session("echo x > loose")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(clone_module, "_replace", full)
    with pytest.raises(SpawnError, match="cannot be written: No space left"):
        freshen(desk.workspace, new_task=True)
    assert "No space left" in desk.home().problem


def test_freshening_follows_no_link(desk: Desk) -> None:
    """Configuration, info and objects turned into links at somebody else's files."""
    desk.session("true")
    victim = desk.root / "victim"
    (victim / "info").mkdir(parents=True)
    for name in ("config", "info/attributes", "alternates", "x.lock"):
        (victim / name).write_text("kept")
    before = fingerprint(victim)
    gitdir = desk.repo / ".git"
    (gitdir / "config").unlink()
    (gitdir / "config").symlink_to(victim / "config")
    (gitdir / "config.agentctl").symlink_to(victim / "config")
    os.rename(gitdir / "info", gitdir / "was") if (gitdir / "info").exists() else None
    (gitdir / "info").symlink_to(victim / "info")
    (gitdir / "hooks").symlink_to(victim)
    (gitdir / "refs" / "linked").symlink_to(victim)
    with pytest.raises(WorkspaceError):
        freshen(desk.workspace)  # info is no folder any more: the clone is not one
    (gitdir / "info").unlink()
    freshen(desk.workspace)
    assert fingerprint(victim) == before
    assert not (gitdir / "config").is_symlink()
    assert not (gitdir / "hooks").exists()


def test_hostile_words_never_reach_git() -> None:
    for branch, start in (
        ("--force", "a" * 40),
        ("x", "--detach"),
        ("x", "HEAD"),
        ("a b", "a" * 40),
    ):
        with pytest.raises(GitError):
            checkout_prelude("/r", branch, start, {})
    with pytest.raises(GitError):
        checkout_prelude("/r", "x", "a" * 40, {}, "-d", "a" * 40)


def test_a_wrong_mode_is_told(desk: Desk) -> None:
    with pytest.raises(GitError, match="shared or copy"):
        ensure_clone(desk.workspace, desk.hub.path, "hardlinks")


def test_a_session_cannot_move_the_hubs_references(desk: Desk) -> None:
    """Not by a push, not by writing the files."""
    before = desk.in_hub("for-each-ref")
    done = desk.session(
        "set +e; git push -q origin HEAD:refs/heads/main --force && exit 3;"
        f"echo x > {desk.hub.path}/refs/heads/main && exit 4; rm -rf {desk.hub.path}/objects;"
        f"git -C {desk.hub.path} gc && exit 5; true"
    )
    assert done.exit == 0
    assert desk.in_hub("for-each-ref") == before
    desk.in_hub("fsck")


def test_mutant_hard_links_are_caught(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted bug: the copy is made as git makes it by default."""
    real = clone_module.git

    def linked(cwd: str, *words: str, timeout: float = 60.0) -> object:
        return real(cwd, *(w for w in words if w != "--no-hardlinks"), timeout=timeout)

    monkeypatch.setattr(clone_module, "git", linked)
    ensure_clone(desk.workspace, desk.hub.path, "copy")
    assert any(p.lstat().st_nlink > 1 for p in desk.repo.rglob("*") if p.is_file())


def test_branch_names_of_the_hub_do_not_flood_a_clone(desk: Desk) -> None:
    for number in range(5):
        desk.in_hub("branch", f"swarm/x/t-{number}", desk.hub.tip)
    desk.session("test $(git for-each-ref | wc -l) -le 4")
    assert branch_tip(desk.hub.path, "swarm/x/t-4") == desk.hub.tip


def test_a_clone_set_aside_takes_its_mark_along(desk: Desk) -> None:
    """Else the clone in its place would be taken for one that holds work, and no task start."""
    desk.session("echo x > loose")
    mark_in_use(desk.workspace)
    set_aside(desk.workspace)
    ensure_clone(desk.workspace, desk.hub.path)
    assert not is_in_use(desk.workspace)
