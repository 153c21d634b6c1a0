"""A hub with landed work follows its source, whatever becomes of it, and loses nothing."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from spawner_support import Desk, sh_git

from swarm.errors import GitError
from swarm.spawner import moving
from swarm.spawner.hub import has_moved, refresh
from swarm.spawner.workbench import work_folder

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def landed(desk: Desk, path: str, text: str = "landed\n") -> str:
    """A commit on the hub's target that the source does not have."""
    scratch = desk.root / "scratch"
    if not scratch.exists():
        sh_git(desk.root, "clone", "-q", desk.hub.path, str(scratch))
    sh_git(scratch, "pull", "-q", "origin", "main")
    (scratch / path).write_text(text)
    sh_git(scratch, "add", "-A")
    sh_git(scratch, "commit", "-q", "-m", f"landed {path}")
    sh_git(scratch, "push", "-q", "origin", "HEAD:refs/heads/main")
    return sh_git(scratch, "rev-parse", "HEAD")


def person(desk: Desk, path: str, text: str = "mine\n", *words: str) -> str:
    (desk.source / path).write_text(text)
    sh_git(desk.source, "add", path)
    sh_git(desk.source, "commit", "-q", "-m", f"person {path}", *words)
    return sh_git(desk.source, "rev-parse", "main")


def again(desk: Desk) -> tuple[str, str]:
    hub = refresh(desk.hub.path, str(desk.source), "main")
    assert hub.tip == desk.in_hub("rev-parse", "main")
    return hub.tip, hub.note


def test_a_source_that_moves_on_is_merged_into_what_has_landed(desk: Desk) -> None:
    work, theirs = landed(desk, "a"), person(desk, "b")
    assert has_moved(desk.hub.path, str(desk.source), "main")
    tip, note = again(desk)
    assert note == ""
    assert desk.in_hub("log", "-1", "--format=%P", tip).split() == [work, theirs]
    assert {"a", "b"} <= set(desk.files(tip))
    assert not has_moved(desk.hub.path, str(desk.source), "main")
    assert not os.path.exists(os.path.join(desk.hub.path, "joining"))
    assert again(desk)[0] == tip, "once"
    more = person(desk, "c")
    assert desk.in_hub("log", "-1", "--format=%P", again(desk)[0]).split() == [tip, more]
    desk.in_hub("fsck", "--strict", "--connectivity-only")


def test_a_person_who_takes_the_landed_work_over_ends_the_divergence(desk: Desk) -> None:
    landed(desk, "a")
    person(desk, "b")
    again(desk)
    sh_git(desk.source, "pull", "-q", "--no-rebase", desk.hub.path, "main")
    tip, note = again(desk)
    assert (tip, note) == (sh_git(desk.source, "rev-parse", "main"), "")


def test_a_conflict_keeps_what_has_landed_and_says_how_to_settle_it(desk: Desk) -> None:
    work, _ = landed(desk, "a"), person(desk, "a")
    tip, note = again(desk)
    assert tip == work
    assert (
        f"conflict in a: the hub keeps its own; settle it there: git pull {desk.hub.path}" in note
    )
    assert again(desk) == (tip, note), "it is said as long as it is so"
    sh_git(desk.source, "pull", "-q", "--no-rebase", "-X", "ours", desk.hub.path, "main")
    assert again(desk) == (sh_git(desk.source, "rev-parse", "main"), "")


def test_a_rewritten_source_keeps_the_landed_work_on_top_of_what_it_is_now(desk: Desk) -> None:
    """What the person took out of the source does not come back by the hub."""
    person(desk, "secret")
    again(desk)
    work = landed(desk, "a")
    sh_git(desk.source, "rm", "-q", "secret")
    theirs = person(desk, "b", "mine\n", "--amend")
    tip, note = again(desk)
    assert note == ""
    assert desk.in_hub("log", "-1", "--format=%P", tip).split() == [work, theirs]
    assert {"a", "b"} <= set(desk.files(tip))
    assert "secret" not in desk.files(tip)


def test_a_source_rewritten_while_in_conflict_is_still_told_apart(desk: Desk) -> None:
    landed(desk, "a")
    person(desk, "a")
    kept, note = again(desk)
    assert "conflict" in note
    sh_git(desk.source, "reset", "-q", "--hard", "HEAD~1")
    theirs = person(desk, "b")
    tip, note = again(desk)
    assert note == ""
    assert desk.in_hub("log", "-1", "--format=%P", tip).split() == [kept, theirs]
    assert desk.in_hub("show", f"{tip}:a") == "landed"


def test_a_rewritten_source_without_landed_work_is_followed(desk: Desk) -> None:
    person(desk, "a")
    again(desk)
    theirs = person(desk, "b", "mine\n", "--amend")
    assert again(desk) == (theirs, "")
    assert "refs/agentctl/replaced/main/" in desk.in_hub("for-each-ref")


def test_parallel_refreshes_agree(desk: Desk) -> None:
    landed(desk, "a")
    person(desk, "b")
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(again(desk)[0])) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(set(found)) == 1
    assert desk.in_hub("rev-list", "--count", "--min-parents=2", "main") == "1"


def test_a_lock_that_a_killed_fetch_left_is_outlived(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "STALE_SECONDS", 0.1)
    for ref in ("refs/source/heads/main", "refs/heads/main"):
        Path(desk.hub.path, f"{ref}.lock").write_text(desk.hub.tip)
    theirs = person(desk, "b")
    assert again(desk)[0] == theirs


def test_what_a_killed_user_left_in_a_work_folder_is_removed(desk: Desk) -> None:
    left = Path(desk.hub.path, "joining", "deep")
    left.mkdir(parents=True)
    with work_folder(desk.hub.path, "joining", 1.0) as folder:
        assert os.listdir(folder) == []
        held = work_folder(desk.hub.path, "joining", 0.0)
        with pytest.raises(GitError, match="in use by another process"), held:
            raise AssertionError("two hold it")
    assert not left.parent.exists()
