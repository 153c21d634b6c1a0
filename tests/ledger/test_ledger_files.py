"""Files a task is tied to: its text from one, its answer into another, both by their SHA-256."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swarm.core.model import Outcome, TaskState
from swarm.errors import SwarmError, UsageError
from swarm.ledger import Ledger, NewTask, Task, show_json
from swarm.ledger.pinned import read_request, usable_response, write_response
from swarm.ledger.shown_files import request_line, response_line
from swarm.wire.lifeline import Finished


def known(ledger: Ledger, task: str) -> Task:
    found = ledger.task(task)
    assert found is not None
    return found


def from_file(ledger: Ledger, path: Path) -> str:
    request = read_request(str(path))
    new = NewTask(request.text, request_path=request.path, request_sha256=request.sha256)
    return ledger.submit(new)


def finish(ledger: Ledger, task: str, said: str, outcome: Outcome = Outcome.SUCCEEDED) -> None:
    claimed = ledger.claim(task, "swarm-builder-001", "a" * 16, 90.0)
    assert claimed is not None
    ledger.finish(Finished(task, claimed.fence, outcome, result=said), "swarm-builder-001")


# -- requests


def test_the_claim_says_which_file_it_was(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "ask.md"
    path.write_text("What is it?\n")
    task = from_file(ledger, path)
    claimed = ledger.lane_claim("chat-1")
    assert claimed is not None
    assert claimed.prompt == "What is it?\n"
    assert claimed.task.request_path == str(path.resolve())
    assert claimed.task.request_sha256 == hashlib.sha256(b"What is it?\n").hexdigest()
    assert "unchanged" in request_line(known(ledger, task))


def changed(path: Path) -> None:
    path.write_text("Delete everything!\n")


def gone(path: Path) -> None:
    path.unlink()


def a_link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("happened", [changed, gone, a_link, a_pipe])
def test_a_request_that_changed_waits_for_a_person(
    ledger: Ledger, tmp_path: Path, happened: Callable[[Path], None]
) -> None:
    path = tmp_path / "ask.md"
    path.write_text("What is it?\n")
    task = from_file(ledger, path)
    happened(path)
    other = ledger.submit(NewTask("behind it"))
    claimed = ledger.lane_claim("chat-1")
    assert claimed is not None
    assert claimed.task.id == other, "it holds up nothing"
    found = known(ledger, task)
    assert found.state is TaskState.NEEDS_HUMAN
    assert str(path) in found.reason
    assert [event.kind for event in ledger.events(task=task)] == ["submitted", "needs_human"]
    ledger.retry(task)
    with pytest.raises(SwarmError, match=re.escape(str(path))):
        ledger.lane_claim("chat-1", task=task)
    ledger.answer(task, "go on with what was asked", "operator")
    again = ledger.lane_claim("chat-1", task=task)
    assert again is not None
    assert again.prompt == "What is it?\n"
    assert "go on" in again.feedback


def test_put_back_and_retried_it_is_claimed(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "ask.md"
    path.write_text("one")
    task = from_file(ledger, path)
    path.write_text("two")
    assert "has changed" in ledger.request_changed(task)
    path.write_text("one")
    ledger.retry(task)
    assert ledger.request_changed(task) == ""
    assert ledger.lane_claim("chat-1") is not None


@pytest.mark.parametrize("data", [b"\xff", b"x" * (256 * 1024 + 1), None])
def test_what_is_no_request_is_refused(tmp_path: Path, data: bytes | None) -> None:
    path = tmp_path / "ask"
    if data is None:
        path.mkdir()
    else:
        path.write_bytes(data)
    with pytest.raises(UsageError):
        read_request(str(path))
    with pytest.raises(UsageError):
        read_request(str(tmp_path / "nothing"))


# -- answers


def test_an_answer_is_written_once_and_is_only_ours_to_read(ledger: Ledger, tmp_path: Path) -> None:
    path = usable_response(str(tmp_path / "answer.md"))
    task = ledger.submit(NewTask("x", response_path=path))
    assert "to be written" in response_line(known(ledger, task))
    finish(ledger, task, "It is a parser.")
    assert not Path(path).exists()
    assert ledger.write_responses() == [task]
    assert ledger.write_responses() == []
    written = Path(path)
    assert written.read_text() == "It is a parser.\n"
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]
    found = known(ledger, task)
    assert found.response_sha256 == hashlib.sha256(b"It is a parser.\n").hexdigest()
    assert "unchanged" in response_line(found)
    shown = show_json(ledger, task, lambda task, n: tmp_path)
    assert shown["response"] == {
        "path": path,
        "sha256": found.response_sha256,
        "matches": True,
        "problem": None,
    }
    written.write_text("forged")
    assert "changed since" in response_line(known(ledger, task))
    assert show_json(ledger, task, lambda task, n: tmp_path)["response"]["matches"] is False
    written.unlink()
    assert "not there any more" in response_line(known(ledger, task))


def test_an_outsiders_answer_is_written_when_it_is_given(ledger: Ledger, tmp_path: Path) -> None:
    path = str(tmp_path / "answer.md")
    task = ledger.submit(NewTask("x", response_path=path))
    claimed = ledger.lane_claim("chat-1")
    assert claimed is not None
    done = ledger.lane_respond(task, claimed.fence, "chat-1", "said")
    assert Path(path).read_text() == "said\n"
    assert done.response_sha256


def test_what_failed_answers_nothing_and_a_retry_writes_over_its_own(
    ledger: Ledger, tmp_path: Path
) -> None:
    path = tmp_path / "answer.md"
    task = ledger.submit(NewTask("x", response_path=str(path)))
    finish(ledger, task, "no", Outcome.FAILED)
    assert ledger.write_responses() == []
    ledger.retry(task)
    finish(ledger, task, "first")
    ledger.write_responses()
    ledger.retry(task)
    finish(ledger, task, "second")
    assert ledger.write_responses() == [task]
    assert path.read_text() == "second\n"
    path.write_text("somebody's notes")
    ledger.retry(task)
    finish(ledger, task, "third")
    ledger.write_responses()
    assert path.read_text() == "somebody's notes"
    assert "holds something else" in known(ledger, task).reason
    assert ledger.write_responses() == []


def other_file(path: Path) -> None:
    path.write_text("precious")


def link_to_a_file(path: Path) -> None:
    other_file(path.with_suffix(".target"))
    path.symlink_to(path.with_suffix(".target"))


def dangling_link(path: Path) -> None:
    path.symlink_to(path.with_suffix(".nowhere"))


def a_folder(path: Path) -> None:
    path.mkdir()


def new_pipe(path: Path) -> None:
    os.mkfifo(path)


def no_folder(path: Path) -> None:
    path.parent.rmdir()


@pytest.mark.parametrize(
    "lies_there", [other_file, link_to_a_file, dangling_link, a_folder, new_pipe, no_folder]
)
def test_nothing_is_ever_written_over(
    ledger: Ledger, tmp_path: Path, lies_there: Callable[[Path], None]
) -> None:
    """Also what came there while the task ran; the task is done all the same, and says so."""
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "answer.md"
    task = ledger.submit(NewTask("x", response_path=usable_response(str(path))))
    lies_there(path)
    before = {entry: entry.lstat().st_mtime_ns for entry in folder.glob("*")}
    finish(ledger, task, "the answer")
    assert ledger.write_responses() == [task]
    found = known(ledger, task)
    assert (found.state, found.answer) == (TaskState.DONE, "the answer")
    assert "was not written" in found.reason
    assert not found.response_sha256
    assert {entry: entry.lstat().st_mtime_ns for entry in folder.glob("*")} == before


@pytest.mark.parametrize("lies_there", [other_file, dangling_link, a_folder, no_folder])
def test_a_place_that_is_taken_is_refused_at_once(
    tmp_path: Path, lies_there: Callable[[Path], None]
) -> None:
    path = tmp_path / "folder" / "answer.md"
    path.parent.mkdir()
    lies_there(path)
    with pytest.raises(UsageError):
        usable_response(str(path))


def test_killed_between_writing_and_noting_it_is_the_same_answer(tmp_path: Path) -> None:
    path = str(tmp_path / "answer.md")
    sha256 = write_response(path, "said", "")
    assert write_response(path, "said", "") == sha256
    with pytest.raises(SwarmError):
        write_response(path, "otherwise", "")
    assert write_response(path, "otherwise", sha256) != sha256


def test_a_full_disk_leaves_no_half_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SwarmError, match="No space left"):
        write_response(str(tmp_path / "answer.md"), "said", "")
    assert os.listdir(tmp_path) == []
