"""A workspace goes only when everything worth keeping is in the hub."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import msgspec
import pytest
from spawner_support import AGENT, HOME_ID, Desk, make_source, sh_git

from swarm.spawner import janitor
from swarm.spawner.clone import ensure_clone, mark_in_use
from swarm.spawner.homecoming import unsaved_commits
from swarm.spawner.hub import branch_tip, ensure_hub, hub_path
from swarm.spawner.janitor import tidy
from swarm.spawner.workspace import set_aside
from swarm.wire.framing import LineBuffer
from swarm.wire.lifeline import ChildLine, Hello, Ready, Tidied, from_child
from swarm.wire.spawn import JanitorSpec

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def test_everything_is_salvaged_and_the_workspace_removed(desk: Desk) -> None:
    desk.session(
        "git commit -q --allow-empty -m one; git checkout -q -b side; echo s > side; git add -A;"
        "git commit -qm side; git tag kept; echo st > stashed; git stash -q -u;"
        f"git checkout -q {desk.branch}; echo loose > loose"
    )
    ids = {name: sh_git(desk.repo, "rev-parse", name) for name in ("side", "stash", "kept")}
    report = tidy(desk.workspace, HOME_ID, desk.confinement())
    assert report.removed, report.problem
    assert not os.path.exists(desk.workspace.path)
    assert unsaved_commits(desk.hub.path, list(ids.values())) == []
    assert f"refs/heads/{desk.branch}" in report.salvaged
    assert "loose" in desk.files(branch_tip(desk.hub.path, desk.branch) or "")
    named = {desk.in_hub("rev-parse", ref) for ref in report.salvaged}
    assert {ids["side"], ids["stash"]} <= named
    desk.in_hub("fsck", "--strict")


def test_nothing_to_salvage_is_told_so(desk: Desk) -> None:
    desk.session("git commit -q --allow-empty -m one")
    desk.home()
    before = desk.in_hub("for-each-ref")
    assert tidy(desk.workspace, HOME_ID, desk.confinement()) == janitor.TidyReport(True, (), "")
    assert desk.in_hub("for-each-ref") == before
    assert tidy(desk.workspace, HOME_ID, desk.confinement()).removed, "it may be gone already"


def test_a_parked_clone_is_salvaged_into_its_own_hub(desk: Desk) -> None:
    desk.session("git commit -q --allow-empty -m one; echo x > loose")
    other = make_source(desk.root / "other")
    second = ensure_hub(hub_path(desk.root / "hub", str(other)), str(other), "main")
    ensure_clone(desk.workspace, second.path)
    report = tidy(desk.workspace, HOME_ID, desk.confinement())
    assert report.removed, report.problem
    assert "loose" in desk.files(branch_tip(desk.hub.path, desk.branch) or "")
    assert sh_git(second.path, "for-each-ref", "refs/heads/swarm") == ""


def test_a_diverged_branch_goes_aside(desk: Desk) -> None:
    desk.session("git commit -q --allow-empty -m one")
    first = desk.home().commit
    desk.session("git commit -q --allow-empty -m other")  # from the same start again
    report = tidy(desk.workspace, HOME_ID, desk.confinement())
    assert report.removed, report.problem
    assert branch_tip(desk.hub.path, desk.branch) == first
    assert report.salvaged == (f"refs/agentctl/salvage/{AGENT}/{desk.branch}",)


def stays(desk: Desk, word: str) -> None:
    report = tidy(desk.workspace, HOME_ID, desk.confinement())
    assert not report.removed
    assert word in report.problem, report.problem
    assert "\n" not in report.problem
    assert (desk.repo / "loose").exists() or not desk.repo.exists()


def test_work_that_cannot_be_saved_stays(desk: Desk) -> None:
    """Never removed: a damaged index, a repository within, no hub, a broken clone, another's."""
    desk.session("echo loose > loose")
    index = desk.repo / ".git" / "index"
    good = index.read_bytes()
    index.write_bytes(b"rubbish")
    stays(desk, "cannot be committed")
    index.write_bytes(good)
    make_source(desk.repo / "inner")
    stays(desk, "a repository of its own")
    os.rename(desk.repo / "inner", desk.root / "inner")
    os.rename(desk.hub.path, f"{desk.hub.path}.away")
    stays(desk, "no hub that is there")
    os.rename(f"{desk.hub.path}.away", desk.hub.path)
    report = tidy(desk.workspace, "other", desk.confinement())
    assert not report.removed
    (desk.repo / ".git" / "HEAD").rename(desk.root / "HEAD")
    stays(desk, "may hold work")
    (desk.root / "HEAD").rename(desk.repo / ".git" / "HEAD")
    assert tidy(desk.workspace, HOME_ID, desk.confinement()).removed


