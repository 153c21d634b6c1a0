"""What a running supervisor leaves to the program that is executed in its place.

One JSON document in a memory file: a head that any version can read, and a body that
:mod:`~swarm.supervisor.handover_codec` writes class by class.  It holds what the process knows;
what it *has* (children, lifelines, the control socket, the lock) survives the exec by itself, and
the document only names the descriptors.  See ``docs/adr/018``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields

import msgspec

import swarm.core
from swarm import __version__
from swarm.config import places, settings
from swarm.core.fleet import Fleet
from swarm.core.fleet_timers import Key
from swarm.errors import BadMessage, SwarmError
from swarm.supervisor import channel, children, configuration, console, control, specs
from swarm.supervisor.handover_codec import Codec, classes_of
from swarm.wire import lifeline, spawn

FORMAT = 1
"""Of the document: another one is refused, whatever else it says."""
MEMORY_FILE = "agentctl-handover"
REMEDY = "let the running one finish: `agentctl swarm stop --drain`, then `agentctl swarm up`"

_DERIVED = frozenset({"settings", "timers", "effects"})
"""What is not copied attribute by attribute: see :func:`fleet_of`."""


@dataclass(frozen=True, slots=True)
class Document:
    """One supervisor between two events: nothing is being forked, cleaned up or removed."""

    started_at: float
    """Unix seconds at which the swarm came up."""
    token: str
    specs: specs.Specs
    """Without the environment, which the exec hands over."""
    fleet: dict[str, object]
    """The attributes of the fleet value."""
    timers: dict[Key, float]
    children: tuple[children.Left, ...]
    callers: tuple[control.Held, ...]
    replies: dict[int, int]
    """Reply number → descriptor of the client that waits for it."""
    last_reply: int
    console: console.Heard
    listening: int
    """Descriptors: the control socket, the lock on ``swarm.pid``, the children's standard error."""
    lock: int
    stderr: int

    @property
    def descriptors(self) -> list[int]:
        """All that must survive the exec."""
        own = [self.listening, self.lock, self.stderr]
        lifelines = [child.fd for child in self.children]
        return own + lifelines + [caller.fd for caller in self.callers]


class Head(msgspec.Struct, frozen=True):
    """What every version of the document begins with."""

    format: int
    lifeline: int
    """Version that the living children speak."""
    version: str
    """Of the program that wrote it."""
    generation: int
    """1 for the program that ``up`` started, one more with each upgrade."""


class _Envelope(Head, frozen=True):
    body: msgspec.Raw


# Made when the program starts: after a new installation its modules are no longer ours to import.
_MODULES = (
    swarm.core, lifeline, spawn, settings, places,
    configuration, specs, channel, children, control, console,
)  # fmt: skip
_CODEC = Codec([*classes_of(*_MODULES), Document])


def write(document: Document, generation: int) -> bytes:
    """The document of this program, ``generation``.

    Raises ``TypeError`` for a value that no program could read again: a defect.
    """
    body = msgspec.json.encode(_CODEC.encode(document))
    head = (FORMAT, lifeline.VERSION, __version__, generation)
    return msgspec.json.encode(_Envelope(*head, msgspec.Raw(body)))


def read(data: bytes) -> tuple[Head, Document]:
    """What :func:`write` wrote, here or in another version of the program.

    Raises :class:`~swarm.errors.SwarmError` when this program cannot go on from it.
    """
    try:
        head = msgspec.json.decode(data, type=Head)
        if head.format != FORMAT:
            raise SwarmError(
                f"the running swarm hands over in format {head.format}, the installed program "
                f"({__version__}) reads {FORMAT}",
                REMEDY,
            )
        if head.lifeline != lifeline.VERSION:
            raise SwarmError(
                f"the running agents speak version {head.lifeline} of the lifeline, the installed "
                f"program ({__version__}) {lifeline.VERSION}",
                REMEDY,
            )
        body = msgspec.json.decode(data, type=_Envelope).body
        document = _CODEC.decode(msgspec.json.decode(body))
    except (msgspec.MsgspecError, RecursionError, BadMessage) as error:
        raise SwarmError(
            f"the installed program ({__version__}) cannot read what the running one hands over: "
            f"{error}",
            REMEDY,
        ) from None
    if not isinstance(document, Document):
        raise SwarmError("what the running program hands over is no swarm", REMEDY)
    return head, document


def attributes_of(fleet: Fleet) -> dict[str, object]:
    """The fleet value, attribute by attribute."""
    return {name: one for name, one in vars(fleet).items() if name not in _DERIVED}


def fleet_of(document: Document) -> Fleet:
    """The fleet value again.

    Settings come from the configuration in force, so that numbers this version added have their
    configured value; attributes it added keep their first value; what only the other version
    knew is left out.  Times need no change: the monotonic clock goes on over an exec.
    """
    known = document.fleet
    fleet = Fleet(
        document.specs.configuration.fleet(),
        services=(),
        wanted={},
        coordinator_id=document.specs.coordinator_id,
    )
    own = vars(fleet).keys() - _DERIVED
    for name in own & known.keys():
        setattr(fleet, name, known[name])
    for key, at in document.timers.items():
        fleet.timers.set(key, at)
    if own - known.keys():
        fleet.rebook()
    return fleet


def copied(one: specs.Specs) -> specs.Specs:
    """The specs for a document: the environment may hold secrets, and is handed over anyway."""
    values = {field.name: getattr(one, field.name) for field in fields(one)}
    return specs.Specs(**{**values, "environ": {}})


# -- the memory file ------------------------------------------------------------------------------


def memory_file(data: bytes) -> int:
    """A file of its own in memory that holds ``data``; closed by an exec unless made inheritable.

    Raises ``OSError``.
    """
    fd = os.memfd_create(MEMORY_FILE, os.MFD_CLOEXEC)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(fd, left) :]
    except BaseException:
        os.close(fd)
        raise
    return fd


def load(fd: int) -> bytes:
    """All of a memory file, wherever it was read to before.  Raises ``OSError``."""
    parts: list[bytes] = []
    at = 0
    while part := os.pread(fd, 1 << 20, at):
        parts.append(part)
        at += len(part)
    return b"".join(parts)
