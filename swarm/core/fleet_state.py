"""The fleet's value and its book-keeping: children, who is idle, what the coordinator knows.

The one mutable thing in ``core``: a fleet may be a thousand agents, and an event must not cost a
copy of them.  It is still a function of the events it was given: it reads no clock, draws no
random number and does nothing but collect effects.  Agents, services and their phases are frozen
values; every change goes through :meth:`FleetState.put`, which keeps the derived sets right.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from swarm.core import journal, life, quota, verdict
from swarm.core.budget import NOTHING, Tally
from swarm.core.fleet_agents import Agent, Asking, Assignment, Cleaning, Service
from swarm.core.fleet_effects import (
    Deny,
    Effect,
    Note,
    TellAgent,
    TellGone,
    TellLeave,
    TellSlots,
)
from swarm.core.fleet_events import Fact, Report
from swarm.core.fleet_settings import FleetSettings
from swarm.core.fleet_story import story_of
from swarm.core.fleet_timers import Timers
from swarm.core.gate import (
    YOUNG_SECONDS,
    Budget,
    GateFacts,
    Pause,
    judge,
    offer,
    opens_at,
)
from swarm.core.limits import Watch
from swarm.core.model import AgentState, Outcome, split_agent_name
from swarm.core.pressure import Pressure
from swarm.core.quota import Quota

COORDINATOR = "coordinator"
CHAT = "chat"
API = "api"
BY_PERSON = "swarm"
"""Scope of a person's pause; those of quotas are in :mod:`swarm.core.quota`."""
MAX_REPORTS = 256
"""Reports kept for a coordinator that starts again; settled ones among them do no harm."""


@dataclass(slots=True)
class Stopping:
    """The swarm is on its way down."""

    now: bool
    drain: float | None
    stage: str = "daemons"
    """``daemons``, ``services``, ``tidy``, ``over``: strictly in this order."""
    last_tidy: bool = False
    """The janitor has been given all there is."""
    replies: list[int] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


