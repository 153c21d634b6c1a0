"""Effects that are one ledger call each, and the events they end as."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from swarm.coordinator import messages as m
from swarm.coordinator.clocks import put_back
from swarm.coordinator.landing_books import LandingBooks
from swarm.coordinator.landing_messages import Decide, LookForLandings
from swarm.coordinator.landings import NoteLanding, SettleDoubt, SettleLanding
from swarm.coordinator.state import State, Waiting, public_title, takes_of
from swarm.core.budget import NOTHING, Amount, left, over
from swarm.core.matching import Needs, Takes, fits, needs_of, outsider_takes, why_nobody
from swarm.core.model import TaskState, split_agent_name
from swarm.errors import UsageError
from swarm.ledger.interface import Claimed, Ledger, NewTask, Task, Verdict
from swarm.ledger.records import KEPT
from swarm.wire.lifeline import AgentFact, RoleRules

MAX_WAITING_OF_ONE, MAX_OF_STRANGERS = 1000, 200
"""Announced tasks that have not ended: of one announcer, and of all that only ``"*"`` lets in."""


class Books:
    """Carries effects out on a ledger.  Raises :class:`~swarm.errors.LedgerError` as it does.

    ``clock`` is monotonic seconds, ``wall`` Unix seconds: the ledger keeps the latter.
    """

    def __init__(
        self,
        ledger: Ledger,
        lease_seconds: float,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self.landing = LandingBooks(ledger)
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._wall = wall
        self._offset = wall() - clock()
        self._noted: dict[str, str] | None = None
        self._roles: Mapping[str, RoleRules] = {}

    def look(self, takers: Sequence[Takes], limit: int) -> m.Found:
        """What waits that one of these takes, and when a delayed task is worth another look.

        Tasks that the same of them take are looked for together: nothing hides behind what only
        others can take, however much of that there is.
        """
        self._mind_the_clock()
        alike: dict[frozenset[int], list[int]] = {}
        for queue in self._ledger.waiting_queues():
            needs = needs_of(queue)
            able = frozenset(n for n, takes in enumerate(takers) if not fits(takes, needs))
            if able:
                alike.setdefault(able, []).append(queue.id)
        found = [task for queues in alike.values() for task in self._ledger.ready(queues, limit)]
        found.sort(key=lambda task: (-task.priority, task.seq))
        tasks = tuple(map(self._waiting, found))
        at = self._ledger.next_delay()
        wake = None if at is None else self._clock() + max(0.01, at - self._wall())
        return m.Found(tasks, wake)

    def _mind_the_clock(self) -> None:
        """Nothing waits longer because the wall clock was put back."""
        offset = self._wall() - self._clock()
        if back := put_back(self._offset, offset):
            self._ledger.hasten(back)
        self._offset = offset

    def _waiting(self, task: Task) -> Waiting:
        return Waiting(
            id=task.id,
            role=task.role,
            component=task.component,
            title=public_title(task),
            priority=task.priority,
            lane=task.lane,
            labels=task.labels,
            fence=task.fence,
            last_agent=task.agent,
            holder=self._ledger.session_holder(task.id) if task.fence else "",
        )

    def carry_out(self, effect: m.Effect) -> m.Event | None:
        """Do it; the event it ends as, if any."""
        ledger = self._ledger
        match effect:
            case m.TryClaim():
                return self._claim(effect)
            case m.CheckOffers(tasks):
                return m.OffersChecked(tasks, frozenset(filter(self._waits, tasks)))
            case m.Begin(task, fence, agent, at):
                begun = ledger.begin(task, fence, agent, at, self._estimate(agent))
                if begun is None and ledger.task(task) is not None:
                    return m.NotBegun(agent, task, fence)
            case m.Renew(task, fence):
                ledger.renew(task, fence)
            case m.Record():
                return self.record(effect, None)
            case m.Requeue(task, fence, reason, counts, outcome):
                ledger.requeue(task, fence, reason, outcome, counts=counts)
                return m.Requeued(task)
            case m.GiveBack():
                return self._give_back(effect)
            case m.TakeIn():
                return self._take_in(effect)
            case m.LookForCancelled() | m.LookForOutsiders() | m.Expire():
                return self._look_at_leases(effect)
            case m.NoteGate(text):
                self._note("gate", text)
            case m.MindRoles(roles, landing):
                self._roles = roles
                self.landing.mind(roles, landing)
            case LookForLandings() | SettleLanding() | SettleDoubt() | NoteLanding() | Decide():
                return self.landing.carry_out(effect)
            case _:
                raise AssertionError(f"no ledger call for {effect}")
        return None

    def _look_at_leases(
        self, effect: m.LookForCancelled | m.LookForOutsiders | m.Expire
    ) -> m.Event | None:
        match effect:
            case m.LookForCancelled():
                held = self._ledger.holders()
                ended = tuple(one for one in held if one.state is not TaskState.RUNNING)
                return m.CancelledFound(ended) if ended else None
            case m.LookForOutsiders():
                return m.OutsidersFound(tuple(self._ledger.outsiders()))
            case m.Expire(task, fence, until):
                return m.OutsiderExpired(task, fence, self._ledger.expire(task, fence, until))

    def retried(self, agents: Sequence[AgentFact]) -> frozenset[str]:
        """Tasks that wait again, though one of these agents still runs an earlier attempt."""
        found = ((fact, self._ledger.task(fact.task)) for fact in agents if fact.task)
        return frozenset(
            fact.task
            for fact, task in found
            if task is not None and task.state is TaskState.QUEUED and task.fence > fact.fence
        )

    def record(self, record: m.Record, commits: Sequence[str] | None) -> m.Recorded:
        """Take a report in."""
        finished = record.finished
        known = self._ledger.task(finished.task)
        way = KEPT if known is None else self.landing.way(known)
        settlement = self._ledger.finish(finished, record.agent, record.agent_id, commits, way=way)
        if settlement.verdict is Verdict.UNKNOWN and record.agent and record.agent_id is None:
            # Another coordinator's task, but our agent, our money: the supervisor says so.
            ran = finished.exit_status is not None
            estimate = self._estimate(record.agent) if ran else NOTHING
            self._ledger.spent_elsewhere(finished, record.agent, estimate)
        return m.Recorded(finished.task, finished.fence, settlement, record.reply_to, record.replay)

    def left(self, claimed: Claimed) -> Amount:
        """What the attempt that begins may spend of its task's budget."""
        return left(self._limit(claimed.task), claimed.spent)

    def write_responses(self) -> None:
        """Put the answers of tasks that are done where they were asked for."""
        self._ledger.write_responses()

    def note_idle_queues(self, state: State) -> None:
        """Say beside the tasks that nobody takes, or nobody may start now, why not."""
        fleet = {fact.role: takes_of(state, fact.role) for fact in state.agents.values()}
        noted = self._known_notes()
        said = {
            f"queue:{queue.id}": _why_nobody(state, fleet, needs_of(queue))
            for queue in self._ledger.waiting_queues()
        }
        said |= {key: "" for key in noted if key.startswith("queue:") and key not in said}
        self._note_all({key: text for key, text in said.items() if noted.get(key, "") != text})

    def clear_notes(self) -> None:
        """Nothing waits for this coordinator any more."""
        self._note_all(dict.fromkeys(self._known_notes(), ""))

    def _known_notes(self) -> dict[str, str]:
        if self._noted is None:
            self._noted = self._ledger.notes()
        return self._noted

    def _note(self, key: str, text: str) -> None:
        if self._known_notes().get(key, "") != text:
            self._note_all({key: text})

    def _note_all(self, notes: Mapping[str, str]) -> None:
        if not notes:
            return
        self._ledger.note_all(notes)
        noted = {**self._known_notes(), **notes}
        self._noted = {key: text for key, text in noted.items() if text}

    def _waits(self, task: str) -> bool:
        """Whether a claim of it could be had now."""
        found = self._ledger.task(task)
        if found is None or found.state is not TaskState.QUEUED or found.blocked or found.paused:
            return False
        return found.not_before is None or found.not_before <= self._wall()

    def _claim(self, order: m.TryClaim) -> m.Event:
        found = self._meant(order)
        if isinstance(found, m.ClaimLost):
            return found
        if spent := over(self._ledger.spent_on(found.id), self._limit(found), found.id):
            more = f"`agentctl task retry {found.id} --token-budget N` (or --usd-budget) gives more"
            self._ledger.give_up(found.id, f"{spent}; {more}")
            return m.ClaimLost(order.task, order.agent_id, spent)
        if changed := self._ledger.request_changed(found.id):
            return m.ClaimLost(order.task, order.agent_id, changed)
        claimed = self._ledger.claim(found.id, order.agent, order.agent_id, self._lease_seconds)
        if claimed is None:
            now = self._ledger.task(found.id)
            state = "gone" if now is None else now.state
            return m.ClaimLost(order.task, order.agent_id, f"it is {state}, and not to be had now")
        return m.ClaimWon(claimed, order.agent, order.agent_id)

    def _limit(self, task: Task) -> Amount:
        """What all attempts of a task may spend: its own budget, else its role's."""
        rules = self._roles.get(task.role) or self._roles.get("", RoleRules())
        return task.budget.or_else(Amount(rules.task_token_budget, rules.task_usd_budget))

    def _estimate(self, agent: str) -> Amount:
        """What a session of this agent is taken to cost, where its runtime does not say."""
        split = split_agent_name(agent)
        rules = self._roles.get(split[0] if split is not None else "", RoleRules())
        return Amount(rules.estimate_tokens, rules.estimate_usd)

    def _meant(self, order: m.TryClaim) -> Task | m.ClaimLost:
        """The task a claim names, by its id or as the first waiting one of its component."""
        if order.task.id:
            task = self._ledger.task(order.task.id)
            if task is None:
                return m.ClaimLost(order.task, order.agent_id, "unknown", known=False)
            why = fits(order.takes, needs_of(task)) if order.takes is not None else ""
            return m.ClaimLost(order.task, order.agent_id, why) if why else task
        takes = order.takes or outsider_takes()
        able = [q.id for q in self._ledger.waiting_queues() if not fits(takes, needs_of(q))]
        strange = order.takes is None
        waiting = self._ledger.ready(able, 1, order.task.component, work_only=strange)
        if not waiting:
            return m.ClaimLost(order.task, order.agent_id, "no task of that component waits")
        return waiting[0]

    def _give_back(self, order: m.GiveBack) -> m.GivenBack:
        state = self._ledger.unclaim(order.task, order.fence, order.reason, order.retry_after)
        known = state is not None or self._ledger.task(order.task) is not None
        return m.GivenBack(
            order.task, order.fence, order.reply_to, known, stale=state is None, replay=order.replay
        )

    def _take_in(self, order: m.TakeIn) -> m.Event:
        known = self._ledger.submitted(order.sender, order.ref)
        if known is not None:
            return m.TakenIn(order.sender, known, fresh=False)
        task = order.task
        if full := self._too_many(order):
            return m.Unacceptable(order.sender, task, full, order.replay)
        new = NewTask(
            prompt=task.prompt,
            role=task.role,
            component=task.component,
            title=task.title,
            priority=task.priority,
            lane=task.lane,
            labels=task.labels,
            sender=order.sender,
            sender_ref=order.ref,
        )
        try:
            return m.TakenIn(order.sender, self._ledger.submit(new), fresh=True)
        except UsageError as error:
            return m.Unacceptable(order.sender, task, str(error), order.replay)

    def _too_many(self, order: m.TakeIn) -> str:
        """Why no more of an announcer's tasks are taken in for now; empty while they are."""
        if self._ledger.announced((order.sender,)) >= MAX_WAITING_OF_ONE:
            return f"{MAX_WAITING_OF_ONE} tasks of yours have not ended; announce it again later"
        strange = order.strange
        if strange is not None and self._ledger.announced(strange, others=True) >= MAX_OF_STRANGERS:
            return "too many tasks of announcers that nobody named wait; announce it again later"
        return ""


def _why_nobody(state: State, fleet: Mapping[str, Takes], needs: Needs) -> str:
    """Why no agent starts a task that needs this, whatever the gate says; empty when one may.

    ``fleet`` is what an agent of each role takes of which there is one.
    """
    if missing := why_nobody(fleet.values(), needs):
        return missing
    able = {role for role, takes in fleet.items() if not fits(takes, needs)}
    takers = [fact for fact in state.agents.values() if fact.role in able]
    if all(fact.closed for fact in takers):
        return min(takers, key=lambda fact: fact.name).closed
    return ""
