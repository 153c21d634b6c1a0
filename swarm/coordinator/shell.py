"""The coordinator's hands: one inbox, one task that decides, effects carried out in order.

Ledger calls run on the event loop: each is one short transaction (under a millisecond; at worst
it waits for another process's), and a claim that waited for a thread would be slower than the
claim.  Git runs in threads, and only when something has moved.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeAlias

from swarm.coordinator import messages as m
from swarm.coordinator.bookkeeping import Books
from swarm.coordinator.earlier import changes, ranges, tells_more, with_changes
from swarm.coordinator.hubs import Hubs
from swarm.coordinator.landing_jobs import LandingJobs, Lands
from swarm.coordinator.landing_messages import LookForLandings
from swarm.coordinator.landings import AskWhether, Land, StopLanding
from swarm.coordinator.machine import deadline, step
from swarm.coordinator.offers import wants
from swarm.coordinator.state import Settings, State
from swarm.coordinator.work import work_of
from swarm.errors import LedgerError, SwarmError
from swarm.landing.client import Lander
from swarm.ledger.interface import Ledger
from swarm.logs import JsonLog
from swarm.wire import lifeline
from swarm.wire.lifeline import ChildLine, ParentLine, RepoWork
from swarm.wire.work import encode

RETRY_FIRST, RETRY_CAP = 1.0, 30.0
"""Seconds until what the ledger refused (a full disk) is tried again: 1, 2, 4 … 30."""
HUB_RETRY_SECONDS = 15.0
"""Seconds until a repository that could not be opened is tried again."""
MAX_POSTPONED = 10_000


class Channel(Protocol):
    """What the coordinator needs of a chat client."""

    def say(
        self, content: str, *, key: str = "", priority: int = 3, to: tuple[str, ...] = ()
    ) -> None:
        """Have it sent, to those it concerns; returns at once."""

    def flush(self) -> None:
        """Send at once what may be sent now."""

    def unsay(self, key: str) -> None:
        """It need not be sent any more."""


class Line(Protocol):
    """What the coordinator needs of its lifeline."""

    def send(self, line: ChildLine) -> None:
        """Say one line."""

    def __aiter__(self) -> AsyncIterator[ParentLine]: ...


@dataclass(frozen=True, slots=True)
class Listed:
    """A report whose commits were listed, or could not be."""

    record: m.Record
    commits: tuple[str, ...] | None


Item: TypeAlias = m.Event | Listed | lifeline.Snapshot | lifeline.Used


class Coordinator:
    """One coordinator.  Feed it with :meth:`put`; :meth:`decide` runs until cancelled.

    ``line`` and ``channel`` are spoken to; who listens to them calls :meth:`put`.  ``clock`` is
    monotonic seconds, the event loop's own.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        hubs: Hubs,
        line: Line,
        channel: Channel,
        log: JsonLog,
        *,
        lander: Lands | None = None,
        checks: Path = Path(),
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.state = State(settings)
        self.books = Books(ledger, settings.lease_seconds, clock, wall)
        self._ledger = ledger
        self._hubs = hubs
        self._line = line
        self._channel = channel
        self._log = log
        self._clock = clock
        self._inbox: asyncio.Queue[Item] = asyncio.Queue()
        self._look = False
        self._look_for_idle_queues = False
        self._notes: list[m.Log] = []
        self._git: set[asyncio.Task[None]] = set()
        self._git_locks: dict[str | None, asyncio.Lock] = {}
        self._postponed: deque[m.Effect] = deque()
        self._retry_at: float | None = None
        self._retry_wait = RETRY_FIRST
        self._look_for_landings = False
        self._troubles: dict[str, str] = {}
        self.turned: Callable[[], None] = lambda: None
        """Called after each thing that was decided: something may have changed in the ledger."""
        self.troubled: Callable[[str, str], None] = lambda _about, _text: None
        """Called with each new trouble."""
        self._landing = LandingJobs(
            lander if lander is not None else Lander(),
            self.books.landing,
            checks,
            repo=self._repo,
            put=self.put,
            trouble=self.trouble,
        )

    def put(self, item: Item) -> None:
        """Something happened."""
        self._inbox.put_nowait(item)

    def trouble(self, about: str, text: str) -> None:
        """Show people one line beside the coordinator; empty text clears it."""
        if self._troubles.get(about, "") == text:
            return
        self._troubles[about] = text
        self._log.write("trouble", about=about, text=text)
        self.troubled(about, text)
        whole = "; ".join(one for one in self._troubles.values() if one)
        self._line.send(lifeline.Trouble(text=whole))

    # -- the loop ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Decide until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.decide())
                group.create_task(self.open_hub())
        finally:
            for task in self._git:
                task.cancel()
            await asyncio.gather(*self._git, return_exceptions=True)
            await self._landing.close()

    async def decide(self) -> None:
        """Take what happens, one thing at a time."""
        while True:
            item = await self._next()
            try:
                if item is not None:
                    self._take(item)
                if self._inbox.empty():
                    # Everything that is known by now counts before anything is announced.
                    self._look_around()
            finally:
                self._let_know()

    def _let_know(self) -> None:
        """First the channel, which waits for us; then the log, for which nobody waits."""
        self._channel.flush()
        notes, self._notes = self._notes, []
        for one in notes:
            self._log.write(
                one.kind, task=one.task, agent=one.agent, fence=one.fence, text=one.text
            )
        self.turned()

    async def open_hub(self) -> None:
        """Have the configured repository's hub ready before the first task needs it."""
        while True:
            try:
                async with self._git_lock(None):
                    ready = await asyncio.to_thread(self._hubs.open, None)
            except SwarmError as error:
                self.trouble(_about(None), str(error))
                await asyncio.sleep(HUB_RETRY_SECONDS)
                continue
            self.trouble(_about(None), "")
            self.trouble(f"source {ready.hub}", self._hubs.note(None))
            self._line.send(ready)
            self._landing.catch_up(ready.hub, ready.source, self._hubs.target_of(None))
            return

    async def _next(self) -> Item | None:
        """The next item; ``None`` when a retry is due."""
        if not self._inbox.empty():
            return self._inbox.get_nowait()
        at = deadline(self.state)
        due = [moment for moment in (at, self._retry_at) if moment is not None]
        if not due:
            return await self._inbox.get()
        wait = max(0.0, min(due) - self._clock())
        try:
            async with asyncio.timeout(wait):
                return await self._inbox.get()
        except TimeoutError:
            pass
        if self._retry_at is not None and self._clock() >= self._retry_at:
            self._retry()
        return m.Tick() if at is not None and self._clock() >= at else None

    def _take(self, item: Item) -> None:
        match item:
            case Listed(record, commits):
                self._attempt(record, lambda: self.books.record(record, commits))
            case lifeline.Snapshot(agents=agents, reports=reports):
                holders = tuple(self._ledger.holders())
                retried = self.books.retried(agents)
                self.handle(m.SnapshotTaken(agents, reports, holders, retried))
            case lifeline.Used(spent=spent):
                self._spent(spent)
            case _:
                self.handle(item)

    def handle(self, event: m.Event) -> None:
        """Decide one event and carry out what follows, to the end."""
        self.state, effects = step(self.state, event, self._clock())
        for effect in effects:
            self._perform(effect)

    def _spent(self, spent: lifeline.Spent) -> None:
        try:
            self._ledger.spent(
                spent.task, spent.fence, spent.usage, spent.cost_usd, spent.session_id
            )
        except LedgerError as error:
            self.trouble("ledger", str(error))  # a running total: the next one says it all again

    # -- effects ----------------------------------------------------------------------------------

    def _perform(self, effect: m.Effect) -> None:
        match effect:
            case m.Look():
                self._look = True
            case m.LookForIdleQueues():
                self._look_for_idle_queues = True
            case LookForLandings():
                self._look_for_landings = True
            case Land(what):
                self._landing.start(what)
            case StopLanding(what):
                self._landing.stop(what)
            case AskWhether(what):
                self._landing.ask(what)
            case m.Say(message, priority, key, to):
                self._channel.say(encode(message), key=key, priority=priority, to=to)
            case m.Unsay(key):
                self._channel.unsay(key)
            case m.Tell(line):
                self._line.send(line)
            case m.Log():
                self._notes.append(effect)
            case m.Prepare():
                self._prepare(effect)
            case m.Record() if effect.finished.commits > 1:
                self._in_thread(self._list_commits(effect))
            case _:
                self._attempt(effect, lambda: self.books.carry_out(effect))

    def _attempt(self, effect: m.Effect, do: Callable[[], m.Event | None]) -> None:
        """Change the ledger; what it cannot take now it is asked again, in order."""
        if self._postponed and not isinstance(effect, m.TryClaim):
            self._postpone(effect)
            return
        try:
            event = do()
        except LedgerError as error:
            self.trouble("ledger", str(error))
            if isinstance(effect, m.TryClaim):
                reason = "the ledger is in trouble"
                self.handle(m.ClaimLost(effect.task, effect.agent_id, reason, again=True))
            else:
                self._postpone(effect)
            return
        if event is not None:
            self.handle(event)

    def _postpone(self, effect: m.Effect) -> None:
        if len(self._postponed) < MAX_POSTPONED:
            self._postponed.append(effect)
        if self._retry_at is None:
            self._retry_at = self._clock() + self._retry_wait

    def _retry(self) -> None:
        self._retry_at = None
        waiting, self._postponed = self._postponed, deque()
        self._retry_wait = min(self._retry_wait * 2, RETRY_CAP)
        for effect in waiting:
            self._perform(effect)
        self._look = self._look_for_landings = True
        if not self._postponed:
            self._retry_wait = RETRY_FIRST
            self.trouble("ledger", "")

    def _look_around(self) -> None:
        """What waits, once for all that asked since the last time."""
        try:
            if self._look_for_landings:
                self._look_for_landings = False
                self.handle(self.books.landing.look())
            if self._look_for_idle_queues:
                self._look_for_idle_queues = False
                self.books.note_idle_queues(self.state)
            if self._look:
                self.books.write_responses()
            while self._look:
                self._look = False
                wanted = wants(self.state)
                if wanted is not None:
                    self.handle(self.books.look(*wanted))
        except LedgerError as error:
            self.trouble("ledger", str(error))
            self._look = self._look_for_landings = True
            if self._retry_at is None:
                self._retry_at = self._clock() + self._retry_wait

    # -- git --------------------------------------------------------------------------------------

    def _prepare(self, prepare: m.Prepare) -> None:
        task = prepare.claimed.task
        repo = self._hubs.at_once(task.repo, task.branch or "")
        if repo is not None and not tells_more(prepare.claimed):
            self.trouble(_about(task.repo), "")
            self.handle(self._prepared(prepare, repo))
        else:
            self._in_thread(self._prepare_with_git(prepare))

    async def _prepare_with_git(self, prepare: m.Prepare) -> None:
        task = prepare.claimed.task
        try:
            repo = await self._repo(task.repo, task.branch or "")
            if tells_more(prepare.claimed):
                made = ranges(self._ledger.attempts(task.id))
                subjects = partial(self._hubs.subjects, task.repo)
                told = await asyncio.to_thread(changes, made, subjects)
                prepare = m.Prepare(with_changes(prepare.claimed, told))
        except SwarmError as error:
            self.trouble(_about(task.repo), str(error))
            self.put(m.Unprepared(task.id, prepare.claimed.fence, str(error)))
            return
        self.trouble(_about(task.repo), "")
        self.put(self._prepared(prepare, repo))

    async def _repo(self, repo: str | None, branch: str) -> RepoWork:
        """Where work on ``branch`` starts, and where its hub is.  Raises ``SwarmError``."""
        known = self._hubs.at_once(repo, branch)
        if known is not None:
            return known
        async with self._git_lock(repo):
            work = await asyncio.to_thread(self._hubs.with_git, repo, branch)
            self.trouble(f"source {work.hub}", self._hubs.note(repo))
            return work

    def _prepared(self, prepare: m.Prepare, repo: lifeline.RepoWork) -> m.Prepared:
        claimed = prepare.claimed
        work = work_of(claimed, repo, self.books.left(claimed))
        return m.Prepared(work, claimed.fence)

    async def _list_commits(self, record: m.Record) -> None:
        """The ledger wants every commit's id; a hub that cannot say leaves them unknown."""
        commits: tuple[str, ...] | None = None
        try:
            task = self._ledger.task(record.finished.task)
            if task is not None and task.branch is not None:
                found = await asyncio.to_thread(self._hubs.commits, task.repo, task.branch)
                commits = tuple(found) or None
        except SwarmError as error:
            self._log.write("commits unknown", task=record.finished.task, text=str(error))
        self.put(Listed(record, commits))

    def _in_thread(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._git.add(task)
        task.add_done_callback(self._git.discard)

    def _git_lock(self, repo: str | None) -> asyncio.Lock:
        return self._git_locks.setdefault(self._hubs.source_of(repo), asyncio.Lock())


def _about(repo: str | None) -> str:
    """What a trouble with a task's repository is about: another's success clears it not."""
    return f"repository {repo}" if repo else "repository"