class FleetState:
    """Everything the fleet machine decides from.

    ``services`` are started in their order and stopped in the reverse one; ``epoch`` is the Unix
    time at which the fleet's clock was 0; ``reports`` were found in the outboxes of workspaces
    taken over; ``pauses`` by scope are those of an earlier run, ``until`` on the fleet's clock.
    """

    def __init__(
        self,
        settings: FleetSettings,
        *,
        services: Sequence[str],
        wanted: Mapping[str, int],
        coordinator_id: str,
        epoch: float = 0.0,
        reports: Iterable[tuple[str, Report]] = (),
        pauses: Mapping[str, Pause] | None = None,
    ) -> None:
        self.settings = settings
        self.wanted = dict(wanted)
        self.coordinator_id = coordinator_id
        self.epoch = epoch
        self.now = 0.0
        self.jitter = 0.0
        self.effects: list[Effect] = []
        self.timers = Timers()
        self.services: dict[str, Service] = {
            name: Service(name, life.Life(name, settings.policy, settings.service_terms))
            for name in services
        }
        self.agents: dict[str, Agent] = {}
        self.pulses: dict[str, verdict.Pulse] = {}
        self.assigned: dict[str, Assignment] = {}
        self.reports: OrderedDict[tuple[str, int], tuple[str, Report]] = OrderedDict()
        for agent, report in reports:
            self.keep_report(agent, report)
        self._begin_books()
        # Facts from outside, and what was said about them.
        self.free_memory_mb: float | None = None
        self.free_disk_mb: float | None = None
        self.disk_told_at: float | None = None
        self.cleaned_at: float | None = None
        self.cleaning = False
        """A clean-up is at work, as the disk ran low (:mod:`~swarm.core.fleet_disk`)."""
        self.load: float | None = None
        self.watches: dict[str, Watch] = {}
        self.granted_at: dict[str, float] = {}
        self.last_start: float | None = None
        self.pressure = Pressure()
        self._begin_gates(pauses or {})
        self.hub: tuple[str, str] | None = None
        self.linked = False
        self.told: dict[str, Fact] = {}
        self.told_slots: tuple[int, str] | None = None
        self.touched: dict[str, None] = {}
        # Start, stop, and who waits for what.
        self.taken: frozenset[str] = frozenset()
        self.starting = False
        self.started_daemons = False
        self.stop: Stopping | None = None
        self.ended = False
        self.waiting_ready: list[int] = []
        self.waiting_gone: dict[str, list[int]] = {}
        self.to_tidy: list[str] = []
        self.tidying: tuple[str, ...] = ()

    def _begin_books(self) -> None:
        """The sets derived from the agents, kept by :meth:`put`."""
        self.active = 0
        self.up: set[str] = set()
        self.coming: set[str] = set()
        self.degraded: set[str] = set()
        self.cold: dict[str, None] = {}
        self.warm: set[str] = set()
        self.preparing: set[str] = set()
        self.counts: dict[str, int] = {}

    def _begin_gates(self, known: Mapping[str, Pause]) -> None:
        """What closes the gate for all or for some: pauses, quotas, budgets."""
        self.paused: Pause | None = known.get(BY_PERSON)
        self.quotas: dict[str, Quota] = {}
        self.probing: dict[str, int] = {}
        self.probes = 0
        self.unproven: set[str] = set()
        self.revoked: OrderedDict[str, tuple[int, str]] = OrderedDict()
        self._remember_quotas(known)
        self.tally = Tally()
        self.spent = NOTHING
        """The swarm's, as :meth:`count` last made it of the tally."""
        self.spenders: set[str] | None = set()
        """Agents whose spending changed since somebody looked who is over, ``None``: everyone's
        (:mod:`~swarm.core.fleet_budget`)."""
        self.spending_resets_at: float | None = None
        self.warned: dict[tuple[str, str], int] = {}
        """By whose budget (empty: the swarm's) and part: how near its end it was said to be."""
        self.spent_up: dict[str, str] = {}
        """Agents that have spent their own budget, and what to say of it."""

    def _remember_quotas(self, known: Mapping[str, Pause]) -> None:
        """Parks of an earlier run, and those that only its daemons' outboxes tell of."""
        for scope, pause in known.items():
            if (runtime := quota.runtime_of(scope)) is not None:
                self.park(quota.remembered(runtime, pause))
        for agent, report in self.reports.values():
            if report.outcome is Outcome.QUOTA:
                runtime = self.runtime_of(agent)
                until = None if report.retry_at is None else report.retry_at - self.epoch
                if runtime not in self.quotas:
                    self.park(quota.remembered(runtime, Pause(report.reason, until)))

    # -- quotas -----------------------------------------------------------------------------------

    def runtime_of(self, name: str) -> str:
        """The runtime an agent's daemon was born with; empty when that is not known."""
        agent = self.agents.get(name)
        if agent is not None and agent.runtime:
            return agent.runtime
        split = split_agent_name(name)
        role = agent.role if agent is not None else split[0] if split is not None else ""
        return self.settings.runtimes.get(role, "")

    def park(self, one: Quota) -> None:
        """No promotions of this runtime until somebody looks at it."""
        self.quotas[one.runtime] = one
        self.timers.set(("quota", one.runtime), one.look_at)
        self._touch_runtime(one.runtime)

    def unpark(self, runtime: str) -> None:
        """Promotions of this runtime again."""
        self.quotas.pop(runtime, None)
        self.timers.set(("quota", runtime), None)
        self.timers.set(("probe", runtime), None)
        self._touch_runtime(runtime)

    def _touch_runtime(self, runtime: str) -> None:
        for name in self.agents:
            if runtime in ("", self.runtime_of(name)):
                self.touched[name] = None

    def closed(self, agent: Agent) -> str:
        """Why this agent may start nothing now though it is idle; empty when it may.

        What concerns the whole swarm closes the gate (:meth:`gate`) instead.
        """
        if self.quotas:
            parked = self.quotas.get(self.runtime_of(agent.name)) or self.quotas.get("")
            if parked is not None:
                return parked.text
        if agent.name in self.spent_up:
            return self.spent_up[agent.name]
        return "it is probing a quota" if agent.name in self.probing else ""

    def all_parked(self) -> Pause | None:
        """The pause it comes to when every role in use is parked; of several the soonest end."""
        if not self.quotas:
            return None
        roles = [role for role, n in (self.counts or self.wanted).items() if n > 0]
        found = [
            self.quotas.get(self.settings.runtimes.get(role, "")) or self.quotas.get("")
            for role in roles
        ]
        parked = [one for one in found if one is not None]
        if not parked or len(parked) < len(found):
            return None
        first = min(parked, key=lambda one: one.shown_until or 0.0)
        return Pause(first.text, first.shown_until)

    # -- effects ----------------------------------------------------------------------------------

    def emit(self, *effects: Effect) -> None:
        """Ask the shell for these, in this order."""
        self.effects.extend(effects)

    def note(self, entry: journal.Entry) -> None:
        """Write this into the journal."""
        self.effects.append(Note(entry))

    # -- agents -----------------------------------------------------------------------------------

    def put(self, agent: Agent) -> Agent:
        """Take in a new or changed agent; returns it with its shown state brought up to date."""
        old = self.agents.get(agent.name)
        shown = agent.shown
        if shown is not agent.state or old is None:
            agent = replace(agent, state=shown, since=self.now)
        self.agents[agent.name] = agent
        self.touched[agent.name] = None
        self.timers.set(("life", agent.name), agent.life.deadline)
        self._derive(old, agent)
        return agent

    def drop(self, name: str) -> None:
        """Take an agent that is down out of the fleet."""
        agent = self.agents.pop(name)
        self._derive(agent, None)
        self.timers.set(("life", name), None)
        self.timers.set(("asking", name), None)
        self.forget_pulse(name)
        self.watches.pop(name, None)
        self.granted_at.pop(name, None)
        self.touched[name] = None

    def rebook(self) -> None:
        """Derive the books from the agents anew: another version of the program kept them."""
        preparing = self.preparing
        self._begin_books()
        self.preparing = preparing
        for agent in self.agents.values():
            self._derive(None, agent)

    def _derive(self, old: Agent | None, new: Agent | None) -> None:
        name = new.name if new is not None else old.name if old is not None else ""
        self.active += _holds(new) - _holds(old)
        for agent, by in ((old, -1), (new, 1)):
            if agent is not None and not agent.leaving:
                self.counts[agent.role] = self.counts.get(agent.role, 0) + by
        _keep(self.up, name, new is not None and _up(new))
        _keep(self.coming, name, new is not None and _coming(new))
        _keep(self.degraded, name, new is not None and new.state is AgentState.DEGRADED)
        idle, warm = (new.idle, new.warm) if new is not None else (False, False)
        _keep(self.warm, name, idle and warm)
        if warm or not idle:
            self.preparing.discard(name)
        if idle and not warm and name not in self.preparing:
            self.cold[name] = None
        else:
            self.cold.pop(name, None)

    def surplus(self, role: str) -> int:
        """How many agents of ``role`` there are beyond those wanted."""
        return self.counts.get(role, 0) - self.wanted.get(role, 0)

    # -- lives ------------------------------------------------------------------------------------

    def life_of(self, name: str) -> life.Life | None:
        """The life of an agent or service; ``None`` when there is none of that name."""
        child = self.agents.get(name) or self.services.get(name)
        return child.life if child is not None else None

    def live(self, name: str, event: life.Event, leave: TellLeave | None = None) -> None:
        """Step one life.  A polite TERM becomes ``leave`` where the child can hear it."""
        before = self.life_of(name)
        if before is None:
            return
        after, effects = life.step(before, event, self.now, self.jitter)
        for entry in story_of(before, after, event, self.now):
            self.note(entry)
        if name in self.agents:
            agent = self.agents[name]
            cleaning = isinstance(agent.work, Cleaning)
            self.put(replace(agent, life=after))
        else:
            cleaning = False
            self.services[name] = replace(self.services[name], life=after)
            self.timers.set(("life", name), after.deadline)
        hears = isinstance(before.phase, life.Running)
        for effect in effects:
            if isinstance(effect, life.Signal):
                if cleaning:
                    continue  # that process is gone; its life hears so when the tree is empty
                if effect.signal == "TERM" and leave is not None and hears:
                    self.emit(leave)
                    continue
            self.emit(effect)

    # -- heartbeats -------------------------------------------------------------------------------

    def first_pulse(self, name: str) -> None:
        """Watch a child that has just become ready."""
        interval = self.settings.beat_seconds(service=name in self.services)
        pulse = verdict.first(interval, self.settings.misses, self.now)
        self.pulses[name] = pulse
        self.timers.set(("pulse", name), pulse.deadline)

    def forget_pulse(self, name: str) -> None:
        """Watch it no longer."""
        self.pulses.pop(name, None)
        self.timers.set(("pulse", name), None)

    # -- the coordinator --------------------------------------------------------------------------

    def tell(self, *effects: Effect) -> None:
        """Say this to the coordinator if it is there; its snapshot covers what it missed."""
        if self.linked:
            self.effects.extend(effects)

    def keep_report(self, agent: str, report: Report) -> None:
        """Remember a report for a coordinator that starts again."""
        self.reports[report.task, report.fence] = (agent, report)
        while len(self.reports) > MAX_REPORTS:
            self.reports.popitem(last=False)

    def tell_changes(self) -> None:
        """Bring the coordinator up to date about every agent touched since the last call."""
        touched, self.touched = self.touched, {}
        if not self.linked:
            return
        for name in touched:
            agent = self.agents.get(name)
            if agent is not None and isinstance(agent.work, Cleaning):
                continue  # it is told what became of the task first, and then of the agent
            fact = self.fact(agent) if agent is not None else None
            if fact == self.told.get(name):
                continue
            if fact is not None:
                self.told[name] = fact
                self.effects.append(TellAgent(fact))
            else:
                del self.told[name]
                self.effects.append(TellGone(name))
        verdict = judge(self.gate(), self.now)
        self.timers.set(("gate", ""), opens_at(verdict))
        free = offer(verdict)
        if free != self.told_slots:
            self.told_slots = free
            self.effects.append(TellSlots(*free))

    def fact(self, agent: Agent) -> Fact | None:
        """What the coordinator is told of an agent; ``None`` when it takes no work."""
        fact = agent.fact(self.epoch)
        closed = self.closed(agent) if fact is not None else ""
        if fact is None or not closed:
            return fact
        return replace(fact, closed=closed, spent_up=agent.name in self.spent_up)

    def gate(self) -> GateFacts:
        """What the gate looks at."""
        free = self.free_memory_mb
        return GateFacts(
            active=self.active,
            max_active=self.settings.max_active,
            stopping=self.stop is not None,
            pauses=tuple(p for p in (self.paused, self.all_parked()) if p is not None),
            free_memory_mb=None if free is None else int(free),
            min_free_memory_mb=self.settings.min_free_memory_mb,
            session_memory_mb=self.settings.session_memory_mb,
            reserved_mb=self._reserved_mb(),
            free_disk_mb=None if self.free_disk_mb is None else int(self.free_disk_mb),
            min_free_disk_mb=self.settings.min_free_disk_mb,
            load=self.load,
            max_load=self.settings.max_load,
            stagger_seconds=self.settings.stagger_seconds,
            last_start=self.last_start,
            budget=self.budget(),
        )

    def count(self, tally: Tally, agent: str | None = None) -> None:
        """Take in what was heard of spending: one agent's, or anybody's."""
        self.tally = tally
        self.spent = tally.spent()
        if agent is None:
            self.spenders = None
        elif self.spenders is not None:
            self.spenders.add(agent)

    def starts(self, name: str) -> None:
        """A session of this agent is about to start; for the gate, which forgets it when grown."""
        young = {who: at for who, at in self.granted_at.items() if self.now - at < YOUNG_SECONDS}
        self.granted_at = {**young, name: self.now}
        self.last_start = self.now

    def _reserved_mb(self) -> int:
        """Memory that young sessions with a limit have yet to take."""
        reserved = 0.0
        for name, at in self.granted_at.items():
            agent = self.agents.get(name)
            if agent is None or agent.held is None or self.now - at >= YOUNG_SECONDS:
                continue
            limit = self.settings.limits_of(agent.role).memory_mb
            if limit is not None:
                watch = self.watches.get(name)
                known = watch is not None and watch.key == agent.held
                used = (watch.memory_mb or 0.0) if watch is not None and known else 0.0
                reserved += max(0.0, limit - used)
        return int(reserved)

    def budget(self) -> Budget:
        """What may be spent, and what has been."""
        return Budget(
            token_limit=self.settings.token_budget,
            usd_limit=self.settings.usd_budget,
            tokens=self.spent.tokens,
            usd=self.spent.usd,
            resets_at=self.spending_resets_at,
        )

    def deny(self, agent: Agent, task: str, fence: int, reason: str, retry: float = 0.0) -> None:
        """Answer a promotion with no."""
        self.note(journal.PromotionDenied(agent.name, task, fence, reason))
        self.emit(Deny(agent.name, task, fence, reason, retry))
        self.assigned.pop(task, None)
        if isinstance(agent.work, Asking):
            self.timers.set(("asking", agent.name), None)


def _holds(agent: Agent | None) -> int:
    return int(agent is not None and agent.held is not None)


def _up(agent: Agent) -> bool:
    return not agent.life.down or isinstance(agent.work, Cleaning)


def _coming(agent: Agent) -> bool:
    """Whether a start or a wait for readiness still has to wait for it."""
    settled = agent.state in (AgentState.DEGRADED, AgentState.STOPPED)
    return not (agent.ready or agent.leaving or settled)


def _keep(members: set[str], name: str, belongs: bool) -> None:
    if belongs:
        members.add(name)
    else:
        members.discard(name)
