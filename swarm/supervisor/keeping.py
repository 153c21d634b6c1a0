"""The cleaner's run: a child that removes what is past its time, as the disk runs low.

Like the janitor (:mod:`swarm.supervisor.tidy`) it runs beside everything else; what it did comes
as one line on its lifeline, and its end as one :class:`~swarm.core.fleet_events.CleanedUp`.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from swarm.core.fleet_events import CleanedUp
from swarm.core.fleet_state import FleetState
from swarm.spawner.workspace import owned_workspaces
from swarm.supervisor.children import Children, Order
from swarm.supervisor.tidy import BATCH
from swarm.wire import lifeline

NAME = "cleaner"
LONGEST_SECONDS = 1800.0
"""How long a run may take; what it did not come to, the next one will."""
START_SECONDS = 15.0
"""How long its fork may take, as the janitor's."""


class Keeping:
    """One clean-up, from the order to the child's exit."""

    def __init__(
        self,
        children: Children,
        spec: Callable[[], bytes],
        log: str,
        done: Callable[[CleanedUp, tuple[str, ...]], None],
    ) -> None:
        self._children = children
        self._done = done
        self._said: lifeline.Cleaned | None = None
        self._trouble = ""
        self._pid = 0
        self._ended = False
        self._timer: asyncio.TimerHandle | None = None
        children.spawn(Order(NAME, "cleaner", spec, log))
        self._set(START_SECONDS, lambda: children.hasten(NAME))

    def spawned(self, pid: int) -> None:
        """It runs; it may not run for ever, nor when it was ended before it was born."""
        self._pid = pid
        self._set(LONGEST_SECONDS, self._too_long)
        if self._ended:
            self.end()

    def spawn_failed(self, error: str) -> None:
        """It does not run; the next time will come."""
        self._finish(f"it could not be started: {error}")

    def said(self, line: lifeline.ChildLine) -> None:
        """What it did, or why it cannot."""
        match line:
            case lifeline.Cleaned():
                self._said = line
            case lifeline.Trouble(text=text) | lifeline.CannotStart(error=text):
                self._trouble = text
            case _:
                pass

    def exited(self, status: int) -> None:
        """It is over."""
        problem = "" if self._said is not None or self._ended else f"it ended with status {status}"
        self._finish(problem)

    def end(self) -> None:
        """End it, wherever it is: the next one goes on with what it left."""
        self._ended = True
        if self._pid:
            self._children.signal(NAME, self._pid, signal.SIGKILL)

    def _too_long(self) -> None:
        self._trouble = "it took too long and was ended"
        self.end()

    def _set(self, seconds: float, call: Callable[[], None]) -> None:
        self._still()
        self._timer = self._children.loop.call_later(seconds, call)

    def _still(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _finish(self, problem: str) -> None:
        self._still()
        said = self._said or lifeline.Cleaned()
        problems = [one_line(text) for text in (self._trouble, problem, *said.problems) if text]
        event = CleanedUp(said.freed_mb, said.saved, problems[0] if problems else "")
        kept = [f"commits kept in the hub: {', '.join(map(one_line, said.saved))}"] * bool(
            said.saved
        )
        self._done(event, (f"{said.freed_mb} MB removed", *kept, *problems))


def left_behind(fleet: FleetState, base: str, home_id: str) -> tuple[str, ...]:
    """Workspaces of agents that are gone, as many as one spec may name.

    None of them gets an agent meanwhile: a name is not given out while its folder is there.
    """
    used = {*fleet.agents, *fleet.to_tidy, *fleet.tidying}
    owned = owned_workspaces(base, home_id)
    return tuple(one.path for one in owned if one.name not in used)[:BATCH]


def one_line(text: str) -> str:
    """What a child says is shown to people: one line, not too long."""
    return " ".join(text.split())[:500]
