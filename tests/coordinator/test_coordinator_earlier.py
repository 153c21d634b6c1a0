"""What the next attempt is told of earlier ones' commits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from swarm_support import git, make_repository

from swarm.coordinator.earlier import SUBJECTS, changes, ranges
from swarm.coordinator.hubs import Hubs, RepoSettings
from swarm.core.model import Outcome, Usage
from swarm.ledger import Attempt


def attempt(n: int, base: str | None, tip: str | None) -> Attempt:
    return Attempt(
        "t-1", n, n, "swarm-builder-001", "a" * 16, Outcome.FAILED, "", None, None, Usage(), None,
        None, None, base=base, tip=tip,
    )  # fmt: skip


def test_the_newest_attempts_commits_are_named() -> None:
    asked: list[tuple[str, str]] = []

    def subjects(base: str, tip: str, limit: int) -> Sequence[str]:
        asked.append((base, tip))
        return [f"step {n} \x1b[31m of {tip}" for n in range(limit if tip == "c" else 1)]

    tried = [
        attempt(1, "a", "b"),
        attempt(2, "b", "b"),
        attempt(3, "b", None),
        attempt(4, None, "b"),
        attempt(5, "b", "c"),
    ]
    lines = changes(ranges(tried), subjects)
    assert asked == [("a", "b"), ("b", "c")], "others added nothing"
    assert lines[0] == "attempt 1 committed, newest first: step 0 [31m of b"
    assert lines[1].startswith("attempt 5 committed, newest first: step 0 [31m of c; step 1")
    assert lines[1].endswith("and more")
    assert lines[1].count("step") == SUBJECTS
    assert changes([attempt(6, "b", "x")], lambda *_: []) == ()


def test_subjects_are_a_hubs_and_an_unknown_commit_has_none(tmp_path: Path) -> None:
    make_repository(tmp_path / "project")
    hubs = Hubs(tmp_path / "hub", RepoSettings(source=str(tmp_path / "project")))
    first = git(tmp_path / "project", "rev-parse", "HEAD")
    assert hubs.subjects(None, first, first, 5) == [], "not opened yet"
    git(tmp_path / "project", "commit", "-q", "--allow-empty", "-m", "second\n\nbody")
    git(tmp_path / "project", "commit", "-q", "--allow-empty", "-m", "third")
    tip = git(tmp_path / "project", "rev-parse", "HEAD")
    hubs.open(None)
    assert hubs.subjects(None, first, tip, 5) == ["third", "second"]
    assert hubs.subjects(None, first, tip, 1) == ["third"]
    assert hubs.subjects(None, "0" * 40, tip, 5) == []
    assert hubs.subjects(None, "--all", tip, 5) == []
