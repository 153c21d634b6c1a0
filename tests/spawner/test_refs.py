"""References read from files are what git says; links, rubbish and floods are no references."""

from __future__ import annotations

from pathlib import Path

import pytest
from spawner_support import make_source, sh_git

from swarm.spawner.refs import all_refs, find_gitdir, read_beneath, read_ref, symbolic_head


@pytest.fixture
def source(home: Path) -> Path:
    return make_source(home / "source")


def by_git(repo: Path) -> dict[str, str]:
    lines = sh_git(repo, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    return dict(line.split() for line in lines)


def test_loose_packed_and_both(source: Path) -> None:
    gitdir = str(source / ".git")
    for name in ("a", "b/c", "b/d"):
        sh_git(source, "branch", name)
    assert all_refs(gitdir) == by_git(source)
    sh_git(source, "pack-refs", "--all")
    assert all_refs(gitdir) == by_git(source)
    sh_git(source, "commit", "-q", "--allow-empty", "-m", "second")
    sh_git(source, "tag", "-a", "-m", "note", "v1")
    assert all_refs(gitdir) == by_git(source)
    tip = sh_git(source, "rev-parse", "HEAD")
    assert read_ref(gitdir, "refs/heads/main") == read_ref(gitdir, "HEAD") == tip
    assert symbolic_head(gitdir) == "refs/heads/main"
    sh_git(source, "checkout", "-q", "--detach")
    assert read_ref(gitdir, "HEAD") == tip
    assert symbolic_head(gitdir) is None
    assert read_ref(gitdir, "refs/heads/none") is None


def test_linked_worktrees_and_bare_repositories_are_found(source: Path, home: Path) -> None:
    tip = sh_git(source, "rev-parse", "HEAD")
    sh_git(source, "worktree", "add", "-q", "-b", "side", str(home / "side"))
    sh_git(home, "clone", "-q", "--bare", str(source), "bare.git")
    for repository in (source, home / "side", home / "bare.git"):
        gitdir = find_gitdir(str(repository))
        assert gitdir is not None
        assert read_ref(gitdir, "refs/heads/main") == tip
    assert find_gitdir(str(home)) is None


@pytest.mark.parametrize("content", [b"", b"x" * 40, b"ref: refs/heads/../../x", b"\xff" * 40,
                                     b"ref: refs/heads/evil", b"a" * 100_000])  # fmt: skip
def test_rubbish_is_no_reference(source: Path, content: bytes) -> None:
    (source / ".git" / "refs" / "heads" / "evil").write_bytes(content)
    assert read_ref(str(source / ".git"), "refs/heads/evil") is None
    assert "refs/heads/evil" not in all_refs(str(source / ".git"))


def test_no_link_is_followed(source: Path, home: Path) -> None:
    other = make_source(home / "other")
    sh_git(other, "commit", "-q", "--allow-empty", "-m", "secret")
    gitdir = source / ".git"
    (gitdir / "refs/heads/file").symlink_to(other / ".git/refs/heads/main")
    (gitdir / "refs/heads/folder").symlink_to(other / ".git/refs/heads")
    assert read_ref(str(gitdir), "refs/heads/file") is None
    assert read_ref(str(gitdir), "refs/heads/folder/main") is None
    assert set(all_refs(str(gitdir))) == {"refs/heads/main"}
    (gitdir / "pipe").symlink_to("/dev/zero")
    assert read_beneath(str(gitdir), "pipe", 10) is None
    assert read_beneath(str(gitdir), "config", 3) is None, "past the cap"
