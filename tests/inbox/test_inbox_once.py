"""A drop becomes one task, wherever a kill finds it."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

from swarm.inbox import carrying, settling


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies there at a start is waited for much shorter."""
    monkeypatch.setattr(settling, "BLIND_SECONDS", 0.02)


class Killed(BaseException):
    """The process ends here: nothing after it happens."""


class Killer:
    """Lets so many steps happen, then ends everything for good."""

    def __init__(self, steps: int) -> None:
        self.left = steps
        self.dead = False

    def step(self) -> None:
        if self.dead or self.left == 0:
            self.dead = True
            raise Killed
        self.left -= 1

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Die before the call, or right after it."""

        def stepping(*args: Any, **more: Any) -> Any:
            self.step()
            done = call(*args, **more)
            self.step()
            return done

        return stepping


async def die(box: Any, steps: int, across: bool) -> bool:
    """Take drops in until that step; whether it came to it."""
    killer = Killer(steps)
    plain = os.rename

    def rename(source: Any, target: Any) -> None:
        if across and ".taken" in str(source) and ".quarantine" not in str(target):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        plain(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(carrying.os, "rename", killer.around(rename))
        patch.setattr(carrying.Carrier, "_drop_claim", killer.around(carrying.Carrier._drop_claim))
        patch.setattr(carrying, "_copy", killer.around(carrying._copy))
        patch.setattr(box.ledger, "submit", killer.around(box.ledger.submit))
        with contextlib.suppress(Killed):
            await box.start()
        await box.until(lambda: killer.dead or box.left() == [])
        if killer.dead:
            await box.crashed(Killed)
        else:
            await box.stop()
    return killer.dead


@pytest.mark.parametrize("across", [False, True], ids=["moved", "copied"])
async def test_a_kill_at_any_step_loses_and_doubles_nothing(box, across):
    box.path.mkdir()
    steps, number, came = 0, 0, True
    while came:
        (box.path / f"{number}").mkdir()
        (box.path / f"{number}" / "TASK.md").write_text(f"task {number}")
        (box.path / f"{number}" / "data").write_text("x" * 100)
        os.utime(box.path / f"{number}", (0, 0))
        came = await die(box, steps, across)
        await box.start()
        await box.until(lambda: box.left() == [])
        await box.stop()
        steps, number = steps + 1, number + 1
    assert steps > 6
    tasks = box.tasks()
    assert sorted(box.ledger.prompt(task.id) for task in tasks) == sorted(
        f"task {one}" for one in range(number)
    )
    for task in tasks:
        assert sorted(p.name for p in box.input(task).iterdir()) == ["TASK.md", "data"]
    kept = sorted(p.name for p in (box.home / "tasks").iterdir() if p.name != ".incoming")
    assert kept == sorted(task.id for task in tasks)


async def test_a_kill_while_one_is_put_aside_keeps_it(box):
    box.path.mkdir()
    steps, came = 0, True
    while came:
        (box.path / "input").write_text("x")
        came = await die(box, steps, across=False)
        await box.start()
        await box.until(lambda: box.left() == [])
        await box.stop()
        steps += 1
    assert len(box.aside()) == steps
    assert box.tasks() == []


async def test_a_task_has_its_input_before_it_can_be_assigned(box):
    """Killed after the ledger had it and before its directory took its name."""
    box.path.mkdir()
    (box.path / "a").write_text("x")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(carrying.Carrier, "place", Killer(0).around(carrying.Carrier.place))
        await box.start()
        await box.crashed(Killed)
    (task,) = box.tasks()
    assert not os.path.exists(task.folder)
    box.inbox.place_left()
    assert box.input(task).read_text() == "x"
