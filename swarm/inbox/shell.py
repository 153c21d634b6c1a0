"""The inbox at work: a watch, the settling of drops, and their way into the ledger.

It runs in the coordinator's process.  What blocks (trees, copies) runs in a thread; the ledger is
asked on the loop, in one short transaction a drop.  A drop that cannot be taken in now, as the
disk is full or the folder read-only, is a line of trouble and is tried again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from swarm.config.places import Places
from swarm.errors import LedgerError, SwarmError, UsageError
from swarm.inbox.asking import SENDER, asked
from swarm.inbox.carrying import QUARANTINE, Carried, Carrier
from swarm.inbox.looking import Nature, nature
from swarm.inbox.names import is_ignored, reserved
from swarm.inbox.settling import Seen, Settling
from swarm.inbox.watching import Watch
from swarm.ledger.intake import one_line
from swarm.ledger.records import TASK_ID, NewTask, Task
from swarm.logs import JsonLog
from swarm.wire.lifeline import InboxRules

RETRY_FIRST, RETRY_CAP = 1.0, 30.0
"""Seconds until what could not be done is tried again: 1, 2, 4 … 30."""
BATCH = 64
"""Drops looked at, or taken in, by one call of a thread."""


class Tasks(Protocol):
    """What the inbox needs of the ledger."""

    def submit(self, new: NewTask) -> str:
        """Add a task, once for each (sender, sender_ref)."""

    def submitted(self, sender: str, sender_ref: str) -> str | None:
        """The id it was taken in as, if it was."""

    def find(self, prefix: str) -> Task:
        """The one task a prefix means."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Whom the inbox tells."""

    trouble: Callable[[str], None]
    """One line beside the coordinator; empty clears it."""
    added: Callable[[], None]
    """A task was added."""
    refused: Callable[[str], None]
    """A drop was put in quarantine: one line for people."""
    log: JsonLog


