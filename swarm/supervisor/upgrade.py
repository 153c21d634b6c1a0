"""``agentctl swarm upgrade``: the newly installed program is executed in this very process.

Pid, children, lifelines, control socket and lock stay; what this program knows goes along in a
:class:`~swarm.supervisor.handover.Document`.  The new one is tried first
(:mod:`~swarm.supervisor.preflight`); whatever fails before the exec, or the exec itself, leaves
this one as it was.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from swarm import __version__
from swarm.core import fleet_effects as fx
from swarm.core import journal as j
from swarm.errors import SwarmError
from swarm.supervisor import handover, signals
from swarm.supervisor.control import Caller, ControlServer
from swarm.supervisor.preflight import try_out
from swarm.supervisor.shell import Shell
from swarm.wire import control

QUIET_SECONDS = 10.0
"""How long forks, cleaning and the janitor may take to come to an end before the exec."""
TRIES = 20
"""How often the new program is executed while it does not get as far as taking over."""
HELD_BACK = signals.HELD_BACK | {signal.SIGCHLD}
"""Blocked over the exec: what comes stays pending until the new program can take it."""

_BOOT = """\
# python -m swarm.supervisor, upgraded
import os, sys, time, traceback
fd, tries = sys.argv[1:3]
sys.argv[1:] = ["--resume-fd", fd]
code = 70
try:
    from swarm.supervisor.main import main
    code = main()
except SystemExit as leaving:
    code = leaving.code
except BaseException as error:
    if int(tries):
        print("agentctl: not taken over yet:", repr(error), file=sys.stderr)
    else:
        traceback.print_exc()
try:
    held = os.readlink("/proc/self/fd/" + fd).startswith("/memfd:agentctl-handover")
except OSError:
    held = False
if held and int(tries):
    time.sleep(0.5)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:-1], str(int(tries) - 1)])
if held:
    print("agentctl: the upgraded supervisor does not start, so the swarm ends; "
          "'agentctl swarm up' goes on with its tasks", file=sys.stderr)
raise SystemExit(code)
"""
"""Starts the new program, and again while it fails before it has taken over: an installation may
be half done at this instant.  It needs nothing of the package, and knows that the takeover is done
when the document is closed."""


@dataclass(slots=True)
class Upgrade:
    """One supervisor's readiness to be followed by another."""

    shell: Shell
    server: ControlServer
    token: str
    started_at: float
    lock: int
    stderr: int
    generation: int
    _task: asyncio.Task[None] | None = field(default=None, init=False)

    def asked(self, caller: Caller) -> None:
        """Upgrade, and answer ``caller``: from the new program, or with why there is none."""
        if self._task is not None:
            caller.refuse("an upgrade is under way already", "wait for it")
            return
        self._task = self.shell.loop.create_task(self._upgrade(caller))

    def close(self) -> None:
        """The supervisor ends."""
        if self._task is not None:
            self._task.cancel()

    async def _upgrade(self, caller: Caller) -> None:
        try:
            await self._quiet(self.shell.loop.time() + QUIET_SECONDS)
            caller.answer(control.Progress(text="trying the installed program"))
            document = handover.write(self.document(), self.generation)
            version = await try_out(document, self.shell.children.helpers)
            await self._hand_over(caller, version)
        except SwarmError as error:
            self.shell.perform(fx.Note(j.UpgradeRefused(str(error))))
            caller.refuse(error.what, error.remedy)
        except asyncio.CancelledError:
            caller.refuse("the swarm is stopping")
            raise
        except Exception as error:  # noqa: BLE001 - a defect of ours must not leave them waiting
            self.shell.log.write("defect", message="upgrade", error=repr(error))
            sys.excepthook(type(error), error, error.__traceback__)
            caller.refuse(f"the upgrade failed: {error}", "see the logs; nothing has changed")
        finally:
            self._task = None

    async def _hand_over(self, caller: Caller, version: str) -> None:
        """Wait for a quiet instant and leave; returns never, or raises."""
        end = self.shell.loop.time() + QUIET_SECONDS
        while True:
            await self._quiet(end)
            signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
            try:
                for _ in range(3):  # a signal caught before is an event two turns of the loop on
                    await asyncio.sleep(0)
                if not self._busy():
                    self._execute(self.document(caller, version))
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)

    async def _quiet(self, end: float) -> None:
        """Wait until nothing is under way that only this program could bring to its end.

        Raises :class:`~swarm.errors.SwarmError` when that is not so by ``end``, or never comes.
        """
        while busy := self._busy():
            if self.shell.loop.time() > end:
                raise SwarmError(
                    f"{busy}, and that has not ended within {QUIET_SECONDS:g} s", "try again later"
                )
            await asyncio.sleep(0.01)

    def _busy(self) -> str:
        """What must end first; raises :class:`~swarm.errors.SwarmError` for a start or a stop."""
        fleet = self.shell.fleet
        if fleet.stop is not None or fleet.ended:
            raise SwarmError("the swarm is stopping", "start one with `agentctl swarm up`")
        if fleet.starting or not fleet.started_daemons:
            raise SwarmError("the swarm is starting", "upgrade when it is ready")
        return self.shell.in_flight

    # -- leaving ----------------------------------------------------------------------------------

    def document(self, caller: Caller | None = None, version: str = "") -> handover.Document:
        """What is handed over now; ``caller`` hears from the new program that it was."""
        shell = self.shell
        done = self._done(version)
        held = [one.held(done if one is caller else None) for one in self.server.callers]
        waiting = {one: number for number, one in shell.waiting_callers.items() if one.open}
        return handover.Document(
            started_at=self.started_at,
            token=self.token,
            specs=handover.copied(shell.specs),
            fleet=handover.attributes_of(shell.fleet),
            timers=shell.fleet.timers.all(),
            children=shell.children.left(),
            callers=tuple(held),
            replies={number: one.fd for one, number in waiting.items()},
            last_reply=shell.last_reply,
            console=shell.console.heard,
            listening=self.server.fd,
            lock=self.lock,
            stderr=self.stderr,
        )

    def _done(self, version: str) -> control.Done:
        fleet = self.shell.fleet
        agents = sum(agent.life.pid is not None for agent in fleet.agents.values())
        data = {
            "generation": self.generation + 1,
            "before": __version__,
            "after": version,
            "pid": os.getpid(),
            "agents": agents,
            "sessions": fleet.active,
        }
        return control.Done(data=data)

    def _execute(self, document: handover.Document) -> NoReturn:
        """Become the new program.  Raises :class:`~swarm.errors.SwarmError`; all is as before."""
        data = handover.write(document, self.generation)
        inherited = document.descriptors
        memory = -1
        try:
            memory = handover.memory_file(data)
            inherited.append(memory)
            for fd in inherited:
                os.set_inheritable(fd, True)
            argv = [sys.executable, "-P", "-c", _BOOT, str(memory), str(TRIES)]
            os.execve(sys.executable, argv, self._environment())  # noqa: S606 - ourselves, no shell
        except OSError as error:
            for fd in inherited:
                os.set_inheritable(fd, False)
            if memory >= 0:
                os.close(memory)
            raise SwarmError(
                f"{sys.executable} cannot be executed: {error.strerror}",
                "mend the installation, and upgrade again",
            ) from None

    def _environment(self) -> Mapping[str, str]:
        """Ours, with what the service manager told us alone."""
        return {**os.environ, **self.shell.console.manager.variables}
