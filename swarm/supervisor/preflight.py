"""Whether the newly installed program could go on from here, tried in a process of its own.

The running supervisor starts it, hands it the document and reads one line (:func:`try_out`); the
new program, in that process, does all it would have to do but the taking over (:func:`check`).
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace

import msgspec

from swarm import __version__
from swarm.core import fleet_events as e
from swarm.errors import ConfigError, SwarmError
from swarm.sandbox import oom
from swarm.supervisor import handover
from swarm.supervisor.startup import environment_of
from swarm.wire.spawn import FromZygote, ZygoteReady
from swarm.zygote.port import Zygote

CHECK_SECONDS = 30.0
"""How long the new program may take to say whether it could."""
ZYGOTE_SECONDS = 15.0
MAX_SAID = 64 * 1024
"""Bytes kept of what it prints; its last line counts."""

_BOOT = """\
import ctypes, os, runpy, sys
ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
if os.getppid() != int(sys.argv[1]): os._exit(0)
sys.argv[1:] = sys.argv[2:]
runpy.run_module("swarm.supervisor", run_name="__main__", alter_sys=True)
"""
"""Die with the supervisor (prctl(2), PR_SET_PDEATHSIG) before anything of the new program runs."""

_CHILDREN = (
    "swarm.zygote.warm",
    "swarm.chat.service",
    "swarm.coordinator.service",
    "swarm.desk.service",
    "swarm.spawner.janitor",
)
"""What children of the new program are made of."""


class Verdict(msgspec.Struct, omit_defaults=True):
    """The line the check ends with."""

    version: str = ""
    """Of the new program, when it could go on."""
    error: str = ""
    remedy: str = ""


# -- in the new program ---------------------------------------------------------------------------


def check(fd: int) -> int:
    """Do everything but take over; the exit status, after one line on standard output."""
    oom.forgo()  # of the supervisor's protection
    try:
        _head, document = handover.read(handover.load(fd))
        _try_fleet(document)
        _read_configuration(document)
        for name in _CHILDREN:
            importlib.import_module(name)
        tls = (document.specs.chat_url or "").startswith("wss:")
        asyncio.run(_try_zygote(tls))
    except SwarmError as error:
        verdict = Verdict(error=error.what, remedy=error.remedy)
    else:
        verdict = Verdict(version=__version__)
    sys.stdout.buffer.write(msgspec.json.encode(verdict) + b"\n")
    sys.stdout.flush()
    return 1 if verdict.error else 0


def _try_fleet(document: handover.Document) -> None:
    """Rebuild the fleet value and live a moment of it: nothing of the real one is touched."""
    specs = replace(document.specs, environ=environment_of(os.environ))
    fleet = handover.fleet_of(document)
    now = time.monotonic()
    for name in (*fleet.services, *fleet.agents):
        fleet.handle(e.ChildBeat(name), now)
    fleet.handle(e.Tick(), now)
    for name in {agent.role: name for name, agent in fleet.agents.items()}.values():
        specs.tuning(name)
        with suppress(SwarmError):  # a secret that is gone meanwhile is no fault of the program
            specs.daemon(name)
    for name in fleet.services:
        specs.service(name)
    specs.rules()
    fleet.handle(e.StopAsked(), now)
    fleet.handle(e.Tick(), now + 3600)


def _read_configuration(document: handover.Document) -> None:
    """The settings in force go on; but a file this version cannot read is told now, not later."""
    if document.specs.configuration.problems:
        return  # it was bad before, and status says so
    try:
        document.specs.configuration.reread()
    except ConfigError as error:
        what = f"the installed program ({__version__}) cannot use the configuration: "
        raise SwarmError(what + "; ".join(error.problems), error.remedy) from None


async def _try_zygote(tls: bool) -> None:
    ready = asyncio.Event()
    died = asyncio.Event()

    def replied(reply: FromZygote) -> None:
        if isinstance(reply, ZygoteReady):
            ready.set()

    zygote = Zygote.start(tls=tls)
    zygote.attach(asyncio.get_running_loop(), replied, died.set)
    waits = [asyncio.ensure_future(one.wait()) for one in (ready, died)]
    await asyncio.wait(waits, timeout=ZYGOTE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    zygote.close()
    _bury(zygote.pid)
    if not ready.is_set():
        raise SwarmError("its process that forks agents does not come up", "see `agentctl doctor`")


# -- in the running program -----------------------------------------------------------------------


async def try_out(document: bytes, helpers: set[int]) -> str:
    """Let the installed program check the document; its version.

    The process is among ``helpers`` while it runs, so that nobody else reaps it.  Raises
    :class:`~swarm.errors.SwarmError` with why it cannot take over.
    """
    try:
        memory = handover.memory_file(document)
        try:
            reader, pid = _start(memory)
        finally:
            os.close(memory)
    except OSError as error:
        raise SwarmError(
            f"the installed program cannot be tried: {error.strerror}", f"check {sys.executable}"
        ) from None
    helpers.add(pid)
    said = bytearray()
    try:
        status = await _wait(pid, reader, said)
    finally:
        os.close(reader)
        helpers.discard(pid)
    return _judge(status, bytes(said))


def _start(memory: int) -> tuple[int, int]:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reader, False)
    argv = [sys.executable, "-P", "-c", _BOOT, str(os.getpid()), "--check-handover", str(memory)]
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, writer, 1),
        (os.POSIX_SPAWN_DUP2, writer, 2),
    ]
    os.set_inheritable(memory, True)
    try:
        pid = os.posix_spawn(
            sys.executable, argv, os.environ, file_actions=actions, setsid=True, setsigmask=()
        )
    except OSError:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    return reader, pid


async def _wait(pid: int, reader: int, said: bytearray) -> int | None:
    """Collect what it prints until it ends; its exit status, ``None`` when it took too long."""
    loop = asyncio.get_running_loop()
    gone: asyncio.Future[None] = loop.create_future()
    pidfd = -1

    def ended() -> None:
        loop.remove_reader(pidfd)
        gone.set_result(None)

    def readable() -> None:
        if not _collect(reader, said):
            loop.remove_reader(reader)

    try:
        pidfd = os.pidfd_open(pid)
        loop.add_reader(pidfd, ended)
        loop.add_reader(reader, readable)
        async with asyncio.timeout(CHECK_SECONDS):
            await gone
        while _collect(reader, said):
            pass
    except TimeoutError:
        return None
    finally:
        loop.remove_reader(reader)
        if pidfd >= 0:
            loop.remove_reader(pidfd)
            os.close(pidfd)
        status = _bury(pid)
    return status


def _bury(pid: int) -> int:
    """End and reap our own child, if it has not ended; its exit status."""
    os.kill(pid, signal.SIGKILL)
    _, wait_status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(wait_status)


def _collect(reader: int, said: bytearray) -> bool:
    """Read what there is; whether there may be more."""
    try:
        data = os.read(reader, MAX_SAID)
    except BlockingIOError:
        return False
    said += data
    del said[:-MAX_SAID]
    return bool(data)


def _judge(status: int | None, said: bytes) -> str:
    if status is None:
        raise SwarmError(
            f"the installed program has not said within {CHECK_SECONDS:g} s whether it can go on",
            "try again when the machine is less busy",
        )
    lines = said.decode(errors="replace").split("\n")
    last = next((" ".join(line.split()) for line in reversed(lines) if line.strip()), "")
    try:
        verdict = msgspec.json.decode(last, type=Verdict)
    except msgspec.MsgspecError:
        verdict = Verdict()
    if verdict.error:
        raise SwarmError(verdict.error, verdict.remedy)
    if status != 0 or not verdict.version:
        how = f"signal {-status}" if status < 0 else f"exit {status}"
        raise SwarmError(
            f"the installed program does not start ({how}): {last[:300] or 'it says nothing'}",
            "mend the installation, and upgrade again",
        )
    return verdict.version
