"""Where work starts: without git when nothing moved, with git when something did."""

from __future__ import annotations

from pathlib import Path

import pytest
from spawner_support import make_source, sh_git

from swarm.coordinator import hubs as hubs_module
from swarm.coordinator.hubs import FRESH_SECONDS, Hubs, RepoSettings
from swarm.errors import ConfigError, GitError
from swarm.spawner import hub as hub_module

BRANCH = "swarm/swarm-builder-001/t-1"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def no_git(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_words: object, **_more: object) -> None:
        raise AssertionError("a git process was started")

    monkeypatch.setattr(hub_module, "try_git", refuse)
    monkeypatch.setattr(hub_module, "run_git", refuse)


def commit(folder: Path, name: str) -> str:
    (folder / name).write_text(name)
    sh_git(folder, "add", "-A")
    sh_git(folder, "commit", "-q", "-m", name)
    return sh_git(folder, "rev-parse", "HEAD")


def test_nothing_moved_so_no_git_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_source(tmp_path / "source")
    hubs = Hubs(tmp_path / "hub", RepoSettings(str(source), author="Ann <ann@example.org>"))
    assert hubs.at_once(None, BRANCH) is None
    ready = hubs.open(None)
    assert ready.source == str(source)
    no_git(monkeypatch)
    work = hubs.at_once(None, BRANCH)
    assert work is not None
    tip = sh_git(source, "rev-parse", "HEAD")
    assert (work.start, work.base, work.branch, work.target) == (tip, tip, BRANCH, "main")
    assert (work.author_name, work.author_email) == ("Ann", "ann@example.org")
    assert work.hub == ready.hub


def test_a_source_that_moved_is_fetched_first(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source")
    hubs = Hubs(tmp_path / "hub", RepoSettings(str(source)))
    hubs.open(None)
    tip = commit(source, "more")
    assert hubs.at_once(None, BRANCH) is None
    assert hubs.with_git(None, BRANCH).start == tip
    assert hubs.at_once(None, BRANCH) is not None


def test_a_branch_that_exists_is_gone_on_with(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source")
    hubs = Hubs(tmp_path / "hub", RepoSettings(str(source)))
    ready = hubs.open(None)
    base = sh_git(source, "rev-parse", "HEAD")
    first, second = commit(source, "one"), commit(source, "two")
    sh_git(ready.hub, "fetch", "-q", str(source), f"main:refs/heads/{BRANCH}")
    sh_git(source, "reset", "-q", "--hard", base)
    work = hubs.at_once(None, BRANCH)
    assert work is not None
    assert (work.start, work.base) == (second, base)
    assert hubs.commits(None, BRANCH) == [first, second]


def test_the_swarms_own_hub_needs_no_source(tmp_path: Path) -> None:
    hubs = Hubs(tmp_path / "hub", RepoSettings())
    work = hubs.with_git(None, BRANCH)
    assert work.source is None
    assert work.start == work.base
    assert hubs.at_once(None, BRANCH) == work


def test_another_repository_gets_its_own_hub_when_it_is_needed(tmp_path: Path) -> None:
    source, other = make_source(tmp_path / "source"), make_source(tmp_path / "other", "trunk")
    hubs = Hubs(tmp_path / "hub", RepoSettings(str(source)))
    hubs.open(None)
    work = hubs.with_git(str(other), BRANCH)
    assert work.target == "trunk"
    assert work.hub != hubs.open(None).hub
    assert hubs.at_once(str(other), BRANCH) == work


def test_a_repository_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    hubs = Hubs(tmp_path / "hub", RepoSettings(str(tmp_path / "nowhere")))
    with pytest.raises(ConfigError, match="nowhere") as caught:
        hubs.open(None)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "hub").exists()
    assert hubs.commits(None, BRANCH) == []


def test_what_cannot_be_looked_at_is_fetched_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_source(tmp_path / "source")
    clock = Clock()
    monkeypatch.setattr(hubs_module.hubs, "source_tip", lambda source, target: None)
    hubs = Hubs(tmp_path / "hub", RepoSettings(f"file://{source}"), clock)
    hubs.open(None)
    assert hubs.at_once(None, BRANCH) is not None
    clock.now += FRESH_SECONDS
    assert hubs.at_once(None, BRANCH) is None
    tip = commit(source, "more")
    assert hubs.with_git(None, BRANCH).start == tip


def test_an_unknown_branch_has_no_commits_to_list(tmp_path: Path) -> None:
    hubs = Hubs(tmp_path / "hub", RepoSettings())
    hubs.open(None)
    with pytest.raises(GitError):
        hubs.commits(None, "swarm/nobody/t-0")
