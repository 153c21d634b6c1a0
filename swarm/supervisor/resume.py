"""Going on in the place of an earlier program: the other half of an upgrade.

Until :meth:`Resumed.adopt` is through, nothing is changed and every inherited descriptor stays
open, so that the program can be executed once more; from then on the swarm is this program's.
"""

from __future__ import annotations

import os
import signal
import socket

from swarm import __version__
from swarm.core import fleet_effects as fx
from swarm.core import journal as j
from swarm.core.fleet_events import Tick
from swarm.supervisor import handover
from swarm.supervisor.control import Caller, ControlServer
from swarm.supervisor.shell import Shell
from swarm.supervisor.upgrade import HELD_BACK


class Resumed:
    """What an earlier program left, on its way into this one's hands."""

    def __init__(self, memory: int) -> None:
        """Read the document in descriptor ``memory``.

        Raises :class:`~swarm.errors.SwarmError` when this program cannot go on from it.
        """
        self._memory = memory
        self.head, self.document = handover.read(handover.load(memory))
        self._sockets: list[socket.socket] = []
        self._callers: list[Caller] = []

    @property
    def generation(self) -> int:
        """The number of this program among those that ran the swarm."""
        return self.head.generation + 1

    @property
    def listening(self) -> socket.socket:
        """The control socket."""
        return self._socket(self.document.listening)

    def adopt(self, shell: Shell, server: ControlServer) -> None:
        """Take everything over; whatever fails, nothing has been lost by it."""
        document = self.document
        try:
            for child in document.children:
                shell.children.adopt(child, self._socket(child.fd))
            clients = {}
            for held in document.callers:
                clients[held.fd] = server.adopt(self._socket(held.fd), held)
            shell.last_reply = document.last_reply
            shell.waiting_callers.update(
                {number: clients[fd] for number, fd in document.replies.items() if fd in clients}
            )
            self._callers = list(clients.values())
        except BaseException:
            self.give_back()
            raise
        for fd in document.descriptors:
            os.set_inheritable(fd, False)
        os.close(self._memory)  # the takeover is done: nobody starts anew from the document

    def give_back(self) -> None:
        """Leave every inherited descriptor open: this program did not come to own it."""
        for one in self._sockets:
            one.detach()

    def begin(self, shell: Shell) -> None:
        """Go on exactly where the other stopped."""
        shell.perform(fx.Note(j.Upgraded(self.head.version, __version__, self.generation)))
        shell.children.start()
        shell.children.listen()
        shell.respawn()
        for caller in self._callers:
            caller.go_on()
        shell.console.manager.ready()
        shell.post(Tick())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)

    def _socket(self, fd: int) -> socket.socket:
        made = socket.socket(fileno=fd)
        self._sockets.append(made)
        return made
