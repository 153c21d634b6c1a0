"""Effects that are one ledger call each, and the events they end as."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from swarm.coordinator import messages as m
from swarm.coordinator.state import State, Waiting, public_title
from swarm.core.model import TaskState
from swarm.errors import UsageError
from swarm.ledger.interface import Ledger, NewTask, Task


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
        self._noted: dict[str, str] | None = None

    def look(self, roles: Sequence[str], limit: int) -> m.Found:
        """What waits of these roles, and when a delayed task is worth another look."""
        tasks = tuple(_waiting(task) for task in self._ledger.ready(roles, limit))
        at = self._ledger.next_delay()
        wake = None if at is None else self._clock() + max(0.01, at - self._wall())
        return m.Found(tasks, wake)

    def carry_out(self, effect: m.Effect) -> m.Event | None:
        """Do it; the event it ends as, if any."""
        ledger = self._ledger
        match effect:
            case m.TryClaim():
                return self._claim(effect)
            case m.CheckOffers(tasks):
                return m.OffersChecked(tasks, frozenset(filter(self._waits, tasks)))
            case m.Begin(task, fence, agent, at):
                if ledger.begin(task, fence, agent, at) is None and ledger.task(task) is not None:
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
            case _:
                raise AssertionError(f"no ledger call for {effect}")
        return None

    def record(self, record: m.Record, commits: Sequence[str] | None) -> m.Recorded:
        """Take a report in."""
        finished = record.finished
        settlement = self._ledger.finish(finished, record.agent, record.agent_id, commits)
        return m.Recorded(finished.task, finished.fence, settlement, record.reply_to, record.replay)

    def note_idle_roles(self, state: State) -> None:
        """Say beside the tasks of a role nobody takes that they wait for an agent."""
        taken: set[str] = set()
        for role in {fact.role for fact in state.agents.values()}:
            taken |= state.settings.takes(role)
        waiting = {f"role:{role}": role for role in self._ledger.waiting_roles()}
        for key, role in waiting.items():
            text = f"no agent of this fleet takes role {role}; try: agentctl swarm scale {role}=1"
            self._note(key, "" if role in taken else text)
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
        claimed = self._ledger.claim(found.id, order.agent, order.agent_id, self._lease_seconds)
        if claimed is None:
            now = self._ledger.task(found.id)
            state = "gone" if now is None else now.state
            return m.ClaimLost(order.task, order.agent_id, f"it is {state}, and not to be had now")
        return m.ClaimWon(claimed, order.agent, order.agent_id)

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


def _waiting(task: Task) -> Waiting:
    return Waiting(
        id=task.id,
        role=task.role,
        component=task.component,
        title=public_title(task),
        priority=task.priority,
        fence=task.fence,
        last_agent=task.agent,
    )