def test_a_clone_set_aside_is_brought_home_where_it_is_sound(desk: Desk) -> None:
    """Often it was only set aside because no file could be opened for a second."""
    desk.session("git commit -q --allow-empty -m one; echo loose > loose")
    commit = sh_git(desk.repo, "rev-parse", "HEAD")
    mark_in_use(desk.workspace)
    set_aside(desk.workspace)
    ensure_clone(desk.workspace, desk.hub.path)
    report = tidy(desk.workspace, HOME_ID, desk.confinement())
    assert report.removed, report.problem
    assert report.salvaged == (f"refs/heads/{desk.branch}",)
    assert unsaved_commits(desk.hub.path, [commit]) == []
    assert desk.in_hub("show", f"{desk.branch}:loose") == "loose"


@pytest.mark.parametrize("broken", ["gone", "link", "no-record"])
def test_a_clone_set_aside_that_is_not_sound_stays(desk: Desk, broken: str) -> None:
    desk.session("echo loose > loose")
    match broken:
        case "gone":
            os.rename(desk.repo / ".git", desk.root / "stolen")
        case "link":
            os.rename(desk.repo, desk.root / "moved")
            desk.repo.symlink_to(desk.root / "moved")
        case _:
            os.unlink(os.path.join(desk.workspace.private, "clone"))
    set_aside(desk.workspace)
    report = tidy(desk.workspace, HOME_ID, desk.confinement())
    assert not report.removed
    assert "look at it" in report.problem


def test_a_hub_that_refuses_keeps_the_workspace(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.session("echo loose > loose")
    monkeypatch.setattr(janitor, "fetch_ids", lambda *a, **k: "fatal: disk full")
    stays(desk, "disk full")


def test_mutant_a_janitor_that_does_not_look_in_the_hub_is_caught(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted bug: everything is taken for saved."""
    desk.session("git commit -q --allow-empty -m one")
    lost = sh_git(desk.repo, "rev-parse", "HEAD")
    monkeypatch.setattr(janitor, "never_home", lambda hub, ids: [])
    assert tidy(desk.workspace, HOME_ID, desk.confinement()).removed
    assert unsaved_commits(desk.hub.path, [lost]) == [lost]


def test_the_process_reports_each_on_its_lifeline(desk: Desk) -> None:
    desk.session("echo loose > loose")
    theirs = desk.root / "base" / "swarm-builder-002"
    theirs.mkdir()
    spec = JanitorSpec(str(desk.root), HOME_ID, (desk.workspace.path, str(theirs)))
    ours, childs = socket.socketpair()
    with ours:
        assert janitor.main(childs.detach(), msgspec.json.encode(spec)) == 1
        lines: list[ChildLine] = []
        buffer = LineBuffer()
        while data := ours.recv(65536):
            lines += [from_child(line) for line in buffer.feed(data)]
    assert [type(line) for line in lines] == [Hello, Ready, Tidied, Tidied]
    first, second = lines[2:]
    assert isinstance(first, Tidied)
    assert isinstance(second, Tidied)
    assert (first.workspace, first.removed) == (desk.workspace.path, True)
    assert first.salvaged == (f"refs/heads/{desk.branch}",)
    assert not second.removed
    assert second.problem
    assert Path(theirs).is_dir()
