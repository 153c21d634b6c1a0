"""A session's work comes home whole, and a hostile repository runs and corrupts nothing outside."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from spawner_support import Desk, fingerprint, make_source, sh_git

from swarm.sandbox.launch import Confinement
from swarm.spawner import homecoming, moving
from swarm.spawner.clone import is_in_use, mark_in_use
from swarm.spawner.hub import branch_tip
from swarm.spawner.workspace import clone_problem

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def tip_in_clone(desk: Desk, ref: str = "HEAD") -> str:
    return sh_git(desk.repo, "rev-parse", ref)


def test_commits_come_home_on_the_tasks_branch(desk: Desk) -> None:
    desk.session("echo x > new; git add new; git commit -qm new")
    before = fingerprint(desk.source)
    came = desk.home()
    assert came.commit == branch_tip(desk.hub.path, desk.branch) == tip_in_clone(desk)
    assert (came.saved, came.committed, came.problem) == ((), False, "")
    assert desk.in_hub("log", "-1", "--format=%an|%ae|%cn", desk.branch) == (
        "Ann|ann@example.org|swarm-builder-001"
    )
    assert desk.home() == came, "doing it again changes nothing"
    assert fingerprint(desk.source) == before
    desk.in_hub("fsck", "--strict")


def test_uncommitted_work_becomes_a_commit(desk: Desk) -> None:
    desk.session(
        "echo x > new; git add new; git commit -qm new; echo y > loose; echo z >> README;"
        "git rm -q .gitignore; touch .git/index.lock"
    )
    came = desk.home()
    assert came.committed
    assert came.commit is not None
    assert set(desk.files(came.commit)) == {"README", "loose", "new"}
    assert "Work in progress" in desk.in_hub("log", "-1", "--format=%s", came.commit)


def test_ignored_files_are_not_committed(desk: Desk) -> None:
    desk.session("mkdir ignored; echo secret > ignored/file")
    came = desk.home()
    assert (came.commit, came.committed, came.problem) == (None, False, "")


def test_a_session_without_work_makes_no_branch(desk: Desk) -> None:
    desk.session("true")
    came = desk.home()
    assert (came.commit, came.saved, came.committed, came.problem) == (None, (), False, "")
    assert "swarm/" not in desk.in_hub("for-each-ref")


def test_a_second_attempt_goes_on_and_a_rewritten_branch_is_saved_aside(desk: Desk) -> None:
    desk.session("git commit -q --allow-empty -m one")
    first = desk.home().commit
    assert first is not None
    desk.start, desk.fence = first, 2
    desk.session("git commit -q --allow-empty -m two")
    second = desk.home().commit
    assert desk.in_hub("rev-list", "--count", f"{desk.hub.tip}..{second}") == "2"
    desk.start, desk.fence = second or "", 3
    desk.session("git reset -q --hard HEAD~2; git commit -q --allow-empty -m other")
    came = desk.home()
    assert came.commit == second, "the branch only goes forward"
    assert came.saved == (desk.salvage,)
    assert desk.in_hub("rev-parse", desk.salvage) == tip_in_clone(desk)
    desk.session("git reset -q --hard HEAD~2; git commit -q --allow-empty -m third")
    again = desk.home()
    assert again.saved
    assert again.saved != came.saved, "an earlier rescue is never overwritten"


@pytest.mark.parametrize("where", ["git checkout -q -b feature", "git checkout -q --detach"])
def test_work_that_went_on_elsewhere_is_the_branchs(desk: Desk, where: str) -> None:
    desk.session(f"git commit -q --allow-empty -m one; {where}; echo x > f; git add f;"
                 "git commit -qm two; echo y > g")  # fmt: skip
    came = desk.home()
    assert came.commit == tip_in_clone(desk)
    assert set(desk.files(came.commit or "")) >= {"f", "g"}
    assert came.saved == ()


def test_work_elsewhere_that_is_no_continuation_is_saved(desk: Desk) -> None:
    desk.session("git checkout -q --orphan fresh; echo x > f; git add -A; git commit -qm orphan;")
    came = desk.home()
    orphan = tip_in_clone(desk)
    assert came.commit == orphan or desk.in_hub("rev-parse", *came.saved) == orphan
    assert homecoming.unsaved_commits(desk.hub.path, [orphan]) == []


def test_a_refused_fetch_leaves_nothing_unsaved(desk: Desk) -> None:
    """Objects that are there without a reference do not count as saved."""
    desk.session("git commit -q --allow-empty -m lost")
    lost = tip_in_clone(desk)
    place = {"refs/heads/main": lost}
    assert homecoming.unsaved_commits(desk.hub.path, [lost, desk.hub.tip]) == [lost]
    homecoming.fetch_ids(desk.workspace, desk.hub.path, {"refs/agentctl/x": lost},
                         desk.confinement())  # fmt: skip
    desk.in_hub("update-ref", "-d", "refs/agentctl/x")
    assert homecoming.unsaved_commits(desk.hub.path, [lost]) == [lost]
    assert place


# -- a hostile repository -----------------------------------------------------------------------

RAN = "ran-outside"


def booby_trap(desk: Desk) -> str:
    """A script that proves that it ran outside of the containment, by writing where it may not."""
    return f"touch {desk.root}/{RAN}; touch {desk.root}/base/{RAN}"


TRAPS: dict[str, Callable[[str], str]] = {
    "fsmonitor": lambda trap: f"git config core.fsmonitor '{trap}; false'",
    "clean filter": lambda trap: (
        f"git config filter.t.clean '{trap}; cat'; git config filter.t.smudge '{trap}; cat';"
        "echo '* filter=t' > .gitattributes"
    ),
    "hooks": lambda trap: (
        "mkdir -p .git/hooks; for h in pre-commit post-commit commit-msg post-checkout "
        "reference-transaction post-index-change pre-auto-gc; do "
        f"printf '#!/bin/sh\\n{trap}\\n' > .git/hooks/$h; chmod +x .git/hooks/$h; done"
    ),
    "hooks path": lambda trap: (
        f"mkdir h; printf '#!/bin/sh\\n{trap}\\n' > h/pre-commit; chmod +x h/pre-commit;"
        "git config core.hooksPath $PWD/h"
    ),
    "pack objects hook": lambda trap: f"git config uploadpack.packObjectsHook '{trap}; false'",
    "lazy fetch": lambda trap: (
        "git config extensions.partialClone evil; git config core.repositoryFormatVersion 1;"
        f"git config remote.evil.url ext::sh; git config protocol.ext.allow always;"
        f"git config remote.evil.promisor true; git config remote.evil.uploadpack '{trap}'"
    ),
    "alternate refs": lambda trap: f"git config core.alternateRefsCommand '{trap}'",
    "ssh, pager, editor": lambda trap: (
        f"git config core.sshCommand '{trap}'; git config core.pager '{trap}';"
        f"git config core.editor '{trap}'; git config pager.upload-pack '{trap}';"
        f"git config alias.upload-pack '!{trap}'; git config gpg.program '{trap}';"
        "git config commit.gpgSign true; git config core.gitProxy x"
    ),
    "work tree elsewhere": lambda trap: "git config core.worktree /etc",
    "included configuration": lambda trap: (
        f"printf '[core]\\nfsmonitor = \"{trap}\"\\n' > inc; git config include.path $PWD/inc"
    ),
}


@pytest.mark.parametrize("trap", list(TRAPS))
def test_no_trap_of_a_session_runs_outside(desk: Desk, trap: str) -> None:
    source, hub_refs = fingerprint(desk.source), desk.in_hub("for-each-ref", "refs/heads/main")
    desk.session(
        f"echo x > new; git add new; git commit -qm new; {TRAPS[trap](booby_trap(desk))};"
        "echo y > loose"
    )
    came = desk.home()
    assert not list(desk.root.rglob(RAN))
    assert came.commit is not None, came.problem
    assert came.problem == ""
    assert "loose" in desk.files(came.commit)
    assert fingerprint(desk.source) == source
    assert desk.in_hub("for-each-ref", "refs/heads/main") == hub_refs
    desk.in_hub("fsck", "--strict")
    desk.task = "t-2"
    desk.session("git status | cat")
    assert not list(desk.root.rglob(RAN))


def test_borrowing_from_a_private_repository_brings_nothing_home(desk: Desk) -> None:
    """A session that points its objects and references at a repository it cannot read."""
    private = make_source(desk.root / "private")
    (private / "secret").write_text("secret")
    sh_git(private, "add", "-A")
    sh_git(private, "commit", "-q", "-m", "secret")
    secret = sh_git(private, "rev-parse", "HEAD")
    desk.session("git commit -q --allow-empty -m one")
    gitdir = desk.repo / ".git"
    with open(gitdir / "objects/info/alternates", "a") as file:
        file.write(f"{private}/.git/objects\n")
    (gitdir / "refs/heads" / desk.branch).write_text(f"{secret}\n")
    came = desk.home()
    assert came.problem
    assert homecoming.unsaved_commits(desk.hub.path, [secret]) == [secret]
    with pytest.raises(AssertionError):
        desk.in_hub("cat-file", "-p", f"{secret}:secret")


def test_linked_object_folders_bring_nothing_home(desk: Desk) -> None:
    private = make_source(desk.root / "private")
    sh_git(private, "commit", "-q", "--allow-empty", "-m", "secret")
    secret = sh_git(private, "rev-parse", "HEAD")
    desk.session("git commit -q --allow-empty -m one")
    gitdir = desk.repo / ".git"
    for folder in (private / ".git/objects").iterdir():
        place = gitdir / "objects" / folder.name
        if len(folder.name) == 2 and not place.exists():
            place.symlink_to(folder)
    (gitdir / "refs/heads" / desk.branch).write_text(f"{secret}\n")
    assert desk.home().problem
    assert homecoming.unsaved_commits(desk.hub.path, [secret]) == [secret]


@pytest.mark.parametrize("damage", ["object", "index", "empty-ref"])
def test_a_damaged_clone_corrupts_nothing(desk: Desk, damage: str) -> None:
    desk.session("echo x > new; git add new; git commit -qm new; echo loose > loose")
    gitdir = desk.repo / ".git"
    if damage == "object":
        for path in (gitdir / "objects").rglob("??/*"):
            path.chmod(0o600)
            path.write_bytes(b"rubbish")
    elif damage == "index":
        (gitdir / "index").write_bytes(b"rubbish")
    else:
        (gitdir / "refs/heads" / desk.branch).write_text("")
    came = desk.home()
    assert came.problem
    assert (desk.repo / "loose").read_text() == "loose\n", "what cannot come home stays"
    desk.in_hub("fsck", "--strict")


def test_the_same_without_a_file_sandbox(desk: Desk) -> None:
    """``sandbox: off``, or a kernel without Landlock: still nothing of the session's is trusted."""
    desk.session(
        f"git config core.fsmonitor '{booby_trap(desk)}; false';"
        f"git config uploadpack.packObjectsHook '{booby_trap(desk)}';"
        "echo x > new; git add -A; git commit -qm new"
    )
    confinement = desk.confinement()
    off = Confinement(marker=confinement.marker, tmp=confinement.tmp)
    desk.confinement = lambda out="", env=None: off  # type: ignore[method-assign]
    came = desk.home()
    assert came.problem == ""
    assert came.commit == tip_in_clone(desk, f"refs/heads/{desk.branch}")
    assert not list(desk.root.rglob(RAN))