class Inbox:
    """Takes drops in while :meth:`run` runs."""

    def __init__(self, places: Places, ledger: Tasks, ports: Ports) -> None:
        self._places = places
        self._tasks = places.tasks
        self._ledger = ledger
        self._ports = ports
        self._rules = InboxRules()
        self._wake = asyncio.Event()
        self._settling = Settling(0.0)
        self._stale = True
        """What lies in the folder is to be looked at anew."""
        self._retry_at: float | None = None
        self._retry_wait = RETRY_FIRST
        self._aside_changed = True
        self._last_refusal = ""

    def use(self, rules: InboxRules) -> None:
        """These are the settings from now on."""
        self._rules = rules
        self._settling.waits(rules.settle_seconds)
        self._wake.set()

    def place_left(self) -> None:
        """Give the tasks their input that the ledger has from an earlier life.

        To be called before anything is assigned.  What fails is tried again by :meth:`run`.
        """
        carrier = Carrier(Path(), self._tasks)
        with suppress(OSError, LedgerError):
            for ref in carrier.incoming():
                if (task := self._ledger.submitted(SENDER, ref)) is not None:
                    carrier.place(ref, task)

    # -- the loop ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Watch and take in until cancelled."""
        while True:
            path = self._rules.path
            if not path:
                self._ports.trouble("")
                await self._wait(None)
                continue
            try:
                await self._serve(path)
            except (OSError, SwarmError) as error:
                self._failed(f"inbox {path}: {_why(error)}")
                await self._wait(self._retry_at)
                self._retry_at = None

    async def _serve(self, path: str) -> None:
        """One watch of one folder; returns when it is to be watched anew."""
        inbox = Path(path)
        _refuse_home(inbox, self._places.home)
        carrier = Carrier(inbox, self._tasks)
        await asyncio.to_thread(carrier.prepare)
        self._settling = Settling(self._rules.settle_seconds)
        watch = Watch(inbox, inbox / QUARANTINE, self._saw, self._blind, self._missed, self._freed)
        self._stale = self._aside_changed = True
        try:
            await self._finish_left(carrier)
            if self._retry_at is None:
                self._well()
            while self._rules.path == path and not watch.over:
                await self._round(carrier)
                self._show_quarantine(carrier)
                await self._wait(self._next())
        finally:
            watch.close()

    async def _round(self, carrier: Carrier) -> None:
        """Look at everything that is due, and take in what has settled."""
        if self._stale:
            self._stale = False
            await self._look_around(carrier)
        retrying = self._retry_at is not None and self._now() >= self._retry_at
        if retrying:
            self._retry_at = None
            await self._finish_left(carrier)
        while names := self._settling.due(self._now(), BATCH):
            ready: list[str] = []
            for name, found in await asyncio.to_thread(_natures, carrier.inbox, names):
                if isinstance(found, OSError):
                    self._later(name, found)
                    continue
                look = None if found is None else found.look
                if self._settling.looked(name, look, self._now()):
                    ready.append(name)
            for claimed in await asyncio.to_thread(_claims, carrier, ready):
                if isinstance(claimed, Carried):
                    await self._take_in(carrier, claimed)
                else:
                    self._later(*claimed)
        if retrying and self._retry_at is None:
            self._well()

    async def _look_around(self, carrier: Carrier) -> None:
        """What lies there already: dropped while nobody watched, or while too much happened."""
        for name in await asyncio.to_thread(os.listdir, carrier.inbox):
            self._saw(name, Seen.FOUND, "")

    async def _finish_left(self, carrier: Carrier) -> None:
        """Bring to their end the drops that an earlier life, or try, left on their way."""
        for drop in await asyncio.to_thread(carrier.left):
            task = self._ledger.submitted(SENDER, drop.ref)
            if task is not None and carrier.is_carried(drop):
                carrier.place(drop.ref, task)
            else:
                await self._take_in(carrier, drop)

    async def _take_in(self, carrier: Carrier, drop: Carried) -> None:
        """Make a task of a claimed drop, or put it aside; what fails is tried again."""
        try:
            try:
                wanted, drop = await asyncio.to_thread(
                    _carry, carrier, drop, self._rules, self._places
                )
                folder = str(self._tasks / TASK_ID)
                after = tuple(self._ledger.find(prefix).id for prefix in wanted.after)
                task = self._ledger.submit(
                    replace(wanted, after=after, sender_ref=drop.ref, folder=folder)
                )
            except UsageError as error:
                await self._refuse(carrier, drop, str(error))
                return
            # In the same turn of the loop: nobody is given the task before its input is there.
            carrier.place(drop.ref, task)
        except (OSError, LedgerError) as error:
            self._failed(f"inbox: {one_line(ascii(drop.name), 80)}: {_why(error)}")
            return
        self._ports.log.write("dropped", task=task, name=drop.name)
        self._ports.added()
        await asyncio.sleep(0)

    async def _refuse(self, carrier: Carrier, drop: Carried, reason: str) -> None:
        kept = await asyncio.to_thread(carrier.quarantine, drop, reason)
        line = f"{one_line(ascii(drop.name), 80)}: {one_line(reason, 300)}"
        self._last_refusal, self._aside_changed = line, True
        self._ports.log.write("quarantined", name=ascii(drop.name), text=reason, path=str(kept))
        self._ports.refused(f"a drop in the inbox was put aside in {kept}: {line}")

    # -- what the watch sees ----------------------------------------------------------------------

    def _saw(self, name: str, seen: Seen, inside: str) -> None:
        if not is_ignored(name):
            self._settling.saw(name, seen, self._now(), inside)
            self._wake.set()

    def _blind(self, name: str) -> None:
        self._settling.unwatched(name)

    def _missed(self) -> None:
        self._stale = True
        self._wake.set()

    def _freed(self) -> None:
        self._aside_changed = True
        self._wake.set()

    # -- waiting and trouble ----------------------------------------------------------------------

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _next(self) -> float | None:
        moments = (self._settling.deadline(), self._retry_at)
        return min((at for at in moments if at is not None), default=None)

    async def _wait(self, until: float | None) -> None:
        """Until something happens, or ``until``; without it nothing wakes but an event."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._wake.wait()
        self._wake.clear()

    def _later(self, name: str, error: OSError) -> None:
        self._failed(f"inbox: {one_line(ascii(name), 80)}: {_why(error)}")
        self._settling.again(name, self._retry_at or self._now())

    def _failed(self, text: str) -> None:
        self._ports.trouble(text)
        self._aside_changed = True  # its line, if there is one, comes back when this is over
        if self._retry_at is None:
            self._retry_at = self._now() + self._retry_wait
            self._retry_wait = min(self._retry_wait * 2, RETRY_CAP)

    def _well(self) -> None:
        self._retry_at, self._retry_wait = None, RETRY_FIRST
        self._aside_changed = True

    def _show_quarantine(self, carrier: Carrier) -> None:
        if not self._aside_changed or self._retry_at is not None:
            return
        self._aside_changed = False
        count = carrier.quarantined()
        if not count:
            self._ports.trouble("")
            return
        last = f", the last: {self._last_refusal}" if self._last_refusal else ""
        what = "drop is" if count == 1 else "drops are"
        where = carrier.inbox / QUARANTINE
        self._ports.trouble(f"inbox: {count} {what} in quarantine, see {where}{last}")


def _natures(inbox: Path, names: list[str]) -> list[tuple[str, Nature | OSError | None]]:
    found: list[tuple[str, Nature | OSError | None]] = []
    for name in names:
        try:
            found.append((name, nature(os.path.join(inbox, name))))
        except OSError as error:
            found.append((name, error))
    return found


def _claims(carrier: Carrier, names: list[str]) -> list[Carried | tuple[str, OSError]]:
    found: list[Carried | tuple[str, OSError]] = []
    for name in names:
        try:
            claimed = carrier.claim(name)
        except OSError as error:
            found.append((name, error))
        else:
            if claimed is not None:
                found.append(claimed)
    return found


def _carry(
    carrier: Carrier, drop: Carried, rules: InboxRules, places: Places
) -> tuple[NewTask, Carried]:
    """What a drop asks for, and the drop brought over.  Raises ``UsageError`` for what may not."""
    if why := reserved(drop.name):
        raise UsageError(why, "give it another name")
    found = nature(drop.path)
    if found is None:
        raise FileNotFoundError(2, "it is gone", drop.path)
    if found.problem:
        raise UsageError(found.problem, "drop files and folders")
    wanted = asked(drop.path, rules, places)
    if not carrier.is_carried(drop):
        drop = carrier.carry(drop, copy=found.linked)
    return wanted, drop


def _refuse_home(inbox: Path, home: Path) -> None:
    """A folder that holds other things than drops must never be emptied into tasks."""
    person = Path(os.path.expanduser("~"))
    holds = any(one == inbox or inbox in one.parents for one in (home, person))
    ours = [home / name for name in ("tasks", "hub", "logs", "journal", "roles")]
    if holds or any(one == inbox or one in inbox.parents for one in ours):
        raise UsageError("it holds other things than drops", "name a folder of its own")


def _why(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
