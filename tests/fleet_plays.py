"""What the fleet's tests share: a fleet that is up, and shorthand for its course."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from swarm.core import fleet_effects as fx
from swarm.core import fleet_events as e
from swarm.core.fleet import Fleet
from swarm.core.fleet_settings import FleetSettings
from swarm.core.life import Spawn
from swarm.core.model import Outcome, Usage

OUR_COORDINATOR = "c" * 16


@dataclass(frozen=True)
class Work:
    """An assignment's work."""

    task: str
    attempt: int = 1
    token_budget: int | None = None
    usd_budget: float | None = None


@dataclass(frozen=True)
class Report:
    """A report."""

    task: str
    fence: int
    outcome: Outcome = Outcome.SUCCEEDED
    reason: str = ""
    branch: str | None = None
    commits: int = 0
    retry_at: float | None = None
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = None


class Play:
    """A fleet, its clock, and every effect it asked for."""

    def __init__(
        self,
        wanted: dict[str, int] | None = None,
        fleet: type[Fleet] = Fleet,
        reports: tuple[tuple[str, Report], ...] = (),
        **settings: Any,
    ) -> None:
        self.now = 100.0
        self.pids = 1000
        self.effects: list[fx.Effect] = []
        self.fleet = fleet(
            FleetSettings(**settings),
            services=("chat", "coordinator"),
            wanted={"builder": 2} if wanted is None else wanted,
            coordinator_id=OUR_COORDINATOR,
            epoch=1e9,
            reports=reports,
        )

    def do(self, event: e.Event, later: float = 0.0) -> list[fx.Effect]:
        """One event."""
        self.now += later
        effects = self.fleet.handle(event, self.now)
        self.effects += effects
        return effects

    def of(self, kind: type, effects: list[fx.Effect] | None = None) -> list[Any]:
        """The effects of one kind."""
        return [x for x in (self.effects if effects is None else effects) if isinstance(x, kind)]

    def notes(self, kind: type) -> list[Any]:
        """The journal's entries of one kind."""
        return [x.entry for x in self.of(fx.Note) if isinstance(x.entry, kind)]

    def born(self, name: str, *, beat: bool = True) -> None:
        """Spawned, ready and beating."""
        self.pids += 1
        self.do(e.Spawned(name, self.pids))
        self.do(e.ChildReady(name, agent_id=f"id-{name}"))
        if beat:
            self.do(e.ChildBeat(name))

    def up(self) -> Play:
        """All of it ready."""
        effects = self.do(e.Up())
        while spawns := self.of(Spawn, effects):
            before = len(self.effects)
            for spawn in spawns:
                self.born(spawn.name)
            effects = self.effects[before:]
        return self

    def ask(self, name: str, task: str, fence: int = 1, coordinator: str = OUR_COORDINATOR) -> None:
        """The daemon asks for a promotion."""
        self.do(e.PromotionAsked(name, task, fence, coordinator))

    def assign(self, name: str, task: str, fence: int = 1) -> None:
        """The coordinator leases a task."""
        self.do(e.WorkAssigned(name, fence, Work(task)))

    def activate(self, name: str, task: str, fence: int = 1) -> None:
        """A session runs."""
        self.assign(name, task, fence)
        self.ask(name, task, fence)
        self.do(e.SessionStarted(name, task, fence, session()))

    def finish(self, name: str, task: str, fence: int = 1) -> None:
        """It has ended, and the daemon is idle again."""
        self.do(e.SessionEnded(name, Report(task, fence)))
        self.do(e.DaemonIdle(name, warm=True))

    def state(self, name: str) -> str:
        """The shown state."""
        return self.fleet.agents[name].state.value


def session(pid: int = 77) -> e.Session:
    """A session's facts."""
    return e.Session(pid, pid + 1, 5, "pid_namespace", 1.5)


A, B, C = (f"swarm-builder-00{i}" for i in (1, 2, 3))
