"""The shell around the fleet machine: carries out effects, and turns what happens into events.

It decides nothing.  ``perform`` never blocks and never raises; what takes time (a tree to empty, a
janitor) runs beside and ends as one event.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from swarm.config.places import Places
from swarm.core import fleet_effects as fx
from swarm.core import fleet_events as e
from swarm.core import journal as j
from swarm.core.fleet import Fleet
from swarm.core.fleet_state import API, CHAT, COORDINATOR
from swarm.core.life import HastenSpawn, Signal, Spawn, Spawning
from swarm.daemon.outbox import read_outbox
from swarm.errors import LedgerError, SwarmError
from swarm.health.disk import free_disk_mb
from swarm.logs import JsonLog
from swarm.spawner.workspace import Workspace, owned_workspaces
from swarm.supervisor import keeping, tidy
from swarm.supervisor.bookings import Bookings
from swarm.supervisor.books import PATIENCE_SECONDS, Books
from swarm.supervisor.children import Children, Order
from swarm.supervisor.cleaning import clean
from swarm.supervisor.console import Console
from swarm.supervisor.control import Caller
from swarm.supervisor.inbox import Inbox
from swarm.supervisor.journal import Journal
from swarm.supervisor.lines import event_of, line_to_child, line_to_coordinator
from swarm.supervisor.monitor import free_memory_mb, load_per_processor
from swarm.supervisor.notices import Herald
from swarm.supervisor.specs import Specs
from swarm.wire import control, lifeline

LAST_PATIENCE_SECONDS = 5.0
"""How long the last reports wait for the ledger: nobody else is left that could be kept waiting."""
BESIDE = frozenset({tidy.NAME, keeping.NAME})
"""Children that come and go beside the fleet, each with a run of its own."""
ORPHANS_SECONDS = 0.5
"""Adopted processes that ended are reaped together, at most so often."""


class Shell:
    """One running supervisor's hands and ears; see :class:`~swarm.supervisor.children.Listener`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fleet: Fleet,
        specs: Specs,
        console: Console,
        places: Places,
    ) -> None:
        self.loop = loop
        self.fleet = fleet
        self.specs = specs
        self.console = console
        self.places = places
        self.journal = Journal(places)
        self.books = Books(places, self.specs.rules)
        self.log = console.log = JsonLog(places.service_log("supervisor"))
        self.bookings = Bookings(loop, self.books, self.log)
        self.inbox = Inbox(loop, fleet, self.perform)
        self.children: Children
        self.herald = Herald(self._announce)
        self.ended = asyncio.Event()
        self.session_began = asyncio.Event()
        """For who watches sessions: there is one."""
        self.failed: SwarmError | None = None
        self.waiting_callers: dict[int, Caller] = {}
        """Who waits for the fleet's answer, by reply number."""
        self.last_reply = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._tidying: tidy.Tidying | None = None
        self._keeping: keeping.Keeping | None = None
        self._orphans: asyncio.TimerHandle | None = None

    def post(self, event: e.Event) -> None:
        """Something happened."""
        self.inbox.post(event)

    def reply_to(self, caller: Caller) -> int:
        """A number under which the fleet answers ``caller``."""
        self.last_reply += 1
        self.waiting_callers[self.last_reply] = caller
        return self.last_reply

    @property
    def in_flight(self) -> str:
        """What only this program can bring to its end; empty when another may go on from here."""
        if self._tidying is not None:
            return "workspaces are being removed"
        if self._keeping is not None:
            return "what is past its time is being removed"
        if self._tasks:
            return "a dead agent's session is being cleaned up"
        if self.children.forking:
            return "an agent is being started"
        if self.bookings:
            return "the ledger cannot be written"
        return ""

    def respawn(self) -> None:
        """Ask anew for every child that an earlier program was about to ask for."""
        for name in (*self.fleet.services, *self.fleet.agents):
            life = self.fleet.life_of(name)
            if life is not None and isinstance(life.phase, Spawning):
                self._spawn(name)

    def free_disk_mb(self) -> float | None:
        """Free disk below the home and the workspaces, the lower; ``None`` where not known."""
        return free_disk_mb((self.places.home, self.specs.base))

    # -- what happens: children (Listener) --------------------------------------------------------

    def _beside_of(self, name: str) -> tidy.Tidying | keeping.Keeping | None:
        """Whose run the child is, if it is one that comes and goes beside the fleet."""
        return {tidy.NAME: self._tidying, keeping.NAME: self._keeping}.get(name)

    def spawned(self, name: str, pid: int) -> None:
        """The child lives."""
        if name in BESIDE:
            if (run := self._beside_of(name)) is not None:
                run.spawned(pid)
            return
        self.post(e.Spawned(name, pid))

    def spawn_failed(self, name: str, error: str) -> None:
        """The child asked for does not."""
        self.log.write("spawn_failed", child=name, error=error)
        if name in BESIDE:
            if (run := self._beside_of(name)) is not None:
                run.spawn_failed(error)
            return
        self.post(e.SpawnFailed(name, error))

    def said(self, name: str, line: lifeline.ChildLine) -> None:
        """One line; raises :class:`~swarm.errors.BadMessage` for what is not the child's to say."""
        if name in BESIDE:
            if (run := self._beside_of(name)) is not None:
                run.said(line)
            return
        event = event_of(name, line, daemon=name in self.fleet.agents)
        match event:
            case None:
                return
            case e.PromotionAsked():
                event = replace(
                    event,
                    free_memory_mb=free_memory_mb(),
                    load=load_per_processor(),
                    free_disk_mb=self.free_disk_mb(),
                )
            case e.SessionStarted():
                self.session_began.set()
            case e.ChildReady(address=address) if name == CHAT and address:
                self._chat_listens(address)
            case e.ChildReady() if name == CHAT:
                pass
            case e.ChildReady(address=address) if name == API and address:
                self._api_listens(address)
            case e.ChildFailing(error=error) | e.ChildTrouble(text=error):
                self.log.write("said", child=name, text=error)
            case _:
                pass
        self.post(event)

    def garbled(self, name: str, what: str) -> None:
        """The child broke its protocol."""
        self.log.write("garbled", child=name, what=what)
        if name not in BESIDE:
            self.post(e.ChildGarbled(name, what))

    def exited(self, name: str, status: int) -> None:
        """The child is gone and reaped."""
        if name in BESIDE:
            if (run := self._beside_of(name)) is not None:
                run.exited(status)
            return
        self.post(e.Exited(name, status))

    def zygote_died(self, status: int | None) -> None:
        """The zygote is gone; a new one is on its way."""
        self.perform(fx.Note(j.ZygoteDied(status)))

    def _chat_listens(self, address: str) -> None:
        first = not self.specs.chat_url
        self.specs.chat_url = address
        self.specs.chat_listen = address.partition("://")[2].rstrip("/")
        if first:
            self.console.say(f"chat {address}")
        write_text(self.places.home / "chat.address", address)

    def _api_listens(self, address: str) -> None:
        if not self.specs.api_listen:
            self.console.say(f"api {address}")
        self.specs.api_listen = address.partition("://")[2]

    def orphans_ended(self) -> None:
        """SIGCHLD: adopted processes may have ended; reap them soon."""
        if self._orphans is None:
            self._orphans = self.loop.call_later(ORPHANS_SECONDS, self._reap_orphans)

    def _reap_orphans(self) -> None:
        self._orphans = None
        if not self.children.reap_orphans():
            self.orphans_ended()

    # -- what to do: effects ----------------------------------------------------------------------

    def perform(self, effect: fx.Effect) -> None:
        """Carry out one effect."""
        match effect:
            case Spawn(name=name):
                self._spawn(name)
            case HastenSpawn(name=name):
                self.children.hasten(name)
            case Signal(name=name, pid=pid, signal=which):
                number = signal.SIGTERM if which == "TERM" else signal.SIGKILL
                self.children.signal(name, pid, number)
            case (
                fx.TellLeave()
                | fx.Grant()
                | fx.Deny()
                | fx.TellEndSession()
                | fx.TellPrepare()
                | fx.TellProbe()
            ):
                self.children.send(effect.name, line_to_child(effect))
            case fx.Tune(name=name):
                self._tune(name)
            case fx.CleanTree():
                self._beside(self._clean(effect))
            case fx.Tidy() | fx.CleanUp() | fx.EndCleanUp():
                self._make_room(effect)
            case fx.Reply() | fx.Refuse():
                self._answer(effect)
            case fx.Note(entry=entry):
                self.journal.write(entry)
                self.console.entry(entry)
                self.herald.entry(entry)
            case fx.KeepPause() | fx.DropPause() | fx.EndQuotaWaits():
                self.bookings.add(effect)
            case fx.Settled():
                self._settled(effect)
            case fx.End():
                self.ended.set()
            case _:
                self.children.send(COORDINATOR, line_to_coordinator(effect))

    def _spawn(self, name: str) -> None:
        stderr = str(self.places.logs / "stderr.log")
        if name in self.fleet.services:
            order = Order(name, "service", lambda: self.specs.service(name), stderr)
        else:
            order = Order(name, "daemon", lambda: self.specs.daemon(name), stderr)
        self.children.spawn(order)

    def _tune(self, name: str) -> None:
        if name in (COORDINATOR, CHAT):
            self.children.send(name, self.specs.rules())
            if name == COORDINATOR:
                self.herald.listens()
        elif name in self.fleet.agents:
            self.children.send(name, self.specs.tuning(name))

    def _announce(self, notice: lifeline.Notice) -> bool:
        """Have people told; false while there is no coordinator to do it."""
        if COORDINATOR not in self.children.live:
            return False
        self.children.send(COORDINATOR, notice)
        return True

    async def _clean(self, effect: fx.CleanTree) -> None:
        workspace = self.specs.workspace(effect.name)
        self.post(await clean(effect, self.specs.home_id, workspace, self.specs.cgroups))

    def _make_room(self, effect: fx.Tidy | fx.CleanUp | fx.EndCleanUp) -> None:
        match effect:
            case fx.Tidy():
                self._tidy(effect)
            case fx.CleanUp():
                left = keeping.left_behind(self.fleet, str(self.specs.base), self.specs.home_id)
                self._keeping = keeping.Keeping(
                    self.children,
                    lambda: self.specs.cleaner(left),
                    str(self.places.logs / "stderr.log"),
                    self._cleaned_up,
                )
            case fx.EndCleanUp():
                if self._keeping is not None:
                    self._keeping.end()

    def _tidy(self, effect: fx.Tidy) -> None:
        paths = {self.specs.workspace(name): None for name in effect.names}
        if effect.rest:
            for workspace in owned_workspaces(str(self.specs.base), self.specs.home_id):
                paths[workspace.path] = None
        stay = self._unsaid(list(paths), LAST_PATIENCE_SECONDS if effect.rest else PATIENCE_SECONDS)

        def done(lines: tuple[str, ...]) -> None:
            lines += tuple(stay.values())
            self._tidying = None
            for name in effect.names:
                self.specs.workspaces.pop(name, None)
            for line in lines:
                self.log.write("janitor", text=line)
                self.console.say(line)
            self.post(e.Tidied(effect.names, lines))

        stderr = str(self.places.logs / "stderr.log")
        self._tidying = tidy.Tidying(
            self.children,
            self.specs,
            stderr,
            [path for path in paths if path not in stay],
            lambda entry: self.perform(fx.Note(entry)),
            done,
        )

    def _cleaned_up(self, event: e.CleanedUp, lines: tuple[str, ...]) -> None:
        self._keeping = None
        for line in lines:
            self.log.write("cleaner", text=line)
            self.console.say(f"clean-up: {line}")
        self.post(replace(event, free_disk_mb=self.free_disk_mb()))

    def _unsaid(self, paths: list[str], patience: float) -> dict[str, str]:
        """Take in the reports that lie in the outboxes of these workspaces, which are to go.

        Who should have may be gone already, or hang: the coordinator ends before the workspaces.
        Returns those that have to stay, as theirs is in no ledger yet, and why.  Waits
        ``patience`` seconds for the ledger, once in all.
        """
        stay: dict[str, str] = {}
        for path in paths:
            name = os.path.basename(path)
            try:
                reports = read_outbox(Workspace(path).outbox)
                if reports:
                    self.books.take_in([(name, report) for report in reports], patience)
            except (LedgerError, OSError) as error:
                patience = min(patience, PATIENCE_SECONDS)  # who holds it will hold it still
                stay[path] = f"{path} stays: the report in its outbox is not taken in yet: {error}"
        return stay

    def _answer(self, effect: fx.Reply | fx.Refuse) -> None:
        caller = self.waiting_callers.pop(effect.reply, None)
        if caller is None:
            return
        match effect:
            case fx.Reply(lines=lines, data=data):
                caller.answer(control.Done(data=dict(data), lines=lines))
            case fx.Refuse(error=error, remedy=remedy):
                caller.refuse(error, remedy)

    def _settled(self, effect: fx.Settled) -> None:
        if effect.ok:
            self.console.ready(len(self.fleet.agents))
            return
        remedy = f"see {self.places.logs}"
        self.failed = SwarmError("not ready: " + "; ".join(effect.problems), remedy)
        self.log.write("not_ready", problems=effect.problems)
        self.console.say(f"not ready: {'; '.join(effect.problems)}; stopping")

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something that takes time; it ends by posting its one event."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Nothing happens any more."""
        self.inbox.close()
        self.bookings.close()
        if self._orphans is not None:
            self._orphans.cancel()
        for task in self._tasks:
            task.cancel()


def write_text(path: os.PathLike[str], text: str) -> None:
    """Write a small file whole, for people and scripts to read; a full disk is borne."""
    part = f"{os.fspath(path)}.part"
    try:
        with open(part, "w") as file:
            file.write(text + "\n")
        os.replace(part, path)
    except OSError:
        return  # status says the same
