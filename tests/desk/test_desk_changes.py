"""Who waits for the ledger is woken by a commit, and by nothing else."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests_support import eventually_async, stretch

from swarm.desk import changes as module
from swarm.desk.changes import Changes
from swarm.ledger import Ledger, NewTask, SqliteLedger, open_ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with open_ledger(path) as opened:
        yield opened


def add(path: Path) -> None:
    """A task, by another process."""
    code = "import sys; from pathlib import Path; from swarm.ledger import *;"
    code += "open_ledger(Path(sys.argv[1])).submit(NewTask('x'))"
    subprocess.run([sys.executable, "-P", "-c", code, str(path)], check=True, timeout=30)


async def woken(path: Path, ledger: Ledger, within: float) -> list[int]:
    """Wait for a task that another process adds; how many there were at each look."""
    looks: list[int] = []

    def look() -> bool | None:
        looks.append(len(ledger.tasks()))
        return True if looks[-1] else None

    async with Changes(path) as changes:
        waiting = asyncio.ensure_future(changes.until(look))
        await eventually_async(lambda: looks)
        await asyncio.to_thread(add, path)
        try:
            async with asyncio.timeout(within):
                assert await waiting
        finally:
            waiting.cancel()
            await asyncio.wait([waiting])
    return looks


async def test_a_commit_of_another_process_wakes_who_waits(path: Path, ledger: Ledger) -> None:
    looks = await woken(path, ledger, 10 * stretch())
    assert looks[0] == 0
    assert looks[-1] == 1
    assert len(looks) <= 3, "it looks when something was committed, not all the time"


async def test_one_that_takes_every_change_for_an_old_one_is_caught(
    path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SqliteLedger, "data_version", lambda self: 1)
    with pytest.raises(TimeoutError):
        await woken(path, ledger, 0.3)


async def test_without_inotify_it_still_wakes(
    path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(module, "Inotify", none_left)
    assert (await woken(path, ledger, 10 * stretch()))[-1] == 1


async def test_many_wait_at_once_and_each_gets_his_own(path: Path, ledger: Ledger) -> None:
    def at_least(count: int) -> int | None:
        found = len(ledger.tasks())
        return found if found >= count else None

    async with Changes(path) as changes:
        waits = [asyncio.ensure_future(changes.until(lambda n=n: at_least(n))) for n in (1, 2, 3)]
        gone = asyncio.ensure_future(changes.until(lambda: at_least(9)))
        for done in (1, 2, 3):
            await asyncio.sleep(0)
            ledger.submit(NewTask("x"))
            async with asyncio.timeout(10 * stretch()):
                assert await waits[done - 1] >= done
        gone.cancel()
        await asyncio.wait([gone])
        assert gone.cancelled()
        # Nobody waits; the next one is served all the same.
        ledger.submit(NewTask("x"))
        again = asyncio.ensure_future(changes.until(lambda: at_least(5)))
        await asyncio.sleep(0)
        ledger.submit(NewTask("x"))
        async with asyncio.timeout(10 * stretch()):
            assert await again == 5


async def test_a_wait_ends_in_time_and_looks_once_more(path: Path, ledger: Ledger) -> None:
    looks = []
    async with Changes(path) as changes:
        assert await changes.until(lambda: looks.append(1), 0.02) is None
    assert len(looks) == 2


async def test_what_a_look_raises_ends_the_wait(path: Path, ledger: Ledger) -> None:
    def look() -> None:
        raise ValueError("no")

    async with Changes(path) as changes:
        with pytest.raises(ValueError, match="no"):
            await changes.until(look)
