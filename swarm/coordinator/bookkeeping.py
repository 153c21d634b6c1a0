"""Effects that are one ledger call each, and the events they end as."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from swarm.coordinator import messages as m
from swarm.coordinator.clocks import put_back
from swarm.coordinator.state import State, Waiting, public_title
from swarm.core.budget import NOTHING, Amount, left, over
from swarm.core.model import TaskState, split_agent_name
from swarm.errors import UsageError
from swarm.ledger.interface import Claimed, Ledger, NewTask, Task, Verdict
from swarm.wire.lifeline import RoleRules

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
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._wall = wall
        self._offset = wall() - clock()
        self._noted: dict[str, str] | None = None
        self._roles: Mapping[str, RoleRules] = {}

    def look(self, roles: Sequence[str], limit: int) -> m.Found:
        """What waits of these roles, and when a delayed task is worth another look."""
        self._mind_the_clock()
        tasks = tuple(self._waiting(task) for task in self._ledger.ready(roles, limit))
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
            case m.LookForCancelled():
                ended = [one for one in ledger.holders() if one.state is not TaskState.RUNNING]
                return m.CancelledFound(tuple(ended)) if ended else None
            case m.NoteGate(text):
                self._note("gate", text)
            case m.MindRoles(roles):
                self._roles = roles
            case _:
                raise AssertionError(f"no ledger call for {effect}")
        return None

    def record(self, record: m.Record, commits: Sequence[str] | None) -> m.Recorded:
        """Take a report in."""
        finished = record.finished
        settlement = self._ledger.finish(finished, record.agent, record.agent_id, commits)
        if settlement.verdict is Verdict.UNKNOWN and record.agent and record.agent_id is None:
            # Another coordinator's task, but our agent, our money: the supervisor says so.
            ran = finished.exit_status is not None
            estimate = self._estimate(record.agent) if ran else NOTHING
            self._ledger.spent_elsewhere(finished, record.agent, estimate)
        return m.Recorded(finished.task, finished.fence, settlement, record.reply_to, record.replay)

    def left(self, claimed: Claimed) -> Amount:
        """What the attempt that begins may spend of its task's budget."""
        return left(self._limit(claimed.task), claimed.spent)

    def note_idle_roles(self, state: State) -> None:
        """Say beside the tasks of a role that nobody takes, or nobody may start now, why not."""
        waiting = {f"role:{role}": role for role in self._ledger.waiting_roles()}
        for key, role in waiting.items():
            self._note(key, _why_nobody(state, role))
        for key in [k for k in self._known_notes() if k.startswith("role:") and k not in waiting]:
            self._note(key, "")

    def clear_notes(self) -> None:
        """Nothing waits for this coordinator any more."""
        for key in list(self._known_notes()):
            self._note(key, "")

    def _known_notes(self) -> dict[str, str]:
        if self._noted is None:
            self._noted = self._ledger.notes()
        return self._noted

    def _note(self, key: str, text: str) -> None:
        noted = self._known_notes()
        if noted.get(key, "") == text:
            return
        self._ledger.note(key, text)
        if text:
            noted[key] = text
        else:
            noted.pop(key, None)

    def _waits(self, task: str) -> bool:
        """Whether a claim of it could be had now."""
        found = self._ledger.task(task)
        if found is None or found.state is not TaskState.QUEUED or found.blocked:
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
            if order.roles and task.role not in order.roles:
                return m.ClaimLost(order.task, order.agent_id, f"it is for role {task.role}")
            return task
        roles = order.roles or tuple(self._ledger.waiting_roles())
        waiting = self._ledger.ready(roles, 1, order.task.component)
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


def _why_nobody(state: State, role: str) -> str:
    """Why no agent starts a task of this role, whatever the gate says; empty when one may."""
    takers = [fact for fact in state.agents.values() if role in state.settings.takes(fact.role)]
    if not takers:
        return f"no agent of this fleet takes role {role}; try: agentctl swarm scale {role}=1"
    if all(fact.closed for fact in takers):
        return min(takers, key=lambda fact: fact.name).closed
    return ""
