"""A coordinator's whole world in one thread: a real ledger, modelled agents, a made-up clock."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarm.coordinator import messages as m
from swarm.coordinator import offers
from swarm.coordinator.bookkeeping import Books
from swarm.coordinator.machine import deadline, step
from swarm.coordinator.state import (
    Revoked,
    Settings,
    State,
    committed,
    hopeless,
    idle_agents,
    spare,
    takes_of,
)
from swarm.core.matching import fits, needs_of
from swarm.core.model import AgentState, Outcome, TaskState, is_outsider_id
from swarm.ledger import NewTask, SqliteLedger
from swarm.wire.lifeline import AgentFact, Assigned, Finished, Revoke, Work
from swarm.wire.work import Assign, Claim, TaskAvailable, TaskDone, TaskRef, Unclaim, WorkMessage

ME = "c" * 16
ROLES = {"builder": (), "qa": (), "general": ("builder", "qa")}
START = 1_800_000_000.0


@dataclass
class Agent:
    name: str
    agent_id: str
    role: str
    state: AgentState = AgentState.IDLE
    since: float = 0.0
    task: str = ""
    fence: int = 0
    revoked: Outcome | None = None

    @property
    def fact(self) -> AgentFact:
        return AgentFact(
            self.name, self.agent_id, self.role, self.state, self.since, True, self.task, self.fence
        )


class World:
    """Feeds events to the machine, carries its effects out, and checks what must always hold."""

    def __init__(self, max_active: int = 3) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ac-")
        self.now = 100.0
        self.ledger = SqliteLedger(Path(self._folder.name) / "ledger.db", self.wall)
        self.agents: dict[str, Agent] = {}
        self.max_active = max_active
        self.said: list[WorkMessage] = []
        self.to: list[tuple[str, ...]] = []
        """Whom each of ``said`` was addressed to."""
        self.told: list[Assigned | Revoke] = []
        self.unsaid: list[str] = []
        self.preparing: list[m.Prepare] = []
        self.assigned: dict[tuple[str, int], str] = {}
        self.pending: dict[str, Assign] = {}
        try:
            self.boot()
        except BaseException:
            self.close()
            raise

    def wall(self) -> float:
        return START + self.now

    def close(self) -> None:
        self.ledger.close()
        self._folder.cleanup()

    def boot(self, reports: Sequence[Finished] = ()) -> None:
        """A new coordinator on the same ledger, as after a crash of the old one."""
        self.state = State(Settings(ME, 90.0, ROLES))
        self.books = Books(self.ledger, 90.0, lambda: self.now, self.wall)
        self.preparing.clear()
        self.pending.clear()
        self.do(m.RulesAre((ME,), ()))
        self.do(m.Online(True))
        facts = tuple(agent.fact for agent in self.agents.values())
        holders, retried = tuple(self.ledger.holders()), self.books.retried(facts)
        self.do(m.SnapshotTaken(facts, tuple(reports), holders, retried))
        self.slots()

    # -- what happens

    def do(self, *events: m.Event) -> None:
        for event in events:
            self._step(event)
        self._look_around()

    def tick(self, seconds: float) -> None:
        """Let time pass, stopping wherever the machine wants to look."""
        end = self.now + seconds
        for _ in range(10_000):
            at = deadline(self.state)
            if at is None or at > end:
                break
            self.now = max(self.now, at)
            self.do(m.Tick())
            again = deadline(self.state)
            assert again is None or again > self.now, "a deadline already due after a tick"
        self.now = max(self.now, end)

    def agent(self, role: str = "builder") -> Agent:
        n = len(self.agents) + 1
        agent = Agent(f"swarm-{role}-{n:03d}", f"{n:016x}", role, since=self.now)
        self.agents[agent.name] = agent
        self.changed(agent)
        return agent

    def changed(self, agent: Agent) -> None:
        self.do(m.AgentChanged(agent.fact))

    def slots(self) -> None:
        free = self.max_active - sum(bool(agent.task) for agent in self.agents.values())
        self.do(m.SlotsAre(max(0, free), "" if free > 0 else "full"))

    def becomes(self, agent: Agent, state: AgentState, task: str = "", fence: int = 0) -> None:
        """The supervisor tells of the agent first, of the slots after."""
        if agent.state is not state:
            agent.since = self.now
        agent.state, agent.task, agent.fence = state, task, fence
        if not task:
            agent.revoked = None
        self.changed(agent)
        self.slots()

    def hear(self, agent: Agent, message: WorkMessage, *, replay: bool = False) -> None:
        self.do(m.Heard(agent.agent_id, message, "m-1", replay, self.wall()))

    def claim(self, agent: Agent, task: str, component: str = "") -> None:
        self.hear(agent, Claim(agentId=agent.agent_id, task=TaskRef(id=task, component=component)))

    def prepare(self, fails: str = "") -> None:
        """The oldest repository question is answered."""
        order = self.preparing.pop(0)
        task, fence = order.claimed.task, order.claimed.fence
        if fails:
            self.do(m.Unprepared(task.id, fence, fails))
        else:
            work = Work(task.id, order.claimed.attempt, order.claimed.prompt, task.role)
            self.do(m.Prepared(work, fence))

    def promote(self, agent: Agent) -> None:
        """The agent obeys the ASSIGN it heard last; the supervisor grants it."""
        assign = self.pending.pop(agent.agent_id)
        self.becomes(agent, AgentState.PROMOTING, assign.task.id, assign.fence)

    def begin(self, agent: Agent) -> None:
        self.do(m.Started(agent.name, agent.task, agent.fence, self.wall()))
        self.becomes(agent, AgentState.ACTIVE, agent.task, agent.fence)

    def refuse(self, agent: Agent, retry_after: float = 0.0) -> None:
        """The agent cannot start what it was assigned."""
        assign = self.pending.pop(agent.agent_id)
        ref = TaskRef(id=assign.task.id)
        self.hear(agent, Unclaim(task=ref, fence=assign.fence, retry_after=retry_after))

    def finish(self, agent: Agent, outcome: Outcome, by_chat: bool = True) -> None:
        outcome = agent.revoked or outcome
        task, fence = agent.task, agent.fence
        finished = Finished(task=task, fence=fence, outcome=outcome)
        self.do(m.HandedOver(agent.name, finished))
        if by_chat:
            report = TaskDone(task=TaskRef(id=task), fence=fence, outcome=outcome.value)
            self.hear(agent, report)
        self.becomes(agent, AgentState.IDLE)

    def die(self, agent: Agent) -> None:
        self.pending.pop(agent.agent_id, None)
        if agent.task:
            begun = agent.state is AgentState.ACTIVE
            self.do(m.HolderLost(agent.name, agent.task, agent.fence, "died", begun))
        self.becomes(agent, AgentState.BACKOFF)

    def start_all(self) -> None:
        """Every agent does at once what it was offered, to the running session."""
        for agent in self.agents.values():
            for offer in list(self.state.offers.values()):
                if agent.name in offer.to:
                    self.claim(agent, offer.task.id)
        while self.preparing:
            self.prepare()
        for agent in self.agents.values():
            if agent.agent_id in self.pending:
                self.promote(agent)
                self.begin(agent)

    # -- carrying out

    def _step(self, event: m.Event) -> None:
        self.state, effects = step(self.state, event, self.now)
        for effect in effects:
            self._perform(effect)

    def _perform(self, effect: m.Effect) -> None:
        match effect:
            case m.Look():
                self._look = True
            case m.LookForIdleQueues():
                self.books.note_idle_queues(self.state)
            case m.Say(message, to=to):
                self.to.append(to)
                self._says(message)
            case m.Unsay(key):
                self.unsaid.append(key)
            case m.Tell(line):
                self._tells(line)
            case m.Prepare():
                self.preparing.append(effect)
            case m.Log():
                pass
            case _:
                ended = self.books.carry_out(effect)
                if ended is not None:
                    self._step(ended)

    _look = False

    def _look_around(self) -> None:
        for _ in range(100):
            if not self._look:
                return
            self._look = False
            wanted = offers.wants(self.state)
            if wanted is not None:
                self._step(self.books.look(*wanted))
        raise AssertionError("it looks for ever")

    def _says(self, message: WorkMessage) -> None:
        self.said.append(message)
        match message:
            case TaskAvailable(task=task, offer=named):
                self._check_offer(task.id, named)
            case Assign(agentId=agent_id, task=task, fence=fence):
                holder = self.assigned.setdefault((task.id, fence), agent_id)
                assert holder == agent_id, f"{task.id} fence {fence} given to two"
                self.pending[agent_id] = message
            case _:
                pass

    def _check_offer(self, task: str, named: tuple[str, ...]) -> None:
        assert 1 <= len(named) <= 3, f"{len(named)} agents asked to claim at once"
        first = sum(isinstance(s, TaskAvailable) and s.task.id == task for s in self.said) == 1
        assert len(named) == 1 or not first, "a first announcement asks more than one"
        held = {holder.agent for holder in self.ledger.holders()}
        for name in named:
            agent = self.agents[name]
            assert agent.state is AgentState.IDLE, f"offered to {name}, which is {agent.state}"
            assert name not in held, f"offered to {name}, which holds a lease"
        assert committed(self.state) <= max(1, self.max_active), "more announced than may start"

    def _tells(self, line: Assigned | Revoke) -> None:
        self.told.append(line)
        agent = self.agents.get(line.agent)
        if isinstance(line, Assigned):
            told = (line.work.task, line.fence)
            assert told not in self.assigned, "ASSIGN went out before the supervisor knew"
            return
        if agent is None:
            return
        if (agent.task, agent.fence) == (line.task, line.fence):
            agent.revoked = line.outcome
        waiting = self.pending.get(agent.agent_id)
        if waiting is not None and (waiting.task.id, waiting.fence) == (line.task, line.fence):
            del self.pending[agent.agent_id]

    # -- what must always hold

    def check(self) -> None:
        holders = {holder.task: holder for holder in self.ledger.holders()}
        for task, lease in self.state.leases.items():
            holder = holders.get(task)
            if isinstance(lease.phase, Revoked) and (holder is None or holder.fence > lease.fence):
                continue  # retried while its session was being ended
            assert holder is not None, f"{task}: a lease the ledger does not have"
            assert (holder.fence, holder.agent) == (lease.fence, lease.agent)
        assert set(holders) <= set(self.state.leases), "the ledger has a lease nobody watches"
        agents = [one.agent for one in holders.values() if not is_outsider_id(one.agent_id)]
        assert len(agents) == len(set(agents)), "one agent holds two leases"
        working = [a.task for a in self.agents.values() if a.task and a.revoked is None]
        assert len(working) == len(set(working)), "one task runs twice"
        self._nothing_forgotten()

    def _nothing_forgotten(self) -> None:
        """Every task that could start with an idle agent and a free slot is announced."""
        queued = {task.id for task in self.ledger.tasks([TaskState.QUEUED])}
        assert set(self.state.offers) <= queued, "announced although it waits no more"
        for offer in self.state.offers.values():
            assert not offer.checking, "an announcement that is checked for ever"
        if not (self.state.online and self.state.ready) or spare(self.state) <= 0:
            return
        idle = idle_agents(self.state)
        queues = self.ledger.waiting_queues()
        for task in (task for queue in queues for task in self.ledger.ready([queue.id], 100)):
            lease = self.state.leases.get(task.id)
            if lease is not None and isinstance(lease.phase, Revoked):
                assert lease.expires > self.now, "an end that is waited for longer than its term"
                continue  # retried while its session was being ended
            able = [a for a in idle if not fits(takes_of(self.state, a.role), needs_of(task))]
            offer = self.state.offers.get(task.id)
            if offer is not None and hopeless(self.state, offer):
                able = [a for a in able if a.name not in self.state.silent]
            elif offer is not None:
                continue
            assert not able, f"{task.id} waits although {able[0].name} is idle"

    def waiting(self) -> list[str]:
        return [task.id for task in self.ledger.tasks([TaskState.QUEUED])]


# -- what tests ask of it -------------------------------------------------------------------------


def add(world: World, **more: Any) -> str:
    task = world.ledger.submit(NewTask("do it", **more))
    world.do(m.Poked())
    return task


def running(world: World) -> tuple[str, Any]:
    """One task in the hands of one agent."""
    agent = world.agent()
    task = add(world)
    world.start_all()
    return task, agent


def state(world: World, task: str) -> TaskState:
    found = world.ledger.task(task)
    assert found is not None
    return found.state


def said(world: World, kind: type[WorkMessage]) -> list[Any]:
    return [message for message in world.said if isinstance(message, kind)]


def heard(world: World, sender: str, message: WorkMessage, **more: Any) -> None:
    world.do(m.Heard(sender, message, more.pop("msg_id", "m-9"), **more))


def revoked(world: World) -> list[Revoke]:
    return [line for line in world.told if isinstance(line, Revoke)]
