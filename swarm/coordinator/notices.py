"""Telling people, at least once each, by the hooks of ``notify``; it holds nothing else up.

What is to be told is kept in the ledger in the transaction that moves the cursor over its event,
and stays there until a hook took it: over failures, restarts and kills.  Where no hook is
configured there is no cursor: nothing is kept, and the first hook is told of nothing old.

Beside that it leaves ``results/answer.md`` in the folders of tasks that have ended, from the same
events.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from swarm.coordinator.hooks import Hooks
from swarm.coordinator.results import is_left, leave_answer
from swarm.coordinator.telling import (
    ENDS,
    KINDS,
    Notice,
    addressed,
    hook_of,
    kind_of,
    of_fleet,
    told,
)
from swarm.core.model import NoticeKind, Review
from swarm.errors import LedgerError
from swarm.ledger.interface import Event, Ledger, Task
from swarm.ledger.notices_calls import DueNotice, NewNotice
from swarm.logs import JsonLog
from swarm.wire.lifeline import NotifyRule

AT_ONCE = 4
"""Hooks at work at the same time, each with one notice: none waits for another that hangs."""
TRIES = 10
"""A notice that failed so often, over about 17 minutes, is dropped."""
RETRY_FIRST = 1.0
"""Seconds after the first failure; each further wait is twice as long."""
STRIDE = 1000
"""Events that tell nobody anything may be read again after a restart, up to so many."""
MAX_FLEET = 100
"""Of those that are about no task, kept while the ledger cannot take them; the newest."""
LEDGER_SECONDS = 5.0
"""Until a ledger that could not be read or written is tried again."""
ANSWER_DAYS = 7.0
"""How far back a start looks for tasks whose end nobody wrote into their folder."""


class Notices:
    """Reads what happens, keeps what is to be told, and has it told.

    ``review_of`` says who judges a task's work now.  ``wall`` is Unix seconds: what the ledger
    keeps must mean the same after a restart.  ``trouble`` shows a line about something, or takes it
    back by an empty one.
    """

    def __init__(
        self,
        ledger: Ledger,
        home: Path,
        review_of: Callable[[Task], Review],
        log: JsonLog,
        *,
        wall: Callable[[], float] = time.time,
        trouble: Callable[[str, str], None] = lambda _about, _text: None,
    ) -> None:
        self._ledger = ledger
        self._trouble = trouble
        self._failing: set[str] = set()
        """Hooks that could not be told the last time."""
        self._home = home
        self._review_of = review_of
        self._log = log
        self._wall = wall
        self._hooks = Hooks(home)
        self._rules: tuple[NotifyRule, ...] | None = None
        self._wake = asyncio.Event()
        self._seen: int | None = None
        self._fleet: deque[Notice] = deque(maxlen=MAX_FLEET)
        """About no task, and not yet in the ledger."""
        self._ended: dict[str, Task] = {}
        """Tasks whose folders are to say how they ended."""
        self._saved = 0
        """Where the ledger's cursor stands."""
        self._busy: dict[str, asyncio.Task[None]] = {}
        """By hook."""

    def use(self, rules: tuple[NotifyRule, ...]) -> None:
        """These are the hooks from now on; nothing is told before any are known."""
        self._take_in()  # what happened so far was under the rules of then
        before, self._rules = self._rules, rules
        if before != rules:
            self._settle_hooks(rules)
        self._wake.set()

    def look(self) -> None:
        """Something may have happened."""
        self._wake.set()

    def tell(self, kind: NoticeKind, text: str, agent: str = "") -> None:
        """Tell of something that is about no task."""
        self._fleet.append(of_fleet(kind, text, agent, self._wall(), str(self._home)))
        self._wake.set()

    async def run(self) -> None:
        """Tell until cancelled."""
        try:
            self._ended |= {task.id: task for task in self._unanswered()}
            while True:
                self._take_in()
                await self._leave_answers()
                await self._wait(self._start_due())
        finally:
            for task in self._busy.values():
                task.cancel()
            await asyncio.gather(*self._busy.values(), return_exceptions=True)
            await self._hooks.close()

    # -- what is to be told -----------------------------------------------------------------------

    def _settle_hooks(self, rules: Sequence[NotifyRule]) -> None:
        """Other hooks than before: nothing old is told to the first of them."""
        self._well(self._failing - {hook_of(rule) for rule in rules})
        try:
            self._ledger.forget_notices([hook_of(rule) for rule in rules])
            cursor = self._seen if self._seen is not None else self._ledger.notice_cursor()
            if rules and cursor is None:
                cursor = self._ledger.last_event()
            self._ledger.keep_notices((), cursor if rules else None)
            self._saved = cursor or 0
        except LedgerError as error:
            self._log.write("notices", error=str(error))

    def _take_in(self) -> None:
        """Keep what the events since the last look are to people."""
        if self._rules is None:
            return
        try:
            self._read(self._rules)
        except LedgerError as error:
            self._log.write("notices", error=str(error))
            asyncio.get_running_loop().call_later(LEDGER_SECONDS, self._wake.set)

    def _read(self, rules: Sequence[NotifyRule]) -> None:
        ledger = self._ledger
        if self._fleet:
            mine = [one for notice in self._fleet for one in addressed(notice, rules)]
            self._dropped(ledger.add_notices(mine) if mine else 0)
            self._fleet.clear()
        last = ledger.last_event()
        if self._seen is None:
            cursor = ledger.notice_cursor() if rules else None
            self._seen = last if cursor is None else min(cursor, last)
        if last <= self._seen:
            return
        new: list[NewNotice] = []
        for event in ledger.events_of({*KINDS, *ENDS} if rules else ENDS, self._seen, last):
            task = ledger.task(event.task)
            if task is None:
                continue
            if task.folder and task.state.ended:
                self._ended[task.id] = task
            new += self._notices(event, task, rules)
        if new or (rules and last - self._saved > STRIDE):
            self._dropped(ledger.keep_notices(new, last))
            self._saved = last
        self._seen = last

    def _notices(self, event: Event, task: Task, rules: Sequence[NotifyRule]) -> list[NewNotice]:
        if not rules or event.kind not in KINDS:
            return []
        later = self._ledger.events(event.seq, task.id) if event.kind == "finished" else ()
        kind = kind_of(event, task, later, self._review_of(task))
        return [] if kind is None else addressed(told(kind, event, task, str(self._home)), rules)

    def _dropped(self, count: int) -> None:
        if count:
            self._log.write("notices", dropped=count, text="too many wait to be told")

    # -- telling ----------------------------------------------------------------------------------

    def _start_due(self) -> float | None:
        """Start as many as may be at work; seconds until there is more to do, if any waits."""
        rules = {hook_of(rule): rule for rule in self._rules or ()}
        try:
            while len(self._busy) < AT_ONCE:
                due = self._ledger.due_notices(1, self._busy)
                if not due:
                    break
                (notice,) = due
                rule = rules.get(notice.hook)
                if rule is None:  # its hook is configured no more
                    self._ledger.notice_told(notice.seq)
                    continue
                self._busy[notice.hook] = asyncio.create_task(self._tell(notice, rule))
            if len(self._busy) >= AT_ONCE:
                return None  # the end of one wakes us
            at = self._ledger.next_notice(self._busy)
        except LedgerError as error:
            self._log.write("notices", error=str(error))
            return LEDGER_SECONDS
        return None if at is None else max(0.01, at - self._wall())

    async def _tell(self, notice: DueNotice, rule: NotifyRule) -> None:
        try:
            why = await self._hooks.tell(rule, notice.kind, notice.task, notice.body)
            self._show(notice.hook, rule, why)
            # Its hook is busy until then: nobody is told the same a hundred times a second.
            while not self._settle(notice, why):  # noqa: ASYNC110 - nothing tells of room
                await asyncio.sleep(LEDGER_SECONDS)
        finally:
            self._busy.pop(notice.hook, None)
            self._wake.set()

    def _settle(self, notice: DueNotice, why: str) -> bool:
        """It was told, or is tried again later, or given up; false where that cannot be kept.

        Killed before it is kept, it is told again: at least once, which is what is promised.
        """
        tries = notice.tries + 1
        try:
            if not why:
                self._ledger.notice_told(notice.seq)
            elif tries >= TRIES:
                self._ledger.notice_told(notice.seq)
                self._log.write(
                    "not told", event=notice.kind, task=notice.task, tries=tries, error=why
                )
            else:
                wait = RETRY_FIRST * 2.0 ** (tries - 1)
                self._ledger.notice_failed(notice.seq, self._wall() + wait)
                self._log.write(
                    "not told yet", event=notice.kind, task=notice.task, tries=tries, error=why
                )
        except LedgerError as error:
            self._log.write("notices", error=str(error))
            return False
        return True

    def _show(self, hook: str, rule: NotifyRule, why: str) -> None:
        """People see that a hook does not work before they miss what it was to tell."""
        if why:
            self._failing.add(hook)
            name = rule.command[0] if rule.command else "a webhook"  # its address may be a secret
            self._trouble(f"notify {hook}", f"notify: {name} was not told: {why}")
        else:
            self._well({hook})

    def _well(self, hooks: set[str]) -> None:
        for hook in hooks & self._failing:
            self._trouble(f"notify {hook}", "")
        self._failing -= hooks

    async def _wait(self, seconds: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()

    # -- answers in tasks' folders ----------------------------------------------------------------

    def _unanswered(self) -> list[Task]:
        try:
            ended = self._ledger.foldered(self._wall() - ANSWER_DAYS * 86400)
        except LedgerError:
            return []
        return [task for task in ended if not is_left(task)]

    async def _leave_answers(self) -> None:
        while self._ended:
            _, task = self._ended.popitem()
            try:
                await asyncio.to_thread(leave_answer, task)
            except OSError as error:
                self._log.write("no answer left", task=task.id, error=str(error))
