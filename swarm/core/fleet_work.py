"""Promotion, sessions and what becomes of a task when its daemon dies.

A task an agent of ours holds ends in exactly one of three ways: its own report (``Reported``, from
the daemon alive or from its outbox when it is dead), ``Lost``, or back through the coordinator's
own doing (denied, revoked before the grant).
"""

from __future__ import annotations

from dataclasses import replace

from swarm.core import fleet_quota, gate, journal
from swarm.core.budget import NOTHING, Amount, RoleBudget
from swarm.core.fleet_agents import (
    Active,
    Agent,
    Asking,
    Assignment,
    Cleaning,
    Demoting,
    NoWork,
    Promoting,
    Waiting,
)
from swarm.core.fleet_effects import (
    Grant,
    TellBegun,
    TellEndSession,
    TellLost,
    TellPrepare,
    TellReported,
    TellSpent,
)
from swarm.core.fleet_events import (
    DaemonIdle,
    HubIsReady,
    PromotionAsked,
    Report,
    SessionEnded,
    SessionSpent,
    SessionStarted,
    TaskWork,
    TreeCleaned,
    WorkAssigned,
    WorkRevoked,
)
from swarm.core.fleet_state import FleetState
from swarm.core.life import Stopping, Then, Unresponsive, describe_status
from swarm.core.model import ChildState, Outcome

ASSIGNMENT_SECONDS = 120.0
"""An assignment nobody asked for is forgotten; the coordinator revokes it long before."""
MAX_REVOKED = 256
"""Tasks whose last revoked lease is remembered; the oldest is forgotten first."""


# -- promotion ------------------------------------------------------------------------------------


def promotion_asked(fleet: FleetState, event: PromotionAsked) -> None:
    """A daemon holds an ``ASSIGN`` and asks to start."""
    agent = fleet.agents.get(event.name)
    if agent is None:
        return
    if event.free_memory_mb is not None:
        fleet.free_memory_mb = event.free_memory_mb
    if event.load is not None:
        fleet.load = event.load
    if event.free_disk_mb is not None:
        fleet.free_disk_mb = event.free_disk_mb
    idle = agent.work
    if not isinstance(idle, Waiting) or agent.life.state is not ChildState.RUNNING:
        fleet.deny(agent, event.task, event.fence, f"the agent is {agent.state}", gate.FULL_RETRY)
        return
    if agent.leaving:
        fleet.deny(agent, event.task, event.fence, "the agent leaves", gate.FULL_RETRY)
        return
    ours = event.coordinator == fleet.coordinator_id
    over = fleet.revoked.get(event.task)
    if ours and over is not None and event.fence <= over[0]:
        # The revocation was quicker than the ASSIGN: no word about the work will ever come.
        fleet.deny(agent, event.task, event.fence, over[1], gate.FULL_RETRY)
        return
    asking = Asking(event.task, event.fence, event.coordinator, fleet.now, idle.since)
    agent = fleet.put(replace(agent, work=asking))
    answer(fleet, agent)


def answer(fleet: FleetState, agent: Agent) -> None:
    """Grant or deny a promotion that asks, or go on waiting for the coordinator's word."""
    asking = agent.work
    assert isinstance(asking, Asking)
    if why := fleet.closed(agent):
        # Ours has others for the task, and is told when the agent opens; another's must wait.
        ours = asking.coordinator == fleet.coordinator_id
        retry = gate.FULL_RETRY if ours else gate.UNKNOWN_RETRY
        fleet.deny(agent, asking.task, asking.fence, why, retry)
        fleet.put(replace(agent, work=Waiting(asking.idle_since)))
        return
    work, known = _work_for(fleet, agent.name, asking)
    match gate.admit(asking.since, known, fleet.gate(), fleet.now):
        case gate.Open():
            _grant(fleet, agent, asking, work)
        case gate.Closed(reason=reason, retry_after=retry):
            fleet.deny(agent, asking.task, asking.fence, reason, retry)
            fleet.put(replace(agent, work=Waiting(asking.idle_since)))
        case None:
            fleet.timers.set(("asking", agent.name), asking.since + gate.WORK_WAIT_SECONDS)


