"""The janitor's runs: a child that salvages and removes workspaces, a batch at a time.

Removing may mean running git in what sessions left behind, so it is never done in the supervisor.
What the janitor did with each workspace comes as a ``Tidied`` line on its lifeline.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

from swarm.core import journal
from swarm.supervisor.children import Children, Order
from swarm.supervisor.specs import Specs
from swarm.wire import lifeline

NAME = "janitor"
BATCH = 400
"""Workspaces of one run: their paths must fit one packet to the zygote."""
BASE_SECONDS, EACH_SECONDS = 120.0, 30.0
"""How long a run may take; git in it has limits of its own, far below."""
START_SECONDS = 15.0
"""How long its fork may take; a zygote that hangs is ended then, or no stop would ever end."""
TRIES = 3
"""How often a janitor that cannot be started is tried: the zygote may be dying just now."""


class Tidying:
    """One tidying, from the order to the last batch's exit."""

    def __init__(
        self,
        children: Children,
        specs: Specs,
        log: str,
        workspaces: list[str],
        note: Callable[[journal.Entry], None],
        done: Callable[[tuple[str, ...]], None],
    ) -> None:
        self._children = children
        self._specs = specs
        self._log = log
        self._left = [path for path in workspaces if os.path.lexists(path)]
        self._note = note
        self._done = done
        self._lines: list[str] = []
        self._batch: list[str] = []
        self._failed = 0
        self._timer: asyncio.TimerHandle | None = None
        self._pid = 0
        children.loop.call_soon(self._next)

    def spawned(self, pid: int) -> None:
        """It runs; it may not run for ever."""
        self._pid = pid
        self._still()
        limit = BASE_SECONDS + EACH_SECONDS * len(self._batch)
        self._timer = self._children.loop.call_later(limit, self._too_long)

    def spawn_failed(self, error: str) -> None:
        """It does not run; its workspaces stay unless another try works."""
        self._still()
        self._failed += 1
        if self._failed < TRIES:
            self._children.loop.call_later(0.2 * self._failed, self._start)
            return
        self._kept(f"the janitor could not be started: {error}")
        self._next()

    def said(self, line: lifeline.ChildLine) -> None:
        """What it did, or why it cannot."""
        match line:
            case lifeline.Tidied():
                self._tidied(line)
            case lifeline.Trouble(text=text) | lifeline.CannotStart(error=text) if text:
                self._lines.append(_one_line(text))
            case _:
                pass

    def _tidied(self, line: lifeline.Tidied) -> None:
        name = os.path.basename(line.workspace)
        if not line.removed:
            self._note(journal.WorkspaceKept(name, _one_line(line.problem)))
            self._lines.append(f"{line.workspace} stays: {_one_line(line.problem)}")
            return
        self._note(journal.WorkspaceRemoved(name, line.salvaged))
        if line.salvaged:
            saved = ", ".join(_one_line(ref) for ref in line.salvaged)
            self._lines.append(f"unsaved work of {name} is kept in the hub: {saved}")

    def exited(self, status: int) -> None:
        """The batch is done."""
        self._still()
        if status != 0:
            self._kept(f"the janitor ended with status {status}")
        self._next()

    def _next(self) -> None:
        self._batch, self._left = self._left[:BATCH], self._left[BATCH:]
        self._failed = 0
        if self._batch:
            self._start()
        else:
            self._done(tuple(self._lines))

    def _start(self) -> None:
        batch = tuple(self._batch)
        self._children.spawn(Order(NAME, "janitor", lambda: self._specs.janitor(batch), self._log))
        self._timer = self._children.loop.call_later(START_SECONDS, self._children.hasten, NAME)

    def _still(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_long(self) -> None:
        self._lines.append("the janitor took too long and was ended")
        self._children.signal(NAME, self._pid, signal.SIGKILL)

    def _kept(self, why: str) -> None:
        kept = [path for path in self._batch if os.path.lexists(path)]
        if kept:
            shown = ", ".join(kept[:5]) + (" …" if len(kept) > 5 else "")
            self._lines.append(f"{why}; nothing is lost, still there: {shown}")


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]
