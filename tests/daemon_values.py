"""Ready-made daemons and lines for the tests of the daemon's machine."""

from __future__ import annotations

from typing import TypeVar

from swarm.core.model import Containment, Outcome
from swarm.daemon import machine
from swarm.daemon.outbox import Entry
from swarm.daemon.state import (
    ChatUp,
    Daemon,
    Effect,
    Heard,
    Me,
    Recovered,
    Say,
    SessionBegan,
    Tell,
    Tick,
    Told,
)
from swarm.wire.lifeline import ChildLine, Finished, Granted, RepoWork, Tuning, Work
from swarm.wire.work import Assign, TaskRef, WorkMessage

COORDINATOR = "c" * 16
NAME = "swarm-builder-001"
ME = Me(NAME, "a" * 16, "builder", takes=("general",))
HUB = "/home/hub/main.git"
TUNING = Tuning(heartbeat_seconds=30.0, coordinators=(COORDINATOR,), grace_seconds=10.0)
BEGAN = SessionBegan(101, 100, 5000, Containment.PID_NAMESPACE, 1e9)

T = TypeVar("T")


def heard(message: WorkMessage, sender: str = COORDINATOR) -> Heard:
    return Heard(sender, message)


def fresh_daemon(
    *,
    me: Me = ME,
    tuning: Tuning = TUNING,
    hub: str = HUB,
    fences: dict[str, int] | None = None,
    unsettled: tuple[Entry, ...] = (),
    recovering: bool = False,
) -> Daemon:
    return machine.begin(
        me,
        tuning,
        fences=fences or {},
        unsettled=unsettled,
        hub=hub,
        recovering=recovering,
        now=0.0,
    )


def idle_daemon(**settings: object) -> Daemon:
    daemon = fresh_daemon(**settings)  # type: ignore[arg-type]
    daemon, _ = machine.step(daemon, Tick(), 0.0)
    daemon, _ = machine.step(daemon, ChatUp(), 0.0)
    daemon, _ = machine.step(daemon, Recovered(), 0.0)
    return daemon


def work_of(task: str = "t-1", *, hub: str | None = HUB, **fields: object) -> Work:
    repo = hub and RepoWork(hub, None, "main", f"swarm/{NAME}/{task}", "abc", "abc")
    return Work(task, 1, "do it", "builder", repo=repo or None, **fields)  # type: ignore[arg-type]


def assign(task: str = "t-1", fence: int = 1, agent: str = ME.agent_id) -> Heard:
    return heard(Assign(agentId=agent, task=TaskRef(id=task), fence=fence))


def grant(task: str = "t-1", fence: int = 1, **fields: object) -> Told:
    return Told(Granted(task, fence, work_of(task, **fields)))  # type: ignore[arg-type]


def active_daemon(now: float = 1.0, **settings: object) -> Daemon:
    daemon = idle_daemon(**settings)
    for event in (assign(), grant(), BEGAN):
        daemon, _ = machine.step(daemon, event, now)
    return daemon


def finished(
    task: str = "t-1", fence: int = 1, outcome: Outcome = Outcome.SUCCEEDED, reason: str = ""
) -> Finished:
    return Finished(task, fence, outcome, reason)


def told(effects: tuple[Effect, ...], kind: type[T]) -> list[T]:
    lines: list[ChildLine] = [e.line for e in effects if isinstance(e, Tell)]
    return [line for line in lines if isinstance(line, kind)]


def messages(effects: tuple[Effect, ...], kind: type[T]) -> list[T]:
    said: list[WorkMessage] = [e.message for e in effects if isinstance(e, Say)]
    return [message for message in said if isinstance(message, kind)]


def of(effects: tuple[Effect, ...], kind: type[T]) -> list[T]:
    return [e for e in effects if isinstance(e, kind)]
