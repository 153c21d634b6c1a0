"""What a session leaves in its out directory, kept in the task's folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from swarm.errors import SpawnError
from swarm.spawner import results
from swarm.spawner.results import forget_files, keep_results, plain_file


@pytest.fixture
def out(tmp_path: Path) -> Path:
    made = tmp_path / "agents" / "out" / "t-1"
    made.mkdir(parents=True)
    return made


def kept(folder: Path, attempt: int = 1) -> dict[str, str]:
    top = folder / "results" / str(attempt)
    return {str(p.relative_to(top)): p.read_text() for p in top.rglob("*") if p.is_file()}


def test_files_and_folders_are_copied_and_the_latest_is_named(out: Path, tmp_path: Path) -> None:
    folder = tmp_path / "task"
    (out / "report.md").write_text("one")
    (out / "more" / "deep").mkdir(parents=True)
    (out / "more" / "deep" / "run.sh").write_text("#!/bin/sh")
    (out / "more" / "deep" / "run.sh").chmod(0o4777)
    assert keep_results(str(out), str(folder), 1) == ""
    assert kept(folder) == {"report.md": "one", "more/deep/run.sh": "#!/bin/sh"}
    assert stat.S_IMODE((folder / "results/1/more/deep/run.sh").stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "results/1/report.md").stat().st_mode) == 0o600
    (out / "report.md").write_text("two")
    assert keep_results(str(out), str(folder), 2) == ""
    assert kept(folder)["report.md"] == "one"
    assert (folder / "results" / "latest" / "report.md").read_text() == "two"
    assert sorted(os.listdir(folder / "results")) == ["1", "2", "latest"]


def test_the_same_attempt_again_replaces_its_copy(out: Path, tmp_path: Path) -> None:
    (out / "a").write_text("a")
    keep_results(str(out), str(tmp_path / "task"), 1)
    (out / "a").rename(out / "b")
    keep_results(str(out), str(tmp_path / "task"), 1)
    assert kept(tmp_path / "task") == {"b": "a"}


def test_an_empty_or_missing_directory_makes_none(out: Path, tmp_path: Path) -> None:
    assert keep_results(str(out), str(tmp_path / "task"), 1) == ""
    assert keep_results(str(out.parent / "t-2"), str(tmp_path / "task"), 1) == ""
    assert not (tmp_path / "task").exists()


def test_no_link_is_followed_and_nothing_but_files_is_taken(out: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("key")
    (out / "file").symlink_to(secret / "key")
    (out / "folder").symlink_to(secret)
    os.mkfifo(out / "pipe")
    (out / "plain").write_text("plain")
    told = keep_results(str(out), str(tmp_path / "task"), 1)
    assert told == "not all results are kept: what is no plain file"
    assert kept(tmp_path / "task") == {"plain": "plain"}
    moved = out.parent / "elsewhere"
    out.rename(moved)
    out.symlink_to(secret)
    keep_results(str(out), str(tmp_path / "task"), 2)
    assert not (tmp_path / "task" / "results" / "2").exists()


def test_size_and_number_are_capped(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "MAX_BYTES", 1024 * 1024)
    monkeypatch.setattr(results, "MAX_FILES", 3)
    with (out / "1-huge").open("wb") as file:
        file.truncate(1 << 40)  # sparse: it costs nothing to leave, and would cost all to take
    for number in range(4):
        (out / f"{number + 2}").write_text("x")
    told = keep_results(str(out), str(tmp_path / "task"), 1)
    assert told == "not all results are kept: more than 1 MB, more than 3 files"
    assert sorted(kept(tmp_path / "task")) == ["2", "3", "4"]


def test_folders_without_end_end(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "MAX_DEPTH", 4)
    (out / "/".join("abcdefgh")).mkdir(parents=True)
    assert "folders more than 4 deep" in keep_results(str(out), str(tmp_path / "task"), 1)


def test_a_place_that_cannot_be_written_is_an_error_and_leaves_no_half(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (out / "a").write_text("a")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results, "_copy_file", full)
    with pytest.raises(SpawnError, match="No space left"):
        keep_results(str(out), str(tmp_path / "task"), 1)
    assert os.listdir(tmp_path / "task" / "results") == []


def test_an_answer_is_a_plain_file_up_to_a_cap(out: Path, tmp_path: Path) -> None:
    assert plain_file(str(out), "review.json", 10) == ""
    (out / "review.json").write_text("  {}" + "x" * 100)
    assert plain_file(str(out), "review.json", 10) == "{}xxxxxx"
    forget_files(str(out), ["review.json", "plan.yaml"])
    (out / "review.json").mkdir()
    assert plain_file(str(out), "review.json", 10) == ""
    forget_files(str(out), ["review.json"])
    forget_files(str(out.parent / "none"), ["review.json"])
    (tmp_path / "secret").write_text("secret")
    (out / "plan.yaml").symlink_to(tmp_path / "secret")
    assert plain_file(str(out), "plan.yaml", 10) == ""
    forget_files(str(out), ["plan.yaml"])
    assert (tmp_path / "secret").read_text() == "secret"
    assert os.listdir(out) == ["review.json"]
