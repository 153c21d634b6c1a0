"""Between the lifeline's messages and the fleet's events and effects; no I/O, no decisions.

``core`` knows no message format and ``wire`` no fleet: this is the one place that knows both.
"""

from __future__ import annotations

from swarm.core import fleet_effects as fx
from swarm.core import fleet_events as e
from swarm.core.budget import Amount
from swarm.core.fleet_state import COORDINATOR
from swarm.core.model import Containment
from swarm.errors import BadMessage
from swarm.wire import lifeline as wire


def event_of(name: str, line: wire.ChildLine, *, daemon: bool) -> e.Event | None:
    """What a child's line means; ``None`` for its first, which the channel has checked already.

    Raises :class:`~swarm.errors.BadMessage` for a line that is not this child's to say: only the
    coordinator assigns, only daemons ask.
    """
    match line:
        case wire.Hello():
            return None
        case wire.Beat(task=task, fence=fence, quiet=quiet):
            return e.ChildBeat(name, task, fence, quiet)
        case wire.Ready(agent_id=agent_id, address=address):
            return e.ChildReady(name, agent_id, address)
        case wire.CannotStart(error=error):
            return e.ChildFailing(name, _one_line(error))
        case wire.Trouble(text=text):
            return e.ChildTrouble(name, _one_line(text))
        case wire.HubReady() | wire.Assigned() | wire.Revoke():
            if name != COORDINATOR:
                raise BadMessage(f"{name} is no coordinator")
            return _of_coordinator(line)
        case wire.Tidied() | wire.Cleaned():
            raise BadMessage(f"{name} is no janitor")
        case _:
            if not daemon:
                raise BadMessage(f"{name} is no daemon")
            return _of_daemon(name, line)


_DaemonLine = (
    wire.ChatState | wire.Promote | wire.Started | wire.Spent | wire.Ended | wire.Idle
    | wire.Probed
)  # fmt: skip


def _of_daemon(name: str, line: _DaemonLine) -> e.Event:
    match line:
        case wire.ChatState(connected=connected, attempts=attempts, reason=reason):
            return e.ChatIs(name, connected, attempts, _one_line(reason))
        case wire.Promote(task=task, fence=fence, coordinator=coordinator):
            return e.PromotionAsked(name, task, fence, coordinator)
        case wire.Started(task=task, fence=fence):
            return e.SessionStarted(name, task, fence, session_of(line))
        case wire.Spent(task=task, fence=fence, usage=usage, cost_usd=cost):
            return e.SessionSpent(name, task, fence, line, Amount(usage.tokens, cost))
        case wire.Ended(finished=finished):
            return e.SessionEnded(name, finished)
        case wire.Idle(warm=warm):
            return e.DaemonIdle(name, warm)
        case wire.Probed(id=number, outcome=outcome, reason=reason, retry_at=retry_at):
            return e.Probed(name, number, outcome, _one_line(reason), retry_at)


def _of_coordinator(line: wire.HubReady | wire.Assigned | wire.Revoke) -> e.Event:
    match line:
        case wire.HubReady(hub=hub, clone=clone):
            return e.HubIsReady(hub, clone)
        case wire.Assigned(agent=agent, fence=fence, work=work):
            return e.WorkAssigned(agent, fence, work)
        case wire.Revoke(agent=agent, task=task, fence=fence, outcome=outcome, reason=reason):
            return e.WorkRevoked(agent, task, fence, outcome, reason)


def session_of(line: wire.Started) -> e.Session:
    """A started session as the fleet knows it."""
    return e.Session(
        line.session_pid,
        line.tree_pid,
        line.tree_start,
        line.containment.value,
        line.at,
        line.cgroup,
    )


DaemonEffect = (
    fx.TellLeave | fx.Grant | fx.Deny | fx.TellEndSession | fx.TellPrepare | fx.TellProbe
)  # fmt: skip
"""Effects that are one line to the child they name."""

CoordinatorEffect = (
    fx.TellSnapshot | fx.TellAgent | fx.TellGone | fx.TellSlots | fx.TellRenew | fx.TellBegun
    | fx.TellSpent | fx.TellLost | fx.TellReported | fx.TellNotice | fx.TellPoke
)  # fmt: skip
"""Effects that are one line to the coordinator."""


def line_to_child(effect: DaemonEffect) -> wire.ParentLine:
    """The line that carries out ``effect``."""
    match effect:
        case fx.TellLeave(grace=grace, drain=drain):
            return wire.Leave(grace_seconds=grace, drain=drain)
        case fx.Grant(task=task, fence=fence, work=work):
            assert work is None or isinstance(work, wire.Work)
            return wire.Granted(task=task, fence=fence, work=work)
        case fx.Deny(task=task, fence=fence, reason=reason, retry_after=retry_after):
            return wire.Denied(task=task, fence=fence, reason=reason, retry_after=retry_after)
        case fx.TellEndSession():
            return wire.EndSession(
                task=effect.task,
                fence=effect.fence,
                outcome=effect.outcome,
                reason=effect.reason,
                grace_seconds=effect.grace,
            )
        case fx.TellPrepare(hub=hub, clone=clone):
            return wire.Prepare(hub=hub, clone=clone)
        case fx.TellProbe(id=number):
            return wire.Probe(id=number)


def line_to_coordinator(effect: CoordinatorEffect) -> wire.ParentLine:
    """The line that carries out ``effect``."""
    match effect:
        case fx.TellSnapshot(facts=facts, reports=reports):
            return wire.Snapshot(
                agents=tuple(_fact(fact) for fact in facts),
                reports=tuple(_finished(report) for report in reports),
            )
        case fx.TellAgent(fact=fact):
            return wire.AgentIs(agent=_fact(fact))
        case fx.TellGone(name=name):
            return wire.AgentGone(name=name)
        case fx.TellSlots(free=free, reason=reason):
            return wire.Slots(free=free, reason=reason)
        case fx.TellRenew(task=task, fence=fence):
            return wire.Renew(task=task, fence=fence)
        case fx.TellBegun():
            return wire.Begun(agent=effect.name, started=_started(effect))
        case fx.TellSpent(spent=spent):
            assert isinstance(spent, wire.Spent)
            return wire.Used(spent=spent)
        case fx.TellLost():
            return wire.Lost(
                agent=effect.name,
                task=effect.task,
                fence=effect.fence,
                reason=effect.reason,
                counts=effect.counts,
            )
        case fx.TellReported(name=name, report=report):
            return wire.Reported(agent=name, finished=_finished(report))
        case fx.TellNotice(kind=kind, text=text, agent=agent):
            return wire.Notice(kind=kind, text=text, agent=agent)
        case fx.TellPoke():
            return wire.Poke()


def _fact(fact: e.Fact) -> wire.AgentFact:
    return wire.AgentFact(
        name=fact.name,
        agent_id=fact.agent_id,
        role=fact.role,
        state=fact.state,
        since=fact.since,
        warm=fact.warm,
        task=fact.task,
        fence=fact.fence,
        closed=fact.closed,
        spent_up=fact.spent_up,
    )


def _finished(report: e.Report) -> wire.Finished:
    assert isinstance(report, wire.Finished)
    return report


def _started(effect: fx.TellBegun) -> wire.Started:
    session = effect.session
    return wire.Started(
        task=effect.task,
        fence=effect.fence,
        session_pid=session.pid,
        tree_pid=session.tree_pid,
        tree_start=session.tree_start,
        containment=Containment(session.containment),
        at=session.started_at,
        cgroup=session.cgroup,
    )


def _one_line(text: str) -> str:
    """What a child says is shown to people: one line, not too long."""
    return " ".join(text.split())[:500]
