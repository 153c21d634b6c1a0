"""Lifeline lines to events, effects to lines; and the inbox between them."""

from __future__ import annotations

import asyncio
import typing

import pytest
from fleet_plays import session
from tests_support import eventually_async

from swarm.core import fleet_effects as fx
from swarm.core import fleet_events as e
from swarm.core.model import AgentState, Containment, NoticeKind, Outcome
from swarm.errors import BadMessage
from swarm.supervisor.inbox import Inbox
from swarm.supervisor.lines import (
    CoordinatorEffect,
    DaemonEffect,
    event_of,
    line_to_child,
    line_to_coordinator,
)
from swarm.wire import lifeline as wire

FINISHED = wire.Finished("t-1", 3, Outcome.SUCCEEDED)
WORK = wire.Work("t-1", 1, "do it", "builder")
STARTED = wire.Started("t-1", 3, 10, 11, 12, Containment.PID_NAMESPACE, 1.5)
FACT = e.Fact("a", "i" * 16, "builder", AgentState.IDLE, 5.0, warm=True)

FROM_DAEMON: list[tuple[wire.ChildLine, e.Event]] = [
    (wire.Beat(seq=1, task="t", fence=2), e.ChildBeat("a", "t", 2)),
    (wire.Ready(agent_id="x"), e.ChildReady("a", "x", "")),
    (wire.CannotStart(error="two\nlines"), e.ChildFailing("a", "two lines")),
    (wire.Trouble(text="disk full"), e.ChildTrouble("a", "disk full")),
    (wire.ChatState(connected=False, attempts=5, reason="r"), e.ChatIs("a", False, 5, "r")),
    (wire.Promote(task="t", fence=1, coordinator="c"), e.PromotionAsked("a", "t", 1, "c")),
    (
        STARTED,
        e.SessionStarted("a", "t-1", 3, e.Session(10, 11, 12, "pid_namespace", 1.5)),
    ),
    (wire.Ended(finished=FINISHED), e.SessionEnded("a", FINISHED)),
    (wire.Idle(warm=True), e.DaemonIdle("a", True)),
    (
        wire.Probed(id=7, outcome=Outcome.QUOTA, reason="used\nup", retry_at=9.5),
        e.Probed("a", 7, Outcome.QUOTA, "used up", 9.5),
    ),
]


@pytest.mark.parametrize(("line", "event"), FROM_DAEMON)
def test_a_daemons_line_is_its_event(line: wire.ChildLine, event: e.Event) -> None:
    assert event_of("a", line, daemon=True) == event


def test_only_the_coordinator_assigns_and_only_daemons_ask() -> None:
    assigned = wire.Assigned("a", 3, WORK)
    assert event_of("coordinator", assigned, daemon=False) == e.WorkAssigned("a", 3, WORK)
    with pytest.raises(BadMessage):
        event_of("a", assigned, daemon=True)
    with pytest.raises(BadMessage):
        event_of("chat", wire.Promote("t", 1, "c"), daemon=False)
    with pytest.raises(BadMessage):
        event_of("a", wire.Tidied(workspace="/w", removed=True), daemon=True)


def test_every_line_a_child_can_say_is_an_event_or_refused() -> None:
    """A new message cannot be forgotten here: each is one or the other, never passed over."""
    said = {type(line) for line, _event in FROM_DAEMON}
    known = {wire.Hello, wire.Spent, wire.HubReady, wire.Assigned, wire.Revoke, wire.Tidied}
    known |= {wire.Cleaned}
    assert said | known == set(typing.get_args(wire.ChildLine))


