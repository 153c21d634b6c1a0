"""The durable outbox: what a crash in mid-write may leave, and what it must not lose."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


# -- bounds ---------------------------------------------------------------------------------------


def test_what_was_given_back_pushes_out_no_report(path: str) -> None:
    """Whoever may assign can have things given back by the hundred; reports are worth more."""
    outbox.append(path, report("t-mine"))
    for n in range(100):
        outbox.append(path, Unclaimed(f"t-{n}", 1, "busy"))
    entries = outbox.load(path)
    assert entries[0] == report("t-mine")
    assert [e.key[0] for e in entries[1:]] == [f"t-{n}" for n in range(84, 100)]
    assert len(Path(path).read_bytes().splitlines()) == 17, "the file is bounded as well"


def test_reports_are_bounded_too_the_oldest_go_first() -> None:
    many = tuple(report("t-1", fence) for fence in range(1, 300))
    assert outbox.kept(many) == many[-outbox.MAX_REPORTS :]


def test_a_file_that_nobody_settles_is_written_anew(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "COMPACT_BYTES", 4096)
    monkeypatch.setattr(outbox, "MAX_REPORTS", 8)
    for fence in range(1, 200):
        outbox.append(path, report("t-1", fence))
        assert os.path.getsize(path) < 8192
        assert report("t-1", fence) in outbox.load(path)


# -- files that are broken ------------------------------------------------------------------------


@given(lines=st.lists(st.binary(max_size=60), max_size=5), at=st.integers(0, 5))
def test_whatever_lies_between_them_the_entries_are_found(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], at: int
) -> None:
    path = str(tmp_path_factory.mktemp("outbox") / "outbox.jsonl")
    outbox.append(path, report("t-1"))
    with open(path, "ab") as file:
        for line in lines:
            file.write(line.replace(b"\n", b"") + b"\n")
    outbox.append(path, report("t-2"))
    assert {e.key for e in outbox.load(path)} >= {("t-1", 1), ("t-2", 1)}
    outbox.settle(path, "t-1", 1)
    assert ("t-2", 1) in {e.key for e in outbox.load(path)}


def test_what_cannot_be_read_is_kept_aside_for_a_person(path: str) -> None:
    strange = b'{"type":"report","finished":{"of":"a later version"}}'
    deep = b"[" * 100_000
    outbox.append(path, report("t-1"))
    with open(path, "ab") as file:
        file.write(strange + b"\n" + deep + b"\n")
    outbox.append(path, report("t-2"))
    outbox.settle(path, "t-1", 1)
    assert outbox.load(path) == (report("t-2"),)
    assert Path(path + outbox.UNREAD).read_bytes() == strange + b"\n" + deep + b"\n"
    outbox.settle(path, "t-2", 1)
    assert not os.path.exists(path)


def test_an_outbox_that_is_no_file_stops_no_agent(path: str) -> None:
    os.mkdir(path)
    entries, problem = outbox.recover(path)
    assert entries == ()
    assert "cannot be read" in problem
    assert path + outbox.UNREAD in problem
    outbox.append(path, report("t-1"))
    assert outbox.recover(path) == ((report("t-1"),), "")


# -- a crash, or a full disk, at every step -------------------------------------------------------


class Crash(BaseException):
    """The process dies here: no handler runs."""


STEPS = ("open", "pwrite", "write", "ftruncate", "fsync", "replace", "unlink")


@contextmanager
def failing_at(
    step: int, failure: Callable[[], BaseException], monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    """The ``step``-th system call that changes the disk fails, a write after half of its bytes."""
    seen: list[str] = []

    def wrap(name: str) -> None:
        real = getattr(os, name)

        def call(*args: object, **more: object) -> object:
            seen.append(name)
            if len(seen) - 1 == step:
                if name == "pwrite":
                    fd, data, offset = args
                    real(fd, data[: len(data) // 2], offset)  # type: ignore[index, arg-type]
                raise failure()
            return real(*args, **more)

        monkeypatch.setattr(os, name, call)

    with monkeypatch.context() as patch:
        monkeypatch = patch
        for name in STEPS:
            wrap(name)
        yield seen


def first_state(path: str) -> None:
    outbox.append(path, report("t-1"))
    outbox.append(path, Unclaimed("t-2", 3, "busy"))
    with open(path, "ab") as file:
        file.write(b"nonsense\n")


OPERATIONS: dict[str, tuple[Callable[[str], None], set[tuple[str, int]], set[tuple[str, int]]]] = {
    # what is done, what is there whatever happens, what is there once it was done
    "append": (
        lambda path: outbox.append(path, report("t-3")),
        {("t-1", 1), ("t-2", 3)},
        {("t-1", 1), ("t-2", 3), ("t-3", 1)},
    ),
    "give back": (
        lambda path: outbox.append(path, Unclaimed("t-3", 1, "late")),
        {("t-1", 1), ("t-2", 3)},
        {("t-1", 1), ("t-2", 3), ("t-3", 1)},
    ),
    "again": (
        lambda path: outbox.append(path, Unclaimed("t-2", 3, "still busy")),
        {("t-1", 1), ("t-2", 3)},
        {("t-1", 1), ("t-2", 3)},
    ),
    "settle": (
        lambda path: outbox.settle(path, "t-2", 3),
        {("t-1", 1)},
        {("t-1", 1)},
    ),
}


@pytest.mark.parametrize("failure", [Crash, lambda: OSError(errno.ENOSPC, "No space left")],
                         ids=["crash", "full disk"])  # fmt: skip
@pytest.mark.parametrize("name", list(OPERATIONS))
def test_no_step_of_it_can_lose_what_was_written_before(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    failure: Callable[[], BaseException],
) -> None:
    """Cut off at each system call in turn; what is there then, and that it goes on."""
    do, always, done = OPERATIONS[name]
    for step in range(50):
        path = str(tmp_path / f"{step}" / "outbox.jsonl")
        os.mkdir(os.path.dirname(path))
        first_state(path)
        with failing_at(step, failure, monkeypatch) as seen:
            try:
                do(path)
                failed = False
            except (Crash, OSError):
                failed = True
        if not failed:
            assert step == len(seen), "every step was tried"
            break
        found = {entry.key for entry in outbox.load(path)}
        assert always <= found <= done | always | {("t-2", 3)}, f"after {seen}: {found}"
        do(path)
        assert {entry.key for entry in outbox.load(path)} == done, f"again, after {seen}"
    else:
        pytest.fail("it never came to its end")
    assert step >= 3, "an operation has several steps"


def test_mutant_an_outbox_written_in_place_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted bug: what is left is written over what was there."""

    def in_place(path: str, entries: tuple[outbox.Entry, ...], nonsense: list[bytes]) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
        try:
            outbox._write_all(fd, b"".join(outbox._encoder.encode(e) + b"\n" for e in entries), 0)
            os.fsync(fd)
        finally:
            os.close(fd)

    monkeypatch.setattr(outbox, "_rewrite", in_place)
    with pytest.raises(AssertionError):
        test_no_step_of_it_can_lose_what_was_written_before(tmp_path, monkeypatch, "settle", Crash)