def _work_for(fleet: FleetState, name: str, asking: Asking) -> tuple[TaskWork | None, bool]:
    """The work of a promotion, and whether it is known; a foreign coordinator's comes by chat."""
    if asking.coordinator != fleet.coordinator_id:
        return None, True
    found = fleet.assigned.get(asking.task)
    if found is None or found.agent != name or found.fence != asking.fence:
        return None, False
    return found.work, True


def _grant(fleet: FleetState, agent: Agent, asking: Asking, work: TaskWork | None) -> None:
    fleet.assigned.pop(asking.task, None)
    fleet.timers.set(("asking", agent.name), None)
    attempt = work.attempt if work is not None else 0
    fleet.put(replace(agent, work=Promoting(asking.task, asking.fence, attempt)))
    estimate = fleet.settings.budgets.get(agent.role, RoleBudget()).estimate
    own = NOTHING if work is None else Amount(work.token_budget, work.usd_budget)
    key = (asking.task, asking.fence)
    fleet.count(fleet.tally.opened(key, agent.name, estimate, own), agent.name)
    fleet.starts(agent.name)
    fleet.emit(Grant(agent.name, asking.task, asking.fence, work))
    fleet.note(journal.Promoted(agent.name, asking.task, asking.fence))


def work_assigned(fleet: FleetState, event: WorkAssigned) -> None:
    """Our coordinator leased a task; the daemon will ask, or already does."""
    task = event.work.task
    agent = fleet.agents.get(event.agent)
    if agent is None or agent.life.state is not ChildState.RUNNING:
        fleet.tell(TellLost(event.agent, task, event.fence, "the agent is not there", counts=False))
        return
    fleet.assigned[task] = Assignment(event.agent, event.fence, event.work, fleet.now)
    _forget_old_assignments(fleet)
    asking = agent.work
    if isinstance(asking, Asking) and (asking.task, asking.fence) == (task, event.fence):
        answer(fleet, agent)


def _forget_old_assignments(fleet: FleetState) -> None:
    """Oldest first; a task assigned again has moved to the end."""
    for task in list(fleet.assigned):
        if fleet.assigned[task].at > fleet.now - ASSIGNMENT_SECONDS:
            return
        del fleet.assigned[task]


def work_revoked(fleet: FleetState, event: WorkRevoked) -> None:
    """A lease is over: cancelled, reassigned or expired."""
    found = fleet.assigned.get(event.task)
    if found is not None and found.fence == event.fence:
        del fleet.assigned[event.task]
    _remember_revoked(fleet, event)
    agent = fleet.agents.get(event.agent)
    if agent is None:
        return
    fleet.touched[agent.name] = None  # no longer promised: it may be one too many
    asking = agent.work
    if isinstance(asking, Asking) and (asking.task, asking.fence) == (event.task, event.fence):
        fleet.deny(agent, event.task, event.fence, event.reason)
        fleet.put(replace(agent, work=Waiting(asking.idle_since)))
    elif agent.held == (event.task, event.fence):
        end_session(fleet, agent, event.outcome, event.reason)


def _remember_revoked(fleet: FleetState, event: WorkRevoked) -> None:
    """So that its ASSIGN, which may still be on its way over the chat, starts nothing."""
    fleet.revoked.pop(event.task, None)
    fleet.revoked[event.task] = (event.fence, event.reason or "the lease is over")
    while len(fleet.revoked) > MAX_REVOKED:
        fleet.revoked.popitem(last=False)


