"""Looking around by the clock: what every tree uses, and what was spent.

Only the supervisor does so, and only here (design, "Idle costs nothing").
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from swarm.core import fleet_events as e
from swarm.core.fleet_agents import Active
from swarm.core.fleet_state import FleetState
from swarm.core.limits import Use
from swarm.health.sessions import Root
from swarm.logs import bound_text
from swarm.supervisor.monitor import Held, Monitor
from swarm.supervisor.spending import read_spending

if TYPE_CHECKING:
    from swarm.supervisor.shell import Shell


LOOK_SECONDS = 1.0
"""Between two light looks at running sessions: a program can take a gigabyte in that time, not a
machine; and a look at five sessions costs about a millisecond."""


async def sample_trees(shell: Shell, monitor: Monitor) -> None:
    """Look at everything each ``health.sample_seconds``, and lightly at what runs in between.

    A defect is told and survived: without these looks no limit would hold.
    """
    while True:
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_sample(shell, monitor))
                both.create_task(_watch(shell, monitor))
        except* Exception as defects:  # noqa: BLE001 - whatever it was, looking goes on
            for defect in defects.exceptions:
                shell.loop.call_exception_handler({"message": "sampling", "exception": defect})
        await asyncio.sleep(LOOK_SECONDS)


async def _sample(shell: Shell, monitor: Monitor) -> None:
    """Sample every tree, as often as it is set at the time."""
    while True:
        await asyncio.sleep(shell.specs.configuration.settings.health.sample_seconds)
        roots = {name: child.pid for name, child in shell.children.live.items()}
        fleet = shell.fleet
        busy = {name for name, agent in fleet.agents.items() if agent.busy}
        try:
            machine, uses = monitor.sample(
                roots, frozenset(busy | fleet.services.keys()), session_roots(fleet)
            )
        except OSError as error:  # no descriptor to be had: what was known stays, for once
            shell.log.write("not_sampled", error=error.strerror)
            continue
        shell.post(machine)
        _tell(shell, uses)
        read_spending(shell)
        bound_text(shell.places.logs / "stderr.log")


async def _watch(shell: Shell, monitor: Monitor) -> None:
    """Look lightly at running sessions; while none runs, not even the clock is looked at."""
    while True:
        if not (roots := session_roots(shell.fleet)):
            shell.session_began.clear()
            await shell.session_began.wait()
        else:
            _tell(shell, monitor.look(roots))
        await asyncio.sleep(LOOK_SECONDS)


def session_roots(fleet: FleetState) -> dict[Held, Root]:
    """The trees of running sessions, by agent, task and fence."""
    roots: dict[Held, Root] = {}
    for name, agent in fleet.agents.items():
        if isinstance(agent.work, Active):
            session, limits = agent.work.session, fleet.settings.limits_of(agent.role)
            roots[name, agent.work.task, agent.work.fence] = Root(
                session.tree_pid,
                session.tree_start,
                session.cgroup,
                limits.memory_mb,
                limits.max_processes,
            )
    return roots


def _tell(shell: Shell, uses: Mapping[Held, Use]) -> None:
    for (name, task, fence), use in uses.items():
        shell.post(e.SessionUse(name, task, fence, use))
