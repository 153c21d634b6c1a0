"""Real files dropped in a real, watched folder."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests_support import eventually_async

from swarm.core.model import Review
from swarm.errors import LedgerError
from swarm.inbox.names import is_ignored, reserved
from swarm.ledger.intake import one_line


async def test_a_text_is_the_prompt_and_the_folder_is_the_tasks_own(box):
    await box.start()
    (box.path / "fix.md").write_text("Fix the parser\n\nIt fails on tabs.\n")
    task = await box.one()
    assert box.ledger.prompt(task.id) == "Fix the parser\n\nIt fails on tabs.\n"
    assert task.folder == str(box.home / "tasks" / task.id)
    assert box.input(task).read_text() == "Fix the parser\n\nIt fails on tabs.\n"
    assert (Path(task.folder) / "results").is_dir()
    assert box.left() == []


async def test_its_title_is_as_private_as_its_text(box):
    await box.start()
    (box.path / "a").write_text("the secret plan")
    task = await box.one()
    assert not task.announced
    assert not task.titled


async def test_settings_in_front_of_a_text(box):
    await box.start()
    box.use(priority=3, lane="night")
    (box.path / "a.md").write_text(
        "---\nrole: qa\npriority: 7\ncomponent: parser\nlabels: {effort: high}\n"
        "review: human\ntitle: Look at it\n---\nCheck it.\n"
    )
    task = await box.one()
    assert (task.role, task.priority, task.component) == ("qa", 7, "parser")
    assert (task.labels, task.review, task.title) == (
        {"effort": "high"},
        Review.HUMAN,
        "Look at it",
    )
    assert task.lane == "night"
    assert box.ledger.prompt(task.id) == "Check it.\n"


async def test_a_task_can_wait_for_another(box):
    await box.start()
    (box.path / "a").write_text("first")
    first = await box.one()
    (box.path / "b").write_text(f"---\nafter: [{first.id[2:6]}]\n---\nsecond\n")
    _, second = await box.number(2)
    assert [one.id for one in box.ledger.waits_for(second.id)] == [first.id]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("---\nrole: painter\n---\nx", "there is no role 'painter'; there are auditor, builder"),
        ("---\nprio: 1\n---\nx", "a.md:2: prio: there is no such key; did you mean 'priority'?"),
        ("---\ntitle: x\npriority: high\n---\nx", "a.md:3: priority: must be a whole number"),
        ("---\nafter: [t-nothing0]\n---\nx", "there is no task 't-nothing0'"),
        ("---\nlabels: {E: x}\n---\nx", "label 'E=x' cannot be"),
        ("---\npriority: 1000\n---\nx", "priority 1000 is out of range"),
        ("---\nrole: qa\nno end", "begins settings that do not end"),
        ("---\n- &a [*a]\n---\nx", "a.md:2"),
        ("---\nrole: qa\n---\n \n", "asks for nothing"),
        ("---\ntitle: \x1b[2J\n---\nx", "a.md:"),
    ],
)
async def test_bad_settings_put_it_aside_with_the_line(box, text, reason):
    await box.start()
    (box.path / "a.md").write_text(text)
    await box.until(lambda: box.refused and box.left() == [])
    ((_, told),) = box.aside().items()
    assert reason in told
    assert told.count("\n") == 1
    assert told.rstrip("\n").isprintable()
    assert box.tasks() == []
    assert reason in box.refused[0]


async def test_quarantine_is_trouble_until_it_is_emptied(box):
    await box.start()
    (box.path / "input").write_text("x")
    await box.until(lambda: "1 drop is in quarantine" in box.troubles[-1])
    assert "its name is reserved" in box.troubles[-1]
    for path in (box.path / ".quarantine").iterdir():
        path.unlink()
    await box.until(lambda: box.troubles[-1] == "")


async def test_other_files_are_something_to_work_on(box):
    await box.start()
    (box.path / "photo.jpg").write_bytes(b"\xff\xd8\xff\x00" * 1000)
    task = await box.one()
    prompt = box.ledger.prompt(task.id)
    assert "photo.jpg" in prompt
    assert "4000 bytes" in prompt
    assert box.input(task).read_bytes() == b"\xff\xd8\xff\x00" * 1000


async def test_a_folder_is_one_task_with_the_text_of_its_instructions(box):
    await box.start()
    made = box.home / "made"
    (made / "data" / "deep").mkdir(parents=True)
    (made / "TASK.md").write_text("---\nrole: qa\n---\nCompare the two.\n")
    (made / "data" / "deep" / "a.csv").write_text("1,2\n")
    os.rename(made, box.path / "made")
    task = await box.one()
    assert task.role == "qa"
    assert box.ledger.prompt(task.id) == "Compare the two.\n"
    assert (box.input(task) / "data" / "deep" / "a.csv").read_text() == "1,2\n"


async def test_a_folder_that_is_written_for_a_while_comes_in_whole(box):
    await box.start()
    target = box.path / "tree"
    (target / "a" / "b").mkdir(parents=True)
    writer = (target / "a" / "b" / "slow.bin").open("wb")
    for number in range(20):
        (target / f"{number}.txt").write_text("x" * number)
        (target / "a" / f"more{number}" / "deep").mkdir(parents=True)
        (target / "a" / f"more{number}" / "deep" / "leaf").write_text("y")
        writer.write(b"z" * 1000)
        writer.flush()
        await asyncio.sleep(0.01)  # a slow writer is what is played here
        assert box.tasks() == []
    await asyncio.sleep(0.2)  # and one that thinks, longer than a quiet folder is given
    assert box.tasks() == []
    writer.close()
    task = await box.one()
    tree = box.input(task)
    assert len(list(tree.rglob("leaf"))) == 20
    assert (tree / "a" / "b" / "slow.bin").stat().st_size == 20_000


async def test_a_slow_writer_is_waited_for(box):
    await box.start()
    with (box.path / "slow.md").open("w") as writer:
        for _ in range(10):
            writer.write("line\n")
            writer.flush()
            await asyncio.sleep(0.01)  # a slow writer is what is played here
            assert box.tasks() == []
    task = await box.one()
    assert box.ledger.prompt(task.id) == "line\n" * 10


async def test_a_settle_time_counts_from_the_last_change_and_changes_live(box):
    box.use(settle_seconds=3600.0)
    await box.start()
    (box.path / "a").write_text("x")
    await box.until(lambda: len(box.inbox._settling) == 1)
    assert box.tasks() == []
    box.use(settle_seconds=0.05)
    await box.one()


@pytest.mark.parametrize("name", ["a.tmp", "a.PART", "b.partial", "c.crdownload", ".hidden", "d~"])
async def test_unfinished_names_are_ignored_until_they_are_renamed(box, name):
    await box.start()
    (box.path / name).write_text("x")
    (box.path / "other").write_text("y")
    await box.one()
    assert (box.path / name).exists()
    os.rename(box.path / name, box.path / "done.md")
    assert [box.ledger.prompt(task.id) for task in await box.number(2)] == ["y", "x"]


@pytest.mark.parametrize(
    "name",
    [
        b"input", b"RESULTS", b"con.txt", b"new\nline", b"esc\x1b[2J", b"\xff\xfe", b" space",
        b"x" * 201, "bidi\u202etxt".encode(),
    ],
)  # fmt: skip
async def test_hostile_names_are_put_aside(box, name):
    await box.start()
    with open(os.fsencode(box.path) + b"/" + name, "w") as file:
        file.write("x")
    await box.until(lambda: box.refused)
    await box.until(lambda: box.left() == [])
    assert box.tasks() == []
    assert all(reason.rstrip("\n").isprintable() for reason in box.aside().values())
    assert all(line.isprintable() for line in box.refused)


async def test_what_is_no_file_is_put_aside(box):
    await box.start()
    os.symlink("/etc/passwd", box.path / "link")
    os.mkfifo(box.path / "pipe")
    with socket.socket(socket.AF_UNIX) as unix:
        here = os.getcwd()
        os.chdir(box.path)  # a socket's path is short
        try:
            unix.bind("sock")
        finally:
            os.chdir(here)
    made = box.home / "made"
    made.mkdir()
    os.symlink("../../../etc", made / "out")
    os.rename(made, box.path / "folder")
    await box.until(lambda: len(box.refused) == 4 and box.left() == [])
    told = " ".join(box.aside().values())
    for reason in ("is a symbolic link", "a named pipe is", "a socket is", "leads out of it"):
        assert reason in told
    assert box.tasks() == []


async def test_links_within_a_folder_stay(box):
    await box.start()
    made = box.home / "made"
    made.mkdir()
    (made / "a").write_text("x")
    os.symlink("a", made / "b")
    os.rename(made, box.path / "folder")
    task = await box.one()
    assert os.readlink(box.input(task) / "b") == "a"


async def test_a_hard_link_is_copied_so_that_the_input_is_the_tasks_own(box):
    await box.start()
    (box.home / "mine").write_text("before")
    os.link(box.home / "mine", box.path / "theirs")
    task = await box.one()
    (box.home / "mine").write_text("after")
    assert box.input(task).read_text() == "before"
    assert box.left() == []


async def test_equal_names_never_collide(box):
    await box.start()
    for number in range(5):
        (box.path / "a.md").write_text(f"number {number}")
        await box.number(number + 1)
    assert {box.input(task).read_text() for task in box.tasks()} == {
        f"number {number}" for number in range(5)
    }


async def test_many_at_once_are_each_one_task(box):
    await box.start()
    for number in range(600):
        (box.path / f"{number}.txt").write_text(f"task {number}")
    await box.until(lambda: box.left() == [] and box.added == 600)
    asked = {box.ledger.prompt(task.id) for task in box.tasks()}
    assert asked == {f"task {number}" for number in range(600)}


async def test_a_drop_is_found_although_the_kernel_dropped_its_events(box):
    with open("/proc/sys/fs/inotify/max_queued_events") as file:
        room = int(file.read())
    await box.start()
    for number in range(room // 3 + 100):  # made, closed, gone: more than the queue holds
        (box.path / f".{number}").touch()
        (box.path / f".{number}").unlink()
    (box.path / "a").write_text("x")
    await box.one()


async def test_what_was_dropped_while_nothing_ran_is_taken_in(box):
    box.path.mkdir()
    (box.path / "a").write_text("x")
    (box.path / "d").mkdir()
    (box.path / "d" / "f").write_text("y")
    await box.start()
    await box.number(2)
    await box.until(lambda: box.left() == [])


async def test_a_folder_that_vanishes_is_made_anew(box):
    await box.start()
    shutil.rmtree(box.path)
    await box.until(box.path.is_dir)
    (box.path / "a").write_text("x")
    await box.one()


async def test_another_path_and_none_at_all(box, tmp_path):
    await box.start()
    box.use(path=str(tmp_path / "elsewhere"))
    await box.until((tmp_path / "elsewhere").is_dir)
    (tmp_path / "elsewhere" / "a").write_text("x")
    await box.one()
    before = len(box.troubles)
    box.use(path="")
    await box.until(lambda: len(box.troubles) > before)  # the watch has ended
    (tmp_path / "elsewhere" / "b").write_text("y")
    await asyncio.sleep(0.05)
    assert len(box.tasks()) == 1
    box.use(path=str(tmp_path / "elsewhere"))
    await box.number(2)


@pytest.mark.parametrize("path", ["", "..", "tasks", "hub/x"])
async def test_a_folder_with_other_things_is_never_emptied(box, path):
    box.use(path=os.path.normpath(box.home / path))
    (box.home / "precious").write_text("x")
    await box.start()
    await box.until(lambda: "name a folder of its own" in box.troubles[-1])
    assert (box.home / "precious").read_text() == "x"


async def test_a_refusal_of_the_ledger_is_trouble_and_tried_again(box, monkeypatch):
    submit = box.ledger.submit
    full = True

    def sometimes(new):
        if full:
            raise LedgerError("the disk is full", "make room")
        return submit(new)

    monkeypatch.setattr(box.ledger, "submit", sometimes)
    monkeypatch.setattr("swarm.inbox.shell.RETRY_FIRST", 0.05)
    await box.start()
    (box.path / "a").write_text("x")
    await box.until(lambda: "the disk is full" in box.troubles[-1])
    full = False
    await box.one()
    await box.until(lambda: box.troubles[-1] == "")
    assert box.left() == []


async def test_a_file_system_that_refuses_is_trouble_and_tried_again(box, monkeypatch):
    rename = os.rename
    bad = True

    def sometimes(source, target):
        if bad:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(source, target)

    await box.start()
    monkeypatch.setattr("swarm.inbox.carrying.os.rename", sometimes)
    (box.path / "a").write_text("x")
    (box.path / "b").write_text("y")
    await box.until(lambda: "No space left" in box.troubles[-1])
    bad = False
    await box.number(2)
    await box.until(lambda: box.troubles[-1] == "")


async def test_another_file_system_is_copied_from(box, monkeypatch):
    rename = os.rename

    def across(source, target):
        if ".taken" in str(source):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        rename(source, target)

    monkeypatch.setattr("swarm.inbox.carrying.os.rename", across)
    await box.start()
    (box.path / "d" / "sub").mkdir(parents=True)
    (box.path / "d" / "sub" / "f").write_text("x")
    task = await box.one()
    assert (box.input(task) / "sub" / "f").read_text() == "x"
    assert box.left() == []


async def test_it_sleeps_while_nothing_happens(box):
    """One wake is the test's own."""
    await box.start()
    wakes = 0
    wait = box.inbox._wait

    async def counted(until):
        nonlocal wakes
        wakes += 1
        await wait(until)

    box.inbox._wait = counted
    (box.path / "a").write_text("x")
    await box.one()
    await eventually_async(lambda: box.left() == [])
    before = wakes
    await asyncio.sleep(0.3)
    assert wakes <= before + 1
    assert box.inbox._next() is None


@given(st.text(max_size=300))
def test_every_name_is_ignored_reserved_or_safe_to_use(name: str):
    why = reserved(name)
    assert isinstance(is_ignored(name), bool)
    if not why:
        assert len(name.encode()) <= 200
        assert one_line(name, 500) == " ".join(name.split())