def end_session(
    fleet: FleetState, agent: Agent, outcome: Outcome, reason: str, grace: float | None = None
) -> bool:
    """Tell a daemon to end its session; says whether there was one to end.

    ``grace`` in seconds replaces the settings' own; 0 kills at once.
    """
    if not isinstance(agent.work, Promoting | Active):
        return False
    task, fence = agent.work.task, agent.work.fence
    grace = fleet.settings.grace_seconds if grace is None else grace
    fleet.put(replace(agent, work=replace(agent.work, ending=True)))
    fleet.emit(TellEndSession(agent.name, task, fence, outcome, reason, grace))
    fleet.note(journal.SessionKillAsked(agent.name, task, outcome.value, reason))
    return True


# -- a session's course ---------------------------------------------------------------------------


def session_started(fleet: FleetState, event: SessionStarted) -> None:
    """The session's process runs."""
    agent = fleet.agents.get(event.name)
    if agent is None:
        return
    match agent.work:
        case Promoting(task=task, fence=fence, attempt=attempt, ending=ending) if (
            task,
            fence,
        ) == (event.task, event.fence):
            fleet.put(replace(agent, work=Active(task, fence, event.session, attempt, ending)))
            fleet.tell(TellBegun(agent.name, task, fence, event.session))
            where = event.session
            fleet.note(
                journal.SessionStarted(
                    agent.name, task, fence, where.pid, attempt, where.containment
                )
            )
        case Cleaning():
            return
        case _:
            _condemn(fleet, agent, f"it started a session of {event.task} that was not granted")


def session_spent(fleet: FleetState, event: SessionSpent) -> None:
    """What the session used so far; only the holder's word counts."""
    agent = fleet.agents.get(event.name)
    key = (event.task, event.fence)
    if agent is not None and agent.held == key:
        fleet.tell(TellSpent(event.spent))
        fleet.count(fleet.tally.heard(key, agent.name, event.amount), agent.name)


def session_ended(fleet: FleetState, event: SessionEnded) -> None:
    """The attempt is over; the coordinator hears so past the chat, which may be down."""
    agent = fleet.agents.get(event.name)
    report = event.report
    if agent is None or agent.held != (report.task, report.fence):
        return
    if isinstance(agent.work, Cleaning):
        return
    begun = isinstance(agent.work, Active)
    fleet.put(replace(agent, work=Demoting(report.task, report.fence)))
    _spent_last(fleet, agent.name, (report.task, report.fence), report, begun=begun)
    _reported(fleet, agent.name, report)
    fleet.note(
        journal.SessionEnded(
            agent.name,
            report.task,
            report.fence,
            report.outcome.value,
            report.reason,
            report.branch or "",
            report.commits,
        )
    )


def _reported(fleet: FleetState, name: str, report: Report) -> None:
    fleet.keep_report(name, report)
    fleet.tell(TellReported(name, report))
    if report.outcome is Outcome.QUOTA:
        fleet_quota.hit(fleet, name, report)
    elif report.outcome is Outcome.SUCCEEDED:
        fleet_quota.got_through(fleet, name)


def _spent_last(
    fleet: FleetState, name: str, key: tuple[str, int], report: Report | None, *, begun: bool
) -> None:
    """A session is over: its report's usage counts; one that never began counts for nothing."""
    known = NOTHING if report is None else Amount(report.usage.tokens, report.cost_usd)
    tally = fleet.tally if begun else fleet.tally.forgotten(key)
    if begun or not known.nothing:
        tally = tally.ended(key, name, known)
    fleet.count(tally, name)


def daemon_idle(fleet: FleetState, event: DaemonIdle) -> None:
    """The daemon waits for work."""
    agent = fleet.agents.get(event.name)
    if agent is None:
        return
    match agent.work:
        case Waiting() | NoWork():
            fleet.put(replace(agent, warm=event.warm))
            return
        case Asking():
            fleet.timers.set(("asking", agent.name), None)
        case Active():
            _condemn(fleet, agent, "it went idle without a report of its session")
            return
        case Cleaning():
            return
        case Promoting(task=task, fence=fence):
            fleet.count(fleet.tally.forgotten((task, fence)), agent.name)
        case Demoting():
            pass
    # From a promotion: it gave the task back on the chat, where the coordinator hears it.
    fleet.put(replace(agent, work=Waiting(fleet.now), warm=event.warm))


