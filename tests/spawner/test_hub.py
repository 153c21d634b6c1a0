"""The hub follows its source, loses nothing, and the source never notices."""

from __future__ import annotations

from pathlib import Path

import pytest
from spawner_support import Desk, fingerprint, make_source, sh_git

from swarm.errors import ConfigError, GitError
from swarm.spawner import hub
from swarm.spawner.git import Ran
from swarm.spawner.hub import (
    branch_tip,
    check_source,
    commits,
    count_commits,
    enclosing_repository,
    ensure_hub,
    hub_path,
    is_url,
    refresh,
    source_tip,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def test_a_hub_of_its_own_begins_with_one_empty_commit(home: Path) -> None:
    path = hub_path(home / "hub", None)
    made = ensure_hub(path, None, "main")
    assert ensure_hub(path, None, "main") == made
    assert branch_tip(path, "main") == made.tip
    assert sh_git(path, "ls-tree", made.tip) == ""
    assert sh_git(path, "config", "gc.auto") == "0"


def test_the_source_is_fetched_and_stays_byte_for_byte(desk: Desk) -> None:
    before = fingerprint(desk.source)
    tip = sh_git(desk.source, "rev-parse", "main")
    assert fingerprint(desk.source) == before
    again = ensure_hub(desk.hub.path, str(desk.source), "main")
    assert again.tip == desk.hub.tip == tip == source_tip(str(desk.source), "main")
    assert again.note == ""
    assert desk.in_hub("rev-parse", "refs/source/heads/main") == tip
    assert desk.in_hub("symbolic-ref", "HEAD") == "refs/heads/main"
    assert fingerprint(desk.source) == before


def test_a_missing_target_falls_back_to_the_default_branch(home: Path) -> None:
    source = make_source(home / "old", branch="master")
    made = ensure_hub(hub_path(home / "hub", str(source)), str(source), "main")
    assert made.target == "master"
    assert "has no branch main: its master is used" in made.note
    assert desk_head(made.path) == "refs/heads/master"


def test_only_a_target_that_is_not_there_falls_back(home: Path) -> None:
    """Work meant for one branch must not land on another because something else went wrong."""
    source = make_source(home / "source")
    sh_git(source, "checkout", "-q", "-b", "dev")
    sh_git(source, "commit", "-q", "--allow-empty", "-m", "on dev")
    lost = sh_git(source, "rev-parse", "HEAD")
    sh_git(source, "checkout", "-q", "main")
    kept = source / ".git" / "objects" / lost[:2] / lost[2:]
    kept.rename(home / "aside")
    where = hub_path(home / "hub", str(source))
    with pytest.raises(GitError, match=r"cannot be fetched.*; try: git ls-remote"):
        ensure_hub(where, str(source), "dev")
    (home / "aside").rename(kept)
    assert ensure_hub(where, str(source), "dev").target == "dev"
    sh_git(source, "branch", "-q", "-m", "dev", "later")
    with pytest.raises(GitError, match="has no branch dev any more; put it back"):
        refresh(where, str(source), "dev")


def test_a_default_branch_with_no_room_for_tasks_is_not_used(home: Path) -> None:
    source = make_source(home / "source", branch="swarm")
    with pytest.raises(GitError, match=r"swarm leaves no room.*; name another"):
        ensure_hub(hub_path(home / "hub", str(source)), str(source), "main")


def test_a_source_of_somebody_else_is_told_with_what_to_do(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_source(home / "source")
    said = f"fatal: detected dubious ownership in repository at '{source}/.git'\nTo add an exc\n"
    monkeypatch.setattr(hub, "_fetch", lambda *_: Ran(128, b"", said))
    with pytest.raises(GitError, match=rf"--add safe\.directory {source}/\.git\Z"):
        ensure_hub(hub_path(home / "hub", str(source)), str(source), "main")


def desk_head(path: str) -> str:
    return sh_git(path, "symbolic-ref", "HEAD")


def test_it_moves_forward_with_the_source_and_never_back(desk: Desk) -> None:
    sh_git(desk.source, "commit", "-q", "--allow-empty", "-m", "second")
    moved = refresh(desk.hub.path, str(desk.source), "main")
    assert moved.tip == source_tip(str(desk.source), "main") != desk.hub.tip
    # Something has landed in the hub that the source does not have yet: it stays.
    landed = desk.in_hub("commit-tree", "-p", moved.tip, "-m", "landed", f"{moved.tip}^{{tree}}")
    desk.in_hub("update-ref", "refs/heads/main", landed)
    assert refresh(desk.hub.path, str(desk.source), "main").tip == landed


def test_a_rewritten_source_replaces_the_target_and_loses_nothing(desk: Desk) -> None:
    sh_git(desk.source, "commit", "-q", "--amend", "-m", "another first")
    moved = refresh(desk.hub.path, str(desk.source), "main")
    assert moved.tip == source_tip(str(desk.source), "main")
    assert desk.in_hub("for-each-ref", "--format=%(objectname)", "refs/agentctl") == desk.hub.tip


def test_commits_beyond_the_base(desk: Desk) -> None:
    desk.session(
        "echo x > new; git add new; git commit -qm one; git commit -q --allow-empty -m two"
    )
    desk.home()
    found = commits(desk.hub.path, "main", desk.branch)
    assert len(found) == count_commits(desk.hub.path, desk.hub.tip, desk.branch) == 2
    assert found[-1] == branch_tip(desk.hub.path, desk.branch)
    with pytest.raises(GitError):
        commits(desk.hub.path, "main", "none")
    with pytest.raises(GitError):
        commits(desk.hub.path, "--output=/tmp/x", desk.branch)
    assert branch_tip(desk.hub.path, "../../x") is None


def test_a_source_without_commits_or_access_is_told(home: Path) -> None:
    empty = home / "empty"
    empty.mkdir()
    sh_git(empty, "init", "-q")
    with pytest.raises(GitError, match="has no commits yet"):
        ensure_hub(hub_path(home / "hub", str(empty)), str(empty), "main")
    with pytest.raises(GitError, match="cannot be fetched"):
        ensure_hub(home / "hub" / "x.git", "file:///nowhere/repo.git", "main")


@pytest.mark.parametrize(
    "source", ["", " ", "-x", "--upload-pack=touch /tmp/x", "/nowhere", "ext::sh -c id",
               "a\nb", "fd::17/x"],
)  # fmt: skip
def test_what_is_no_source_is_refused_early(source: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_source(source)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_repository_is_refused(home: Path) -> None:
    with pytest.raises(ConfigError, match="no git repository; run: git -C"):
        check_source(str(home))


def test_a_repository_on_no_branch_is_told_so(home: Path) -> None:
    source = make_source(home / "source")
    sh_git(source, "checkout", "-q", "--detach")
    sh_git(source, "branch", "-q", "-D", "main")
    with pytest.raises(GitError, match="on no branch"):
        ensure_hub(hub_path(home / "hub", str(source)), str(source), "main")


def test_what_no_hub_can_borrow_from_is_refused_early(home: Path) -> None:
    source = make_source(home / "source")
    sh_git(source, "commit", "-q", "--allow-empty", "-m", "second")
    check_source(str(source))
    sh_git(home, "clone", "-q", "--depth", "1", f"file://{source}", str(home / "shallow"))
    with pytest.raises(ConfigError, match=r"shallow clone.*--unshallow"):
        check_source(str(home / "shallow"))
    sh_git(home, "init", "-q", "--object-format=sha256", str(home / "long"))
    with pytest.raises(ConfigError, match="SHA-256"):
        check_source(str(home / "long"))


@pytest.mark.parametrize(
    "source", ["https://example.org/a.git", "git@example.org:a/b.git", "ssh://x/y", "host:path"]
)
def test_addresses_are_looked_at_not_called(source: str) -> None:
    check_source(source)
    assert is_url(source)
    assert source_tip(source, "main") is None


def test_every_source_has_its_own_hub(home: Path) -> None:
    sources = ["https://a/x.git", "https://b/x.git", "git@a:x.git", str(home / "x"), None]
    paths = {hub_path(home, s) for s in sources}
    assert len(paths) == len(sources)
    assert all(p.parent == home and p.suffix == ".git" for p in paths)
    (home / "link").symlink_to(home / "x")
    assert hub_path(home, str(home / "link")) == hub_path(home, str(home / "x"))
    odd = hub_path(home, "https://a/../..;rm -rf")
    assert odd.parent == home


def test_the_repository_around_a_folder(desk: Desk) -> None:
    inner = desk.source / "a" / "b"
    inner.mkdir(parents=True)
    assert enclosing_repository(str(inner)) == str(desk.source)
    assert enclosing_repository("/") is None
