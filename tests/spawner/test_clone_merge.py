"""The target merged into a task's branch before its session, and conflicts that are left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from spawner_support import AGENT, Desk, sh_git

from swarm.errors import GitError
from swarm.spawner import homecoming
from swarm.spawner.author import git_identity
from swarm.spawner.clone import HANDED, author_in_use, is_in_use, leave_note, mark_in_use
from swarm.spawner.clone_merge import Handed, Merged, handed_over, marked, merge_target
from swarm.spawner.hub import ensure_hub
from swarm.spawner.janitor import tidy
from swarm.spawner.refs import read_ref
from swarm.wire.lifeline import RepoWork

ANN = git_identity("Ann", "ann@example.org", AGENT)


def moved_on(desk: Desk, name: str, text: str) -> str:
    """The source has one more commit, and the hub has it; its id."""
    (desk.source / name).write_text(text)
    sh_git(desk.source, "add", "-A")
    sh_git(desk.source, "commit", "-q", "-m", f"theirs: {name}")
    desk.hub = ensure_hub(Path(desk.hub.path), str(desk.source), "main")
    return desk.hub.tip


def repo_work(desk: Desk, start: str, base: str) -> RepoWork:
    return RepoWork(
        desk.hub.path,
        str(desk.source),
        "main",
        desk.branch,
        start,
        base,
        "Ann",
        "ann@example.org",
        desk.mode,
        merge=base,
    )


def merge(desk: Desk, start: str, base: str) -> Merged:
    return merge_target(desk.workspace, repo_work(desk, start, base), ANN, desk.confinement())


def began(desk: Desk, script: str) -> str:
    """A first attempt's work, brought home; the branch's tip."""
    desk.session(script)
    came = desk.home()
    assert came.commit
    return came.commit


@pytest.fixture
def in_conflict(desk: Desk) -> tuple[Desk, Merged, str, str]:
    """A branch and a target that changed the same line, merged and left so."""
    start = began(desk, "echo ours > same.txt; git add -A; git commit -qm ours")
    base = moved_on(desk, "same.txt", "theirs\n")
    merged = merge(desk, start, base)
    mark_in_use(desk.workspace, ("Ann", "ann@example.org"))  # as when the program has started
    desk.start = start
    return desk, merged, start, base


def test_a_moved_target_is_merged_before_the_session(desk: Desk) -> None:
    start = began(desk, "echo ours > ours.txt; git add -A; git commit -qm ours")
    base = moved_on(desk, "theirs.txt", "theirs\n")
    merged = merge(desk, start, base)
    assert merged.conflicts == ()
    assert (desk.repo / "theirs.txt").read_text() == "theirs\n"
    assert (desk.repo / "ours.txt").exists()
    assert read_ref(f"{desk.repo}/.git", "HEAD") == merged.start
    desk.start = start
    came = desk.home()
    assert came.commit == merged.start
    assert desk.in_hub("log", "-1", "--format=%P", merged.start).split() == [start, base]
    who = desk.in_hub("log", "-1", "--format=%an <%ae> %cn", merged.start)
    assert who == f"Ann <ann@example.org> {AGENT}"


def test_a_target_the_branch_has_already_changes_nothing(desk: Desk) -> None:
    base = desk.hub.tip
    start = began(desk, "echo ours > ours.txt; git add -A; git commit -qm ours")
    assert merge(desk, start, base) == Merged(start)


def test_a_conflict_is_left_in_the_work_tree_and_named(
    in_conflict: tuple[Desk, Merged, str, str],
) -> None:
    desk, merged, start, base = in_conflict
    assert merged == Merged(start, ("same.txt",))
    assert "<<<<<<<" in (desk.repo / "same.txt").read_text()
    assert read_ref(f"{desk.repo}/.git", "MERGE_HEAD") == base


def test_a_resolved_conflict_comes_home_as_the_merge(
    in_conflict: tuple[Desk, Merged, str, str],
) -> None:
    desk, merged, start, base = in_conflict
    (desk.repo / "same.txt").write_text("both\n")
    came = desk.home(holder=True)  # what it did not commit is committed for it
    # An index that still says "in conflict" is no resolution, whatever the file looks like.
    assert came.unresolved == ("same.txt",)
    assert came.commit == start
    sh_git(desk.repo, "checkout", "-q", "-f", desk.branch)
    merged = merge_again(desk, start, base)
    (desk.repo / "same.txt").write_text("both\n")
    sh_git(desk.repo, "add", "-A")
    came = desk.home(holder=True)
    assert came.unresolved == ()
    assert came.commit is not None
    assert desk.in_hub("log", "-1", "--format=%P", came.commit).split() == [start, base]
    assert marked(desk.hub.path, Handed((start, base), merged.conflicts), came.commit) == ()
    assert came.commit not in desk.in_hub("for-each-ref", "refs/agentctl"), "only looked at there"


def merge_again(desk: Desk, start: str, base: str) -> Merged:
    assert not is_in_use(desk.workspace)
    merged = merge(desk, start, base)
    mark_in_use(desk.workspace)
    return merged


def test_an_unresolved_conflict_is_saved_beside_the_branch(
    in_conflict: tuple[Desk, Merged, str, str],
) -> None:
    desk, _, start, base = in_conflict
    (desk.repo / "new.txt").write_text("half done\n")
    came = desk.home(holder=True)
    assert (came.commit, came.unresolved, came.problem) == (start, ("same.txt",), "")
    assert came.saved == (desk.salvage,)
    assert "<<<<<<<" in desk.in_hub("show", f"{desk.salvage}:same.txt")
    assert desk.in_hub("show", f"{desk.salvage}:new.txt") == "half done"
    assert read_ref(desk.hub.path, f"refs/heads/{desk.branch}") == start
    assert merge_again(desk, start, base).conflicts == ("same.txt",), "the next one begins anew"


def test_a_helper_killed_between_commit_and_fetch_does_not_make_it_good_work(
    in_conflict: tuple[Desk, Merged, str, str],
) -> None:
    desk, _, start, _ = in_conflict
    assert homecoming.commit_leftovers(desk.workspace, "saved", ANN, desk.confinement())
    assert read_ref(f"{desk.repo}/.git", "HEAD") != start
    came = desk.home(holder=True)
    assert (came.commit, came.unresolved) == (start, ("same.txt",))
    assert came.saved == (desk.salvage,)


def test_mutant_leftovers_that_are_only_added_take_markers_for_work(
    in_conflict: tuple[Desk, Merged, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, _, start, _ = in_conflict
    monkeypatch.setattr(homecoming, "unmerged", lambda *_: ())
    monkeypatch.setattr(homecoming, "handed_over", lambda *_: None)
    came = desk.home(holder=True)
    assert came.commit != start
    assert "<<<<<<<" in desk.in_hub("show", f"{came.commit}:same.txt")


def commits_markers(desk: Desk) -> str:
    """The session takes the conflict for resolved; its commit."""
    sh_git(desk.repo, "-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qam", "done!")
    return sh_git(desk.repo, "rev-parse", "HEAD")


def test_markers_that_were_committed_are_seen(in_conflict: tuple[Desk, Merged, str, str]) -> None:
    desk, merged, start, base = in_conflict
    commits_markers(desk)
    (desk.repo / "new.txt").write_text("half done\n")
    came = desk.home(holder=True)
    assert (came.commit, came.unresolved, came.problem) == (start, ("same.txt",), "")
    assert came.saved == (desk.salvage,), "the next one must not take them for the branch"
    assert desk.in_hub("show", f"{desk.salvage}:new.txt") == "half done"
    tip, sides, names = desk.in_hub("rev-parse", desk.salvage), (start, base), merged.conflicts
    assert marked(desk.hub.path, Handed(sides, names), tip) == ("same.txt",)
    assert marked(desk.hub.path, Handed(sides, ()), tip) == ()
    assert marked(desk.hub.path, Handed((tip, base), names), tip) == ()
    with pytest.raises(GitError):
        marked(desk.hub.path, Handed(("0" * 40, base), names), tip)
    assert merge_again(desk, start, base).conflicts == ("same.txt",), "the next one begins anew"


def test_lines_like_markers_are_seen_only_where_the_conflict_was(
    in_conflict: tuple[Desk, Merged, str, str],
) -> None:
    desk, _, start, _ = in_conflict
    (desk.repo / "same.txt").write_text("both\n")
    (desk.repo / "howto.md").write_text("<<<<<<< HEAD\nours\n=======\ntheirs\n>>>>>>> main\n")
    sh_git(desk.repo, "add", "-A")
    came = desk.home(holder=True)
    assert (came.unresolved, came.saved) == ((), ())
    assert came.commit not in (None, start)


def test_an_underline_of_seven_is_taken_for_a_marker(
    in_conflict: tuple[Desk, Merged, str, str],
) -> None:
    desk, _, _, _ = in_conflict
    (desk.repo / "same.txt").write_text("Install\n=======\nboth\n")
    sh_git(desk.repo, "add", "-A")
    assert desk.home(holder=True).unresolved == ("same.txt",)


@pytest.mark.parametrize("parts", [(), ("0" * 40, "1" * 40, "same.txt"), ("-x", "y", "same.txt")])
def test_a_note_that_a_session_wrote_over_says_nothing_and_stops_nothing(
    in_conflict: tuple[Desk, Merged, str, str], parts: tuple[str, ...]
) -> None:
    desk, _, start, base = in_conflict
    assert handed_over(str(desk.repo), desk.hub.path) == Handed((start, base), ("same.txt",))
    leave_note(str(desk.repo), HANDED, parts)
    assert handed_over(str(desk.repo), desk.hub.path) is None
    (desk.repo / "same.txt").write_text("both\n")
    sh_git(desk.repo, "add", "-A")
    came = desk.home(holder=True)
    assert (came.unresolved, came.problem) == ((), "")


@pytest.mark.parametrize("resolved", [False, True])
def test_the_janitor_takes_no_committed_markers_onto_the_branch(
    in_conflict: tuple[Desk, Merged, str, str], resolved: bool
) -> None:
    """Of a daemon that was killed: the next attempt would take them for its own good work."""
    desk, _, start, _ = in_conflict
    if resolved:
        (desk.repo / "same.txt").write_text("both\n")
    made = commits_markers(desk)
    report = tidy(desk.workspace, (Path(desk.workspace.private) / "owner").read_text(),
                  desk.confinement())  # fmt: skip
    assert report.removed, report.problem
    branch = f"refs/heads/{desk.branch}"
    assert read_ref(desk.hub.path, branch) == (made if resolved else start)
    (place,) = report.salvaged
    assert (place == branch) is resolved
    assert desk.in_hub("rev-parse", place) == made


def test_a_name_that_looks_like_a_pattern_is_a_name(desk: Desk) -> None:
    name = ":(glob)*\n.txt"
    (desk.source / name).write_text("old\n")
    sh_git(desk.source, "add", "-A")
    sh_git(desk.source, "commit", "-q", "-m", "odd")
    desk.hub = ensure_hub(Path(desk.hub.path), str(desk.source), "main")
    start = began(desk, f"echo ours > '{name}'; git commit -qam ours")
    base = moved_on(desk, name, "theirs\n")
    merged = merge(desk, start, base)
    assert merged.conflicts == (name,)


def test_a_clone_git_cannot_use_is_made_anew(desk: Desk) -> None:
    start = began(desk, "echo ours > ours.txt; git add -A; git commit -qm ours")
    base = moved_on(desk, "theirs.txt", "theirs\n")
    (desk.repo / ".git/index").write_bytes(b"no index")
    assert merge(desk, start, base).conflicts == ()
    assert (desk.repo / "theirs.txt").exists()


def test_a_commit_the_hub_does_not_have_is_an_error(desk: Desk) -> None:
    start = began(desk, "echo ours > ours.txt; git add -A; git commit -qm ours")
    with pytest.raises(GitError):
        merge(desk, start, "0" * 39 + "1")


def test_the_janitor_keeps_a_conflict_beside_the_branch_with_the_configured_author(
    in_conflict: tuple[Desk, Merged, str, str],
) -> None:
    desk, _, start, _ = in_conflict
    assert author_in_use(desk.workspace) == ("Ann", "ann@example.org")
    report = tidy(desk.workspace, (Path(desk.workspace.private) / "owner").read_text(),
                  desk.confinement())  # fmt: skip
    assert (report.removed, report.problem) == (True, "")
    (place,) = report.salvaged
    assert place.startswith("refs/agentctl/salvage/")
    assert read_ref(desk.hub.path, f"refs/heads/{desk.branch}") == start
    who = desk.in_hub("log", "-1", "--format=%an <%ae> %cn", place)
    assert who == f"Ann <ann@example.org> {AGENT}"


@pytest.mark.parametrize("parked", [False, True])
def test_what_a_killed_daemon_left_is_committed_by_the_configured_author(
    desk: Desk, parked: bool
) -> None:
    desk.session("echo half > half.txt")
    mark_in_use(desk.workspace, ("Ann", "ann@example.org"))
    if parked:
        place = Path(desk.workspace.private) / "parked" / "x"
        place.mkdir(parents=True)
        for name in ("clone", "clone.config", "in-use"):
            os.rename(f"{desk.workspace.private}/{name}", place / name)
        os.rename(desk.repo, place / "repo")
    report = tidy(desk.workspace, (Path(desk.workspace.private) / "owner").read_text(),
                  desk.confinement())  # fmt: skip
    assert report.removed, report.problem
    assert report.salvaged == (f"refs/heads/{desk.branch}",)
    who = desk.in_hub("log", "-1", "--format=%an <%ae> %cn <%ce>", desk.branch)
    assert who == f"Ann <ann@example.org> {AGENT} <ann@example.org>"
