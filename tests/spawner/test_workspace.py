"""A workspace is made whole or not at all, and only its own home's is ever touched."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
from spawner_support import AGENT, HOME_ID, Desk, fingerprint

from swarm.errors import WorkspaceError
from swarm.spawner import workspace as workspace_module
from swarm.spawner.clone import ensure_clone
from swarm.spawner.context import Earlier, begin_task, end_task
from swarm.spawner.folders import remove_tree, write_whole
from swarm.spawner.identity import load_or_create
from swarm.spawner.workspace import (
    Brief,
    Workspace,
    broken_clones,
    make_workspace,
    mend_workspace,
    owned_workspaces,
    owner,
    prepare_task,
    remove_workspace,
    sweep_half_made,
    taken_names,
    verify_workspace,
)
from swarm.wire.lifeline import RepoWork, Work

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
BRIEF = Brief("builder", "Build what is asked.", "#agents")


@pytest.fixture
def made(home: Path) -> Workspace:
    return make_workspace(str(home / "base"), AGENT, HOME_ID, BRIEF)


def test_layout_modes_and_texts(made: Workspace) -> None:
    names = set(os.listdir(made.path))
    assert names == {".gitignore", "CLAUDE.md", "AGENTS.md", "context.md", ".agentctl", "out",
                     "tmp", "state"}  # fmt: skip
    assert os.stat(made.path).st_mode & 0o777 == 0o700
    assert os.stat(made.private).st_mode & 0o777 == 0o700
    ignored = Path(made.path, ".gitignore").read_text().split()
    assert {"*.key", "*.pem", ".env*", "credentials.json"} <= set(ignored)
    for text in ("CLAUDE.md", "AGENTS.md"):
        assert "Build what is asked." in Path(made.path, text).read_text()
        assert "#agents" in Path(made.path, text).read_text()
    assert owner(made.path) == HOME_ID
    assert verify_workspace(made, HOME_ID) == ()


def test_the_ignore_file_is_written_before_anything_else(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    real = write_whole

    def note(path: str, text: str, mode: int = 0o600) -> None:
        written.append(os.path.basename(path))
        real(path, text, mode)

    monkeypatch.setattr(workspace_module, "write_whole", note)
    make_workspace(str(home), AGENT, HOME_ID, BRIEF)
    assert written[0] == ".gitignore"


def test_making_it_again_keeps_memory_and_identity(made: Workspace) -> None:
    first = load_or_create(made.identity, AGENT)
    Path(made.context).write_text("remembered")
    again = make_workspace(os.path.dirname(made.path), AGENT, HOME_ID, Brief("qa", "New words."))
    assert again == made
    assert load_or_create(made.identity, AGENT) == first
    assert Path(made.context).read_text() == "remembered"
    assert "New words." in Path(made.path, "CLAUDE.md").read_text()


def test_a_failure_half_way_leaves_no_workspace(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: str, text: str, mode: int = 0o600) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(workspace_module, "write_whole", full)
    with pytest.raises(WorkspaceError, match="No space left on device; make room"):
        make_workspace(str(home), AGENT, HOME_ID, BRIEF)
    assert taken_names(str(home)) == set()
    monkeypatch.undo()
    other = home / ".making-0ther-swarm-builder-002"
    other.mkdir()
    assert sweep_half_made(str(home), HOME_ID) == [str(home / f".making-{HOME_ID}-{AGENT}")]
    assert other.is_dir(), "another home's is not ours to clean"
    make_workspace(str(home), AGENT, HOME_ID, BRIEF)


def test_a_file_that_could_not_be_written_whole_leaves_no_part(home: Path) -> None:
    path = home / "prompt.md"
    path.write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # as a full disk
    try:
        with pytest.raises(OSError, match="File too large"):
            write_whole(str(path), "x" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [entry.name for entry in home.iterdir()] == ["prompt.md"]
    assert path.read_text() == "old"


def test_somebody_elses_folder_is_not_touched(home: Path) -> None:
    theirs = home / AGENT
    theirs.mkdir()
    (theirs / "file").write_text("theirs")
    before = fingerprint(home)
    with pytest.raises(WorkspaceError, match="belongs to somebody else"):
        make_workspace(str(home), AGENT, HOME_ID, BRIEF)
    with pytest.raises(WorkspaceError, match="it stays"):
        remove_workspace(Workspace(str(theirs)), HOME_ID)
    with pytest.raises(WorkspaceError, match="it stays"):
        remove_workspace(Workspace(str(theirs)), "")
    assert fingerprint(home) == before
    assert taken_names(str(home)) == {AGENT}
    assert owned_workspaces(str(home), HOME_ID) == []


@pytest.mark.parametrize("name", ["", "..", "x", "swarm-builder-001/../x", "swarm--1", "-rf"])
def test_only_agents_names_become_folders(home: Path, name: str) -> None:
    with pytest.raises(WorkspaceError):
        make_workspace(str(home), name, HOME_ID, BRIEF)
    assert os.listdir(home) == []


@pytest.mark.parametrize("task", ["", "..", "../x", "a/b", ".hidden", "-x", "a\nb", "x" * 300])
def test_only_plain_tasks_become_folders(made: Workspace, task: str) -> None:
    with pytest.raises(WorkspaceError):
        made.out(task)


def test_problems_are_found_and_mended(desk: Desk) -> None:
    made = desk.workspace
    ensure_clone(made, desk.hub.path)
    old = load_or_create(made.identity, AGENT)
    os.chmod(made.identity, 0o644)
    os.unlink(os.path.join(made.path, "CLAUDE.md"))
    remove_tree(made.tmp)
    os.symlink("/", made.tmp)
    (desk.repo / "work").write_text("not committed")
    remove_tree(str(desk.repo / ".git" / "refs"))
    found = verify_workspace(made, HOME_ID)
    assert len(found) == 4, found
    mend_workspace(made, BRIEF)
    assert verify_workspace(made, HOME_ID) == ()
    assert load_or_create(made.identity, AGENT) != old
    assert not os.path.islink(made.tmp)
    aside = broken_clones(made)
    assert Path(aside[0], "work").read_text() == "not committed", "nothing of value is thrown away"
    ensure_clone(made, desk.hub.path)
    assert verify_workspace(made, HOME_ID) == ()
    assert verify_workspace(made, "other") == ("it belongs to another home",)
    assert verify_workspace(Workspace(made.path + "x"), HOME_ID) == ("there is no workspace",)


def test_removing_takes_all_of_it_whatever_a_session_did(made: Workspace, home: Path) -> None:
    outside = home / "precious"
    outside.mkdir()
    (outside / "file").write_text("kept")
    state = Path(made.state)
    (state / "link").symlink_to(outside)
    locked = state / "locked"
    (locked / "inner").mkdir(parents=True)
    (locked / "inner" / "file").write_text("x")
    locked.chmod(0)
    here = os.getcwd()
    try:  # deeper than any path can name
        os.chdir(state)
        for _ in range(120):
            os.mkdir("d" * 100)
            os.chdir("d" * 100)
    finally:
        os.chdir(here)
    remove_workspace(made, HOME_ID)
    assert (outside / "file").read_text() == "kept"
    assert os.listdir(os.path.dirname(made.path)) == []
    remove_workspace(made, HOME_ID)


def test_every_task_gets_an_empty_tmp_and_its_results(made: Workspace) -> None:
    Path(made.tmp, "left").write_text("x")
    first = prepare_task(made, "t-1")
    Path(first, "answer").write_text("42")
    prepare_task(made, "t-2")
    assert os.listdir(made.tmp) == []
    assert Path(first, "answer").read_text() == "42"
    os.symlink("/", made.out("t-3"))
    assert not os.path.islink(prepare_task(made, "t-3"))


def test_context_tells_the_task_and_remembers(made: Workspace) -> None:
    repo = RepoWork("/hub", None, "main", "swarm/x/t-1", "a" * 40, "a" * 40)
    work = Work("t-1", 2, "Do the thing.", "builder", title="A thing\nhere", repo=repo,
                earlier=("1: stalled",))  # fmt: skip
    assert begin_task(made, work) == ""
    text = Path(made.context).read_text()
    for part in ("## Your task: A thing here", "attempt 2", "swarm/x/t-1", "1: stalled",
                 "Do the thing."):  # fmt: skip
        assert part in text
    for number in range(25):
        end_task(made, Earlier(f"t-{number}", "succeeded", 0.0, summary="s" * 9000))
    text = Path(made.context).read_text()
    assert "Do the thing." not in text
    assert "t-24" in text
    assert "t-4:" not in text, "the oldest are forgotten"
    assert text.count("s") < 25 * 2200
    remembered = begin_task(made, work)
    assert "t-24" in remembered
    assert "Do the thing." not in remembered
    Path(made.private, "history.json").write_text("{broken")
    assert begin_task(made, work) == ""
