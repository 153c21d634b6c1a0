"""The durable outbox: what a crash in mid-write may leave, and what it must not lose."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.core.model import Outcome, Usage
from swarm.daemon import outbox
from swarm.daemon.outbox import Reported, Unclaimed
from swarm.wire.lifeline import Finished


def report(task: str, fence: int = 1) -> Reported:
    return Reported(
        Finished(task, fence, Outcome.SUCCEEDED, result="ünïcode\nand lines", usage=Usage(1, 2))
    )


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "outbox.jsonl")


def test_no_file_is_an_empty_outbox(path: str) -> None:
    assert outbox.load(path) == ()
    assert outbox.read_outbox(path) == ()
    outbox.settle(path, "t-1", 1)
    assert not os.path.exists(path)


def test_entries_come_back_in_order_until_settled(path: str) -> None:
    first, second, third = report("t-1"), Unclaimed("t-2", 4, "busy", 2.5), report("t-3", 7)
    for entry in (first, second, third):
        outbox.append(path, entry)
    assert outbox.load(path) == (first, second, third)
    assert outbox.read_outbox(path) == (first.finished, third.finished)
    outbox.settle(path, "t-2", 3)
    assert len(outbox.load(path)) == 3, "another fence settles nothing"
    outbox.settle(path, "t-1", 1)
    assert outbox.load(path) == (second, third)
    outbox.settle(path, "t-2", 4)
    outbox.settle(path, "t-3", 7)
    assert outbox.load(path) == ()
    assert not os.path.exists(path)


def test_a_newer_entry_of_the_same_attempt_takes_its_place(path: str) -> None:
    outbox.append(path, Unclaimed("t-1", 1, "one"))
    outbox.append(path, Unclaimed("t-1", 1, "two"))
    assert outbox.load(path) == (Unclaimed("t-1", 1, "two"),)


def test_it_is_readable_by_its_owner_only(path: str) -> None:
    outbox.append(path, report("t-1"))
    assert os.stat(path).st_mode & 0o777 == 0o600


@given(cut=st.integers(min_value=0), junk=st.binary(max_size=20).filter(lambda b: b"\n" not in b))
def test_a_torn_last_line_is_left_out_and_written_over(
    tmp_path_factory: pytest.TempPathFactory, cut: int, junk: bytes
) -> None:
    """Wherever a write was torn, earlier entries stay and the next one is whole."""
    path = str(tmp_path_factory.mktemp("outbox") / "outbox.jsonl")
    outbox.append(path, report("t-1"))
    whole = os.path.getsize(path)
    outbox.append(path, report("t-2"))
    torn = whole + cut % (os.path.getsize(path) - whole)
    with open(path, "r+b") as file:
        file.truncate(torn)
        file.seek(torn)
        file.write(junk)
    assert outbox.load(path) == (report("t-1"),)
    outbox.append(path, report("t-3"))
    assert outbox.load(path) == (report("t-1"), report("t-3"))
    outbox.settle(path, "t-1", 1)
    assert outbox.load(path) == (report("t-3"),)


def test_a_line_of_nonsense_hides_no_other(path: str) -> None:
    outbox.append(path, report("t-1"))
    with open(path, "ab") as file:
        file.write(b'{"type":"unknown"}\n\xff\xfe\n[]\n')
    outbox.append(path, report("t-2"))
    assert outbox.load(path) == (report("t-1"), report("t-2"))


def test_a_full_disk_leaves_the_file_as_it_was(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox.append(path, report("t-1"))
    before = Path(path).read_bytes()
    write = os.pwrite

    def full(fd: int, data: bytes, offset: int) -> int:
        if offset > len(before):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[:10], offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        outbox.append(path, report("t-2"))
    monkeypatch.undo()
    assert Path(path).read_bytes() == before


def test_an_append_is_synced_before_it_returns(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def watch(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", watch)
    outbox.append(path, report("t-1"))
    assert synced == [path, os.path.dirname(path)]