def test_mutant_a_fetch_that_sees_everything_is_caught(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted bug: alternates are not put right and the fetch is not contained."""
    victim = make_source(desk.root / "victim")
    sh_git(victim, "commit", "-q", "--allow-empty", "-m", "theirs")
    theirs = sh_git(victim, "rev-parse", "HEAD")
    desk.session("git commit -q --allow-empty -m one")
    (desk.repo / ".git" / "refs/heads" / desk.branch).write_text(f"{theirs}\n")
    with open(desk.repo / ".git/objects/info/alternates", "a") as file:
        file.write(f"{victim}/.git/objects\n")
    monkeypatch.setattr(homecoming, "freshen", lambda workspace: None)
    monkeypatch.setattr(homecoming, "contained", lambda workspace, like, read, write: Confinement())
    desk.home()
    assert homecoming.unsaved_commits(desk.hub.path, [theirs]) == []


def test_a_clone_that_is_gone_is_a_problem_not_a_crash(desk: Desk) -> None:
    desk.session("git commit -q --allow-empty -m one")
    first = desk.home()
    os.rename(desk.repo / ".git", Path(desk.root) / "elsewhere")
    assert clone_problem(desk.workspace)
    came = desk.home()
    assert came.problem
    assert came.commit == first.commit


def test_work_of_an_interrupted_attempt_makes_way_for_the_holders(desk: Desk) -> None:
    """Its daemon was killed, and brought it home only after the next attempt had begun."""
    desk.session("git commit -q --allow-empty -m interrupted")
    interrupted = desk.home().commit
    desk.fence = 2
    desk.session("git commit -q --allow-empty -m finished; echo x > loose")
    came = desk.home(holder=True)
    finished = tip_in_clone(desk)
    assert came.commit == branch_tip(desk.hub.path, desk.branch) == finished
    assert came.saved == (desk.salvage,)
    assert desk.in_hub("rev-parse", desk.salvage) == interrupted
    assert "loose" in desk.files(finished)
    assert desk.home(holder=True).saved == (), "doing it again changes nothing"


def test_an_interrupted_attempt_that_comes_late_makes_way_for_nothing(desk: Desk) -> None:
    desk.session("git commit -q --allow-empty -m finished")
    finished = desk.home(holder=True).commit
    desk.session("git commit -q --allow-empty -m interrupted")
    came = desk.home()
    assert came.commit == branch_tip(desk.hub.path, desk.branch) == finished
    assert came.saved == (desk.salvage,)


def test_what_git_cannot_take_keeps_nothing_else_back(desk: Desk) -> None:
    desk.session("echo x > loose; mkdir sub; cd sub; git init -q; echo y > inner")
    mark_in_use(desk.workspace)
    came = desk.home()
    assert "sub" in came.problem
    assert "loose" in desk.files(came.commit or "")
    assert (desk.repo / "sub" / "inner").exists(), "what is not saved stays"
    assert is_in_use(desk.workspace)


def test_what_is_committed_and_not_in_the_hub_keeps_the_clone_in_use(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next attempt's checkout moves the branch away from it, and nobody knows of it."""
    desk.session("git commit -q --allow-empty -m one; echo x > loose")
    mark_in_use(desk.workspace)
    with monkeypatch.context() as patched:
        patched.setattr(homecoming, "fetch_ids", lambda *a, **k: "fatal: killed")
        assert "killed" in desk.home().problem
    assert is_in_use(desk.workspace)
    came = desk.home()
    assert not came.problem
    assert came.commit == sh_git(desk.repo, "rev-parse", "HEAD")
    assert not is_in_use(desk.workspace)


def test_a_lock_that_a_killed_fetch_left_is_outlived(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the work would be saved aside, and its task done without it."""
    monkeypatch.setattr(moving, "STALE_SECONDS", 0.2)
    desk.session("echo x > new; git add new; git commit -qm new")
    lock = Path(desk.hub.path, "refs", "heads", f"{desk.branch}.lock")
    lock.parent.mkdir(parents=True)
    lock.write_text("")
    came = desk.home()
    assert came.commit == branch_tip(desk.hub.path, desk.branch) == tip_in_clone(desk)
    assert (came.saved, came.problem) == ((), "")


def test_a_repository_within_is_not_taken_for_saved(desk: Desk) -> None:
    """Git commits its name, and none of its files."""
    desk.session("echo x > loose; git init -q sub; cd sub; git commit -q --allow-empty -m inner")
    mark_in_use(desk.workspace)
    came = desk.home()
    assert "sub" in came.problem
    assert "loose" in desk.files(came.commit or "")
    assert is_in_use(desk.workspace)