TO_DAEMON: list[tuple[DaemonEffect, wire.ParentLine]] = [
    (fx.TellLeave("a", 2.0, drain=True), wire.Leave(2.0, drain=True)),
    (fx.Grant("a", "t-1", 3, WORK), wire.Granted("t-1", 3, WORK)),
    (fx.Grant("a", "t-1", 3, None), wire.Granted("t-1", 3)),
    (fx.Deny("a", "t-1", 3, "full", 1.0), wire.Denied("t-1", 3, "full", 1.0)),
    (
        fx.TellEndSession("a", "t-1", 3, Outcome.CANCELLED, "r", 5.0),
        wire.EndSession("t-1", 3, Outcome.CANCELLED, "r", 5.0),
    ),
    (fx.TellPrepare("a", "/hub", "copy"), wire.Prepare("/hub", "copy")),
    (fx.TellProbe("a", 7), wire.Probe(7)),
]

TO_COORDINATOR: list[tuple[CoordinatorEffect, wire.ParentLine]] = [
    (
        fx.TellSnapshot((FACT,), (FINISHED,)),
        wire.Snapshot((wire.AgentFact("a", "i" * 16, "builder", AgentState.IDLE, 5.0, warm=True),),
                      (FINISHED,)),
    ),
    (
        fx.TellAgent(FACT),
        wire.AgentIs(wire.AgentFact("a", "i" * 16, "builder", AgentState.IDLE, 5.0, warm=True)),
    ),
    (fx.TellGone("a"), wire.AgentGone("a")),
    (fx.TellSlots(0, "paused"), wire.Slots(0, "paused")),
    (fx.TellRenew("t-1", 3), wire.Renew("t-1", 3)),
    (
        fx.TellBegun("a", "t-1", 3, session(10)),
        wire.Begun("a", wire.Started("t-1", 3, 10, 11, 5, Containment.PID_NAMESPACE, 1.5)),
    ),
    (fx.TellLost("a", "t-1", 3, "r", counts=False), wire.Lost("a", "t-1", 3, "r", counts=False)),
    (fx.TellReported("a", FINISHED), wire.Reported("a", FINISHED)),
    (
        fx.TellNotice(NoticeKind.DISK, "low", "a"),
        wire.Notice(NoticeKind.DISK, "low", "a"),
    ),
    (fx.TellPoke(), wire.Poke()),
]  # fmt: skip


@pytest.mark.parametrize(("effect", "line"), TO_DAEMON)
def test_an_effect_is_one_line_to_its_child(effect: DaemonEffect, line: wire.ParentLine) -> None:
    assert line_to_child(effect) == line


@pytest.mark.parametrize(("effect", "line"), TO_COORDINATOR)
def test_an_effect_is_one_line_to_the_coordinator(
    effect: CoordinatorEffect, line: wire.ParentLine
) -> None:
    assert line_to_coordinator(effect) == line


def test_every_effect_that_is_a_line_has_one() -> None:
    spent = wire.Spent("t-1", 3, usage=FINISHED.usage)
    assert line_to_coordinator(fx.TellSpent(spent)) == wire.Used(spent)
    tested = {type(effect) for effect, _line in (*TO_DAEMON, *TO_COORDINATOR)} | {fx.TellSpent}
    assert tested == {*typing.get_args(DaemonEffect), *typing.get_args(CoordinatorEffect)}


class Echo:
    """A machine that asks for what it was told, and for one thing more."""

    def __init__(self) -> None:
        self.seen: list[e.Event] = []
        self.due: float | None = None

    def handle(self, event: e.Event, now: float, jitter: float = 0.0) -> list[fx.Effect]:
        assert 0.0 <= jitter <= 1.0
        self.seen.append(event)
        if isinstance(event, e.Tick):
            self.due = None
        return [fx.End()] if event == e.Up() else []

    def deadline(self) -> float | None:
        return self.due


async def test_what_an_effect_leads_to_is_handled_after_the_event_it_came_from() -> None:
    machine = Echo()
    loop = asyncio.get_running_loop()
    inbox = Inbox(loop, machine, lambda _effect: inbox.post(e.MemoryIs(1.0)))
    inbox.post(e.Up())
    assert machine.seen == [e.Up(), e.MemoryIs(1.0)]
    machine.due = loop.time() + 0.01
    inbox.post(e.MemoryIs(2.0))
    await eventually_async(lambda: e.Tick() in machine.seen)
    inbox.close()
