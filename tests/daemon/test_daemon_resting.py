"""The clone between two tasks, and a session that begins on it without git's help."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from swarm_support import git, make_repository

from swarm.daemon import launching, memory
from swarm.daemon.cloning import confinement_of, make_clone
from swarm.daemon.launching import _prelude
from swarm.daemon.resting import rest
from swarm.daemon.state import MakeClone
from swarm.spawner.author import git_identity
from swarm.spawner.clone import ensure_clone, is_in_use, mark_in_use, take_branch
from swarm.spawner.homecoming import Homecoming, bring_home
from swarm.spawner.hub import Hub, ensure_hub
from swarm.spawner.janitor import tidy
from swarm.spawner.workspace import Brief, Workspace, make_workspace
from swarm.wire.lifeline import RepoWork

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

BRANCH = "swarm/swarm-builder-001/t-1"


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    make_repository(tmp_path / "project")
    return ensure_hub(tmp_path / "hub.git", str(tmp_path / "project"), "main")


@pytest.fixture
def workspace(tmp_path: Path, hub: Hub) -> Workspace:
    made = make_workspace(
        str(tmp_path / "agents"), "swarm-builder-001", "home", Brief("builder", "", "#agents")
    )
    make_clone(made, MakeClone(str(hub.path), "shared"), confinement_of(made, sandboxed=True))
    return made


def work(hub: Hub, **changes: str) -> RepoWork:
    values = {"branch": BRANCH, "start": hub.tip, "base": hub.tip, **changes}
    return RepoWork(hub=str(hub.path), source=None, target="main", **values)


def test_a_clone_made_ahead_holds_the_target_already(workspace: Workspace, hub: Hub) -> None:
    assert memory.resting_at(workspace) == hub.tip
    assert (Path(workspace.repo) / "README.md").exists()


def test_a_session_from_there_needs_no_git(workspace: Workspace, hub: Hub) -> None:
    assert _prelude(workspace, work(hub), {}) == ()
    repo = Path(workspace.repo)
    assert git(repo, "symbolic-ref", "HEAD") == f"refs/heads/{BRANCH}"
    assert git(repo, "rev-parse", "HEAD") == hub.tip
    assert git(repo, "status", "--porcelain") == ""
    assert git(repo, "fsck", "--strict") == ""


def test_what_starts_elsewhere_is_checked_out_by_git(
    workspace: Workspace, hub: Hub, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    git(project, "commit", "-q", "--allow-empty", "-m", "second")
    later = ensure_hub(hub.path, str(project), "main")
    (step, update) = _prelude(workspace, work(later), {})
    assert "checkout" in step.argv
    assert "update-ref" in update.argv


def test_a_clone_that_was_used_is_not_trusted_until_it_rests(
    workspace: Workspace, hub: Hub
) -> None:
    memory.mark_used(workspace)
    (Path(workspace.repo) / "left").write_text("x")
    assert [step.argv[-4] for step in _prelude(workspace, work(hub), {})][:1] == [BRANCH]
    rest(workspace, str(hub.path), "shared", hub.tip, confinement_of(workspace, sandboxed=True))
    assert not (Path(workspace.repo) / "left").exists()
    assert _prelude(workspace, work(hub), {}) == ()


@pytest.mark.parametrize("planted", ["link", "file"])
def test_no_link_in_the_way_of_the_branch_is_followed(
    workspace: Workspace, hub: Hub, tmp_path: Path, planted: str
) -> None:
    heads = Path(workspace.repo, ".git", "refs", "heads")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if planted == "link":
        os.symlink(elsewhere, heads / "swarm")
    else:
        (heads / "swarm").write_text(f"{hub.tip}\n")
    assert not take_branch(workspace.repo, BRANCH, hub.tip)
    assert not list(elsewhere.iterdir())
    assert launching.memory.resting_at(workspace) == hub.tip


def test_a_checkout_that_was_cut_short_is_no_work_of_anybodys(
    workspace: Workspace, hub: Hub
) -> None:
    """The files of the start that were not written yet must not become a commit that deletes."""
    os.unlink(Path(workspace.repo) / "README.md")
    home = _home(workspace, hub)
    assert (home.commit, home.committed, home.saved, home.problem) == (None, False, (), "")
    report = tidy(workspace, "home", confinement_of(workspace, sandboxed=True))
    assert (report.removed, report.salvaged, report.problem) == (True, (), "")


def test_a_clone_that_was_never_checked_out_holds_no_work(tmp_path: Path, hub: Hub) -> None:
    made = make_workspace(
        str(tmp_path / "others"), "swarm-qa-001", "home", Brief("qa", "", "#agents")
    )
    ensure_clone(made, str(hub.path), "shared")
    report = tidy(made, "home", confinement_of(made, sandboxed=True))
    assert (report.removed, report.salvaged) == (True, ())


def test_a_checkout_onto_a_resumed_branch_cut_short_is_no_work_either(
    workspace: Workspace, hub: Hub
) -> None:
    assert _prelude(workspace, work(hub), {}) == ()
    memory.mark_used(workspace)
    assert _prelude(workspace, work(hub), {}), "the same branch again, by git"
    os.unlink(Path(workspace.repo) / "README.md")
    assert not _home(workspace, hub).committed


def test_what_a_session_left_is_committed_wherever_it_went(workspace: Workspace, hub: Hub) -> None:
    assert _prelude(workspace, work(hub), {}) == ()
    mark_in_use(workspace)
    git(Path(workspace.repo), "checkout", "-q", "--detach")
    (Path(workspace.repo) / "new.txt").write_text("x")
    home = _home(workspace, hub)
    assert home.committed
    assert home.commit is not None
    assert not is_in_use(workspace)


def _home(workspace: Workspace, hub: Hub) -> Homecoming:
    return bring_home(
        workspace,
        hub=str(hub.path),
        branch=BRANCH,
        start=hub.tip,
        agent=workspace.name,
        task="t-1",
        fence=1,
        identity=git_identity("", "", workspace.name),
        confinement=confinement_of(workspace, sandboxed=True),
    )
