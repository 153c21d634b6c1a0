"""A real inbox in a temporary home: real files, a real watch, a real ledger, no swarm."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from tests_support import eventually_async

from swarm.config.places import Places
from swarm.inbox.shell import Inbox, Ports
from swarm.ledger import SqliteLedger, Task
from swarm.logs import JsonLog
from swarm.wire.lifeline import InboxRules


class Box:
    """One home with an inbox that can be started, stopped and started again."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.path = home / "inbox"
        self.ledger = SqliteLedger(home / "ledger.db")
        self.troubles: list[str] = [""]
        self.refused: list[str] = []
        self.added = 0
        self.rules = InboxRules(path=str(self.path), settle_seconds=0)
        self.inbox: Inbox
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Run, until it watches."""
        ports = Ports(
            self.troubles.append, self._add, self.refused.append, JsonLog(self.home / "log")
        )
        self.inbox = Inbox(Places(self.home), self.ledger, ports)
        self.inbox.place_left()
        self.inbox.use(self.rules)
        self._running = asyncio.create_task(self.inbox.run())
        await eventually_async(lambda: len(self.troubles) > 1, say="it does not watch")

    def use(self, **rules: object) -> None:
        """Other settings, while it runs."""
        values = {name: getattr(self.rules, name) for name in self.rules.__struct_fields__}
        self.rules = InboxRules(**{**values, **rules})  # type: ignore[arg-type]
        if self._running is not None:
            self.inbox.use(self.rules)

    async def stop(self) -> None:
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
            self._running = None
            self.troubles = [""]

    async def crashed(self, how: type[BaseException]) -> None:
        """Wait until it ends by itself, so."""
        assert self._running is not None
        with pytest.raises(how):
            await self._running
        self._running = None
        self.troubles = [""]

    def _add(self) -> None:
        self.added += 1

    def tasks(self) -> list[Task]:
        return self.ledger.tasks(limit=100_000)

    async def one(self, within: float = 10) -> Task:
        """The one task there is, once it is there with its input."""
        await eventually_async(lambda: self.tasks() and self.added, within, say=str(self.troubles))
        (task,) = self.tasks()
        return task

    async def number(self, count: int, within: float = 30) -> list[Task]:
        """So many tasks."""
        await eventually_async(lambda: len(self.tasks()) >= count, within, say=str(self.troubles))
        return self.tasks()

    async def until(self, condition: Callable[[], object]) -> None:
        await eventually_async(condition, say=f"{self.troubles[-3:]} {self.refused[-3:]}")

    def input(self, task: Task) -> Path:
        (found,) = (Path(task.folder) / "input").iterdir()
        return found

    def aside(self) -> dict[str, str]:
        """What lies in quarantine, with its reasons."""
        folder = self.path / ".quarantine"
        kept = [p for p in folder.iterdir() if p.suffix != ".reason"]
        return {p.name: p.with_name(f"{p.name}.reason").read_text() for p in kept}

    def left(self) -> list[str]:
        """What is on its way nowhere, or was dropped and not taken."""
        ways = (self.path / ".taken", self.home / "tasks" / ".incoming")
        names = [str(p) for way in ways if way.is_dir() for p in way.iterdir()]
        return names + [p.name for p in self.path.iterdir() if not p.name.startswith(".")]


@pytest_asyncio.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    home = tmp_path / "home"
    home.mkdir()
    made = Box(home)
    yield made
    await made.stop()
    made.ledger.close()
