"""Where a forked daemon begins: from its spec to its loop."""

from __future__ import annotations

import os
import time
from _socket import AF_INET, AF_INET6, SOCK_STREAM
from _socket import socket as small_socket  # without the socket module's enumerations
from contextlib import suppress
from dataclasses import replace

import msgspec

from swarm.daemon import machine, memory, outbox
from swarm.daemon.chore import Chore
from swarm.daemon.cloning import confinement_of, make_clone
from swarm.daemon.doze import Arrival, Doze, Settled
from swarm.daemon.launching import Means, can_confine
from swarm.daemon.line import Lifeline
from swarm.daemon.link import ChatLink
from swarm.daemon.loop import Loop
from swarm.daemon.performer import Performer
from swarm.daemon.signer import Signer
from swarm.daemon.signin import Joined, jitter, numeric_family, sign_in
from swarm.daemon.state import Daemon, Idle, MakeClone, Me, Told
from swarm.errors import ChatError, SwarmError
from swarm.logs import JsonLog
from swarm.sessions import claude, codex, command, opencode, scripted_adapter
from swarm.sessions.registry import adapter
from swarm.spawner.clone import clone_record, is_warm
from swarm.spawner.identity import load_or_create
from swarm.spawner.workspace import Brief, Workspace, make_workspace, verify_workspace
from swarm.wire.address import read_address
from swarm.wire.lifeline import CannotStart, Hello, Prepare, Tuning
from swarm.wire.spawn import DaemonSpec

ADAPTER_MODULES = (claude, codex, command, opencode, scripted_adapter)
"""Imported here, before the zygote forks: their pages are then shared by every daemon."""

CANNOT_START = 1
"""Exit status of a daemon that said why it cannot start."""


class Birth(msgspec.Struct, frozen=True):
    """What of a :class:`~swarm.wire.spawn.DaemonSpec` a dozing daemon needs; read leaves the rest.

    Every object made after the fork costs the daemon memory of its own: the rest is decoded by
    helpers, which are gone soon, and by the daemon when it wakes.
    """

    name: str
    chat_url: str
    heartbeat_seconds: float
    coordinators: tuple[str, ...]


_spec = msgspec.json.Decoder(DaemonSpec)
_birth = msgspec.json.Decoder(Birth)


def main(fd: int, spec: bytes) -> int:
    """Be the daemon of ``spec`` (JSON of :class:`~swarm.wire.spawn.DaemonSpec`) on lifeline ``fd``.

    Returns the exit status: 0 when it was asked to leave or its supervisor is gone.
    """
    line = Lifeline(fd)
    try:
        return _live(line, spec)
    except (SwarmError, OSError) as error:
        line.send(CannotStart(error=str(error)))
        return CANNOT_START
    finally:
        line.close()


def _live(line: Lifeline, spec: bytes) -> int:
    birth = _birth.decode(spec)
    line.send(Hello(name=birth.name, pid=os.getpid()))
    tuning = Tuning(heartbeat_seconds=birth.heartbeat_seconds, coordinators=birth.coordinators)
    doze = Doze(line, tuning, Helpers(spec, "[" in birth.chat_url))
    return _wake(line, _spec.decode(spec), doze) if doze.run() else 0


class Helpers:
    """The helper processes of a dozing daemon."""

    __slots__ = ("_raw", "_sixth")

    def __init__(self, spec: bytes, sixth: bool) -> None:
        self._raw = spec
        self._sixth = sixth
        """Whether the chat server's address is one of IP version 6."""

    def arrive(self) -> tuple[int, Chore]:
        """Settle in and join: by one helper, as each costs the daemon pages of its own."""
        raw, pid = self._raw, os.getpid()
        fd = self._socket()
        return fd, Chore(lambda: _arrive(_spec.decode(raw), pid, fd), fd)

    def join(self) -> tuple[int, Chore]:
        """Join again."""
        raw, fd = self._raw, self._socket()
        return fd, Chore(lambda: msgspec.json.encode(_join(_spec.decode(raw), fd)), fd)

    def clone(self, wanted: Prepare) -> Chore:
        """Make a clone."""
        raw = self._raw

        def make() -> bytes:
            spec = _spec.decode(raw)
            workspace = Workspace(spec.workspace)
            inside = confinement_of(workspace, can_confine(spec))
            return make_clone(workspace, MakeClone(wanted.hub, wanted.clone), inside)

        return Chore(make)

    def _socket(self) -> int:
        """An unconnected one; the helper finds out whether it fits the address."""
        fd = small_socket(AF_INET6 if self._sixth else AF_INET, SOCK_STREAM).detach()
        os.set_inheritable(fd, False)
        return fd