def _condemn(fleet: FleetState, agent: Agent, what: str) -> None:
    fleet.forget_pulse(agent.name)
    fleet.live(agent.name, Unresponsive(f"broke its protocol: {what}"))


# -- when a daemon or the coordinator dies --------------------------------------------------------


def tree_cleaned(fleet: FleetState, event: TreeCleaned) -> int | None:
    """A dead daemon's tree is empty: say what became of its task.

    Returns the daemon's exit status, which its life has yet to hear of; ``None`` when nothing of
    the kind was under way.
    """
    agent = fleet.agents.get(event.name)
    if agent is None or not isinstance(agent.work, Cleaning):
        return None
    cleaning = agent.work
    if (cleaning.task, cleaning.fence) != (event.task, event.fence):
        return None
    if cleaning.probe:
        forsake(fleet, agent.name, "its daemon died")
        return cleaning.status
    key = (cleaning.task, cleaning.fence)
    _spent_last(fleet, agent.name, key, event.report, begun=cleaning.begun)
    if event.report is not None:
        _reported(fleet, agent.name, event.report)
        outcome = event.report.outcome.value
        fleet.note(journal.TaskReported(agent.name, event.task, event.fence, outcome))
    else:
        phase = agent.life.phase
        asked = isinstance(phase, Stopping) and phase.then is not Then.CRASH
        reason = f"its daemon died: {describe_status(cleaning.status)}"
        if event.problem:
            reason = f"{reason}; {event.problem}"
        counts = cleaning.begun and not asked
        fleet.tell(TellLost(agent.name, event.task, event.fence, reason, counts))
        fleet.note(journal.TaskLost(agent.name, event.task, event.fence, reason))
    forsake(fleet, agent.name, "its daemon died")
    return cleaning.status


def forsake(fleet: FleetState, name: str, reason: str) -> None:
    """Give back what was assigned to an agent that can no longer ask for it."""
    fleet.timers.set(("asking", name), None)
    for task, found in [(t, a) for t, a in fleet.assigned.items() if a.agent == name]:
        del fleet.assigned[task]
        fleet.tell(TellLost(name, task, found.fence, reason, counts=False))


def lost_coordinator(fleet: FleetState) -> None:
    """Our coordinator is gone: what it had leased but nobody started is void.

    The next one requeues every lease that is not in its snapshot; a grant after that snapshot
    would run the task twice.
    """
    fleet.linked = False
    fleet.told = {}
    fleet.told_slots = None
    fleet.assigned.clear()
    for agent in list(fleet.agents.values()):
        asking = agent.work
        if isinstance(asking, Asking) and asking.coordinator == fleet.coordinator_id:
            fleet.deny(agent, asking.task, asking.fence, "the coordinator is gone", 1.0)
            fleet.put(replace(agent, work=Waiting(asking.idle_since)))


# -- clones ahead of need -------------------------------------------------------------------------


def hub_ready(fleet: FleetState, event: HubIsReady) -> None:
    """A hub is there; the first one is the one most tasks will be for."""
    if fleet.hub is None:
        fleet.hub = (event.hub, event.clone)


def prepare(fleet: FleetState) -> None:
    """Have as many idle daemons warm as could be active at once, and no more."""
    if fleet.hub is None or fleet.stop is not None:
        return
    while fleet.cold and len(fleet.warm) + len(fleet.preparing) < fleet.settings.max_active:
        name = next(iter(fleet.cold))
        del fleet.cold[name]
        fleet.preparing.add(name)
        fleet.emit(TellPrepare(name, *fleet.hub))
