"""The zygote: one lean interpreter with everything a daemon needs imported, which forks.

It reads one :class:`~swarm.wire.spawn.Fork` a packet from the supervisor, forks twice so that
the grandchild is re-parented to the supervisor (its subreaper), and answers with its pid.  It
never imports ``threading``, ``logging`` or ``asyncio``: a fork of a threaded process is unsafe,
and every imported page is paid again by a child that touches it (architecture, "Processes").
"""

from __future__ import annotations

import array
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import NoReturn

import msgspec

from swarm.sandbox import oom
from swarm.wire.spawn import Fork, Forked, ForkFailed, ServiceSpec, ZygoteReady
from swarm.zygote.process import die_with_parent, set_process_name

MAX_PACKET = 192 * 1024
"""Bytes of one request; a unix packet must fit the socket's default buffer of 208 KiB."""
LIFELINE_FD = 3
"""Where a child finds its lifeline."""
CRASHED = 70
"""Exit status of a child whose main raised: EX_SOFTWARE of sysexits.h."""


def main(fd: int, supervisor: int, *, tls: bool) -> int:
    """Serve fork requests on packet socket ``fd`` until ``supervisor`` (a pid) is gone."""
    set_process_name("agentctl-zygote")
    oom.forgo()  # of the supervisor's protection
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(supervisor)
    _preload(tls=tls)
    line = socket.socket(fileno=fd)
    try:
        line.send(msgspec.json.encode(ZygoteReady(pid=os.getpid())))
    except BrokenPipeError:
        return 0  # the supervisor died while we were getting ready
    while True:
        packet, fds = _receive(line)
        if not packet:
            return 0
        request = msgspec.json.decode(packet, type=Fork)
        try:
            line.send(msgspec.json.encode(_fork(request, fds[0], supervisor)))
        except BrokenPipeError:
            return 0  # its lifeline tells the child, too, that the supervisor is gone
        os.close(fds[0])


def _preload(*, tls: bool) -> None:
    """Import and exercise what every daemon uses, so that its pages are shared, not copied."""
    from swarm.zygote.warm import warm_up  # imported once the process is set up

    if tls:
        import ssl  # noqa: F401 - only a fleet on wss:// pays for it
    warm_up()
    # What a child imports later it may import on a full disk, where Python would leave half a
    # .pyc behind, and nobody could import that any more.
    sys.dont_write_bytecode = True
    gc.collect()
    gc.freeze()


def _receive(line: socket.socket) -> tuple[bytes, list[int]]:
    fds = array.array("i")
    packet, ancillary, _flags, _address = line.recvmsg(MAX_PACKET, socket.CMSG_LEN(fds.itemsize))
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return packet, list(fds)


def _fork(request: Fork, lifeline: int, supervisor: int) -> Forked | ForkFailed:
    """Fork twice; the middle process tells the grandchild's pid and exits at once."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        middle = os.fork()
    except OSError as error:
        os.close(reading)
        os.close(writing)
        return ForkFailed(id=request.id, error=os.strerror(error.errno or 0))
    if middle == 0:
        _middle(request, lifeline, supervisor, writing)
    os.close(writing)
    try:
        answer = os.read(reading, 32)
    finally:
        os.close(reading)
        os.waitpid(middle, 0)
    pid = int(answer or b"-1")
    if pid <= 0:
        return ForkFailed(id=request.id, error=os.strerror(-pid) if pid < -1 else "fork failed")
    return Forked(id=request.id, pid=pid)


def _middle(request: Fork, lifeline: int, supervisor: int, writing: int) -> NoReturn:
    own = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        os.write(writing, str(-(error.errno or 1)).encode())
        os._exit(1)
    if pid:
        os.write(writing, str(pid).encode())
        os._exit(0)
    while os.getppid() == own:
        os.sched_yield()  # re-parented when the middle process is gone, microseconds from now
    _become(request, lifeline, supervisor)


def _become(request: Fork, lifeline: int, supervisor: int) -> NoReturn:
    """Be the child: nothing of the zygote's or a sibling's stays open."""
    code = CRASHED
    try:
        die_with_parent(supervisor)
        os.setsid()
        _wire_up(request.log, lifeline)
        code = _entry(request)(LIFELINE_FD, bytes(request.spec))
        sys.stdout.flush()
        sys.stderr.flush()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else CRASHED
    except BaseException:  # noqa: BLE001 - the last frame of a process: say why, then end
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _wire_up(log: str, lifeline: int) -> None:
    """Descriptors 0–2 on /dev/null and the log, 3 the lifeline, the rest closed."""
    target = log or os.devnull
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    # The lifeline first moves out of the way, as it may itself be one of 0–3.
    high = os.dup(lifeline) if lifeline <= LIFELINE_FD else lifeline
    os.dup2(high, LIFELINE_FD, inheritable=False)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        out = os.open(target, flags, 0o600)
    except OSError:
        out = null  # a full disk must not stop a daemon from starting
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.closerange(LIFELINE_FD + 1, os.sysconf("SC_OPEN_MAX"))


def _entry(request: Fork) -> Callable[[int, bytes], int]:
    """The ``main`` of what is asked for; imported here when only a service needs it."""
    match request.kind:
        case "daemon":
            from swarm.daemon.main import main as daemon

            return daemon
        case "janitor":
            from swarm.spawner.janitor import main as janitor

            return janitor
        case "cleaner":
            from swarm.desk.cleaner import main as cleaner

            return cleaner
        case "service":
            name = msgspec.json.decode(bytes(request.spec), type=ServiceSpec).name
            set_process_name(f"agentctl-{name}")
            if name == "chat":
                from swarm.chat.service import main as chat

                return chat
            if name == "coordinator":
                from swarm.coordinator.service import main as coordinator

                return coordinator
            if name == "api":
                from swarm.desk.service import main as api

                return api
            raise ValueError(f"no service is called {name!r}")
        case other:
            raise ValueError(f"nothing of kind {other!r} can be forked")
