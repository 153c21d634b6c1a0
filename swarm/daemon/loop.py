"""The daemon's one loop: lifeline, chat socket, session pipes and helper processes, on ``poll(2)``.

No asyncio and no threads: an idle daemon is one process that sleeps in one system call
(architecture, "Processes").  What happens becomes an event; the machine decides; the
:class:`~swarm.daemon.performer.Performer` carries out.
"""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Callable

from swarm.daemon import claims, machine
from swarm.daemon.line import Lifeline
from swarm.daemon.link import ChatLink, LinkEvent
from swarm.daemon.state import (
    Claiming,
    Daemon,
    Effect,
    Event,
    Exit,
    Heard,
    LifelineLost,
    Note,
    Tick,
    Told,
)
from swarm.errors import WireError
from swarm.wire import lifeline, work
from swarm.wire.agentchat.session import Said

Clock = Callable[[], float]


class Loop:
    """One daemon's loop.  ``clock`` is monotonic; ``perform`` carries an effect out."""

    def __init__(self, line: Lifeline, link: ChatLink, daemon: Daemon, clock: Clock) -> None:
        self.line = line
        self.link = link
        self.daemon = daemon
        self.clock = clock
        self.perform: Callable[[Effect], None] = lambda _effect: None
        self._watched: dict[int, Callable[[], None]] = {}
        self._events: deque[Event] = deque()
        self._code: int | None = None

    def watch(self, fd: int, ready: Callable[[], None]) -> None:
        """Call ``ready`` whenever ``fd`` is readable or at its end."""
        self._watched[fd] = ready

    def unwatch(self, fd: int) -> None:
        """No more; before ``fd`` is closed, as its number is given away again."""
        self._watched.pop(fd, None)

    def post(self, *events: Event) -> None:
        """Events for the machine, in order."""
        self._events.extend(events)

    def post_chat(self, events: list[LinkEvent]) -> None:
        """What the link brought; talk that cannot matter is dropped before it is decoded."""
        for event in events:
            if not isinstance(event, Said):
                self._events.append(event)
                continue
            if event.sender not in self.daemon.tuning.coordinators:
                continue
            if not claims.worth_reading(event.content, self.daemon):
                continue
            try:
                message = work.decode(event.content)
            except WireError:
                continue  # a coordinator's mistake is no order
            if message is not None:
                self._events.append(Heard(event.sender, message, event.replay))
                self._settle()  # what is worth reading next depends on what this one changed

    def run(self) -> int:
        """Until the machine says exit; returns the exit status."""
        while True:
            self._settle()
            if self._code is not None:
                return self._code
            self._wait()

    # -- inside ------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Decide and perform until nothing is left to decide."""
        while self._events and self._code is None:
            event = self._events.popleft()
            self.daemon, effects = machine.step(self.daemon, event, self.clock())
            for effect in effects:
                if isinstance(effect, Exit):
                    self._code = effect.code
                self.perform(effect)
        if not isinstance(self.daemon.phase, Claiming):
            self.link.forget("claim")

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self.line.fileno, self.line.interest)
        link = self.link.fileno
        if link >= 0:
            poll.register(link, self.link.interest)
        for fd in self._watched:
            poll.register(fd, select.POLLIN)
        for fd, mask in poll.poll(self._timeout()):
            if fd == self.line.fileno:
                self._lifeline(mask)
            elif fd == link:
                if self.link.fileno == link:
                    self.post_chat(self.link.ready(mask, self.clock()))
            elif (ready := self._watched.get(fd)) is not None:
                ready()
            self._settle()
        self._tick()

    def _timeout(self) -> float | None:
        """Milliseconds until something is due, rounded up: a poll too short would spin."""
        times = (machine.deadline(self.daemon), self.link.deadline())
        due = min((at for at in times if at is not None), default=None)
        return None if due is None else max(0.0, (due - self.clock()) * 1000 + 0.5)

    def _tick(self) -> None:
        now = self.clock()
        at = self.link.deadline()
        if at is not None and now >= at:
            self.post_chat(self.link.tick(now))
        at = machine.deadline(self.daemon)
        if at is not None and now >= at:
            self.post(Tick())

    def _lifeline(self, mask: int) -> None:
        if mask & select.POLLOUT:
            self.line.flush()
        if mask & ~select.POLLOUT:
            for raw in self.line.receive():
                try:
                    self.post(Told(lifeline.from_parent(raw)))
                except WireError as error:
                    self.perform_note("unexpected", str(error))
        if self.line.lost:
            self.post(LifelineLost())

    def perform_note(self, kind: str, text: str) -> None:
        """One entry of the daemon's log."""
        self.perform(Note(kind, text))