def _arrive(spec: DaemonSpec, pid: int, fd: int) -> bytes:
    """In a helper: all a daemon has to find out before it can doze; :class:`Arrival` as JSON.

    Raises :class:`~swarm.errors.SwarmError` when it cannot live at all.
    """
    address = read_address(spec.chat_url)
    found = _settle_in(spec, pid)
    joined = None
    if found.current is None and not found.unsettled and not address.secure:
        with suppress(SwarmError):  # the loop tries again, and tells
            joined = _join(spec, fd)
    return msgspec.json.encode(Arrival(found, joined))


def _join(spec: DaemonSpec, fd: int) -> Joined:
    """In a helper.  Raises :class:`~swarm.errors.SwarmError`."""
    address = read_address(spec.chat_url)
    if not numeric_family(address.host):
        raise ChatError(f"{address.host} is a name, to be looked up")
    return sign_in(fd, address, spec.channel, Workspace(spec.workspace).identity, spec.badge)


def _wake(line: Lifeline, spec: DaemonSpec, doze: Doze) -> int:
    """The whole daemon, from its doze to its end; returns the exit status."""
    found = doze.found
    assert found is not None, "nothing wakes a daemon that has not settled in"
    means = Means(spec, Workspace(spec.workspace), found.sandboxed)
    performer: Performer
    link = ChatLink(
        spec.chat_url,
        spec.channel,
        Signer(spec.name, found.me.agent_id, found.public_pem, means.workspace.identity),
        lookup=lambda host, port: performer.look_up(host, port),
        jitter=jitter,
        badge=spec.badge,
    )
    loop = Loop(line, link, _woken(doze, found, time.monotonic()), time.monotonic)
    performer = Performer(loop, means, JsonLog(_log_of(spec)))
    loop.perform = performer.perform
    if found.current is not None:
        performer.recover(found.current)
    if doze.cloning is not None:
        performer.adopt_clone(*doze.cloning)
    loop.post(*(Told(one) for one in doze.told))
    _hand_over(loop, doze)
    code = loop.run()
    JsonLog(_log_of(spec)).write("left", status=code)
    return code


def _woken(doze: Doze, found: Settled, now: float) -> Daemon:
    """The machine's daemon, as far as it had come while it dozed."""
    daemon = machine.begin(
        found.me,
        doze.tuning,
        fences=found.fences,
        unsettled=found.unsettled,
        hub=doze.hub,
        recovering=found.current is not None,
        now=now,
    )
    daemon = replace(
        daemon,
        beats=doze.beats,
        beat_at=doze.beat_at,
        cloning=doze.cloning[0].hub if doze.cloning is not None else "",
        wanted=doze.wanted,
    )
    if not doze.greeted:
        return daemon
    joined = doze.joined is not None
    return replace(daemon, phase=Idle(now), greeted=True, joined=joined, held=doze.held)


def _hand_over(loop: Loop, doze: Doze) -> None:
    """The chat connection goes to the link, or the link begins one."""
    if doze.joined is not None:
        loop.post_chat(loop.link.adopt(doze.chat, doze.joined, doze.pending))
        return
    if doze.signing is not None:
        doze.signing.abandon()
        os.close(doze.chat)
    if doze.greeted and doze.retry_at is not None:
        loop.link.resume(doze.failures, doze.retry_at)
    else:
        loop.post_chat(loop.link.connect(time.monotonic()))


def _settle_in(spec: DaemonSpec, pid: int) -> Settled:
    """The agent's workspace and identity, made when they are not there, and what lies in it."""
    adapter(spec.runtime.adapter)  # an unknown one is told now
    base, name = os.path.split(spec.workspace)
    brief = Brief(spec.role, spec.role_prompt, spec.channel)
    place = Workspace(spec.workspace)
    broken = verify_workspace(place, spec.home_id) if os.path.lexists(spec.workspace) else ()
    workspace = make_workspace(base, name, spec.home_id, brief)
    identity = load_or_create(workspace.identity, spec.name)
    means = Means(spec, workspace, can_confine(spec))
    record = clone_record(workspace)
    unsettled, problem = outbox.recover(workspace.outbox)
    log = JsonLog(_log_of(spec))
    if broken:
        log.write("mended", problems=broken)
    log.write("born", pid=pid, agent_id=identity.agent_id)
    return Settled(
        me=Me(spec.name, identity.agent_id, spec.role, spec.takes, means.refuses),
        public_pem=identity.public_pem,
        sandboxed=means.sandboxed,
        fences=memory.load_fences(workspace),
        unsettled=unsettled,
        hub=record[0] if record is not None and is_warm(workspace, *record) else "",
        current=memory.load_current(workspace),
        trouble="; ".join(part for part in (means.trouble, problem) if part),
    )


def _log_of(spec: DaemonSpec) -> str:
    return f"{spec.home}/logs/agents/{spec.name}.log"
