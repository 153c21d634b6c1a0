"""A Landlock ruleset: what is not granted cannot be opened, made, removed or connected to.

Applied in the child between fork and exec, never by a shell (rules, "The sandbox").  It does not
stop ``connect()`` to a unix socket; the control socket asks for a token for that reason.  Of the
network it knows TCP alone: UDP is open to every session.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from swarm.sandbox import kernel

EXECUTE = 1 << 0
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
REMOVE_DIR = 1 << 4
REMOVE_FILE = 1 << 5
MAKE_CHAR = 1 << 6
MAKE_DIR = 1 << 7
MAKE_REG = 1 << 8
MAKE_SOCK = 1 << 9
MAKE_FIFO = 1 << 10
MAKE_BLOCK = 1 << 11
MAKE_SYM = 1 << 12
REFER = 1 << 13
TRUNCATE = 1 << 14
IOCTL_DEV = 1 << 15
BIND_TCP = 1 << 0
CONNECT_TCP = 1 << 1
SCOPE_ABSTRACT_UNIX_SOCKET = 1 << 0
SCOPE_SIGNAL = 1 << 1
MINIMUM_ABI = 1
NETWORK_ABI = 4
"""From here on TCP ports can be granted."""
SCOPE_ABI = 6
"""From here on signals and abstract unix sockets stay inside."""

_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
"""Rights that make sense for a file; a rule on a file may hold no others."""
_READ = EXECUTE | READ_FILE | READ_DIR
_WRITE = (
    _READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG
    | MAKE_SOCK | MAKE_FIFO | MAKE_SYM | REFER | TRUNCATE
)  # fmt: skip
"""Everything but making device nodes."""
_DEVICE = READ_FILE | WRITE_FILE | READ_DIR | IOCTL_DEV


@dataclass(frozen=True, slots=True)
class LandlockRules:
    """Absolute paths and what is allowed beneath them; a path that does not exist is left out."""

    read: tuple[str, ...] = ()
    """Readable and executable."""
    write: tuple[str, ...] = ()
    """Read-write; device nodes cannot be made there."""
    devices: tuple[str, ...] = ()
    """Device nodes, or directories of them: read, write and ioctl."""
    ports: tuple[int, ...] | None = None
    """TCP ports that may be connected to, ``None``: any.  With a list no known port can be listened
    on either, only one that the kernel picks (bind to 0): a session must not stand in for a
    service of the machine."""


def handled(abi: int) -> int:
    """Every file-system right the kernel of this ABI can restrict."""
    rights = (1 << 13) - 1
    if abi >= 2:
        rights |= REFER
    if abi >= 3:
        rights |= TRUNCATE
    if abi >= 5:
        rights |= IOCTL_DEV
    return rights


def restrict(rules: LandlockRules) -> bool:
    """Put the calling process under ``rules`` for good; ``False`` when the kernel has no Landlock.

    ``no_new_privs`` must be set.  Raises ``OSError`` when the kernel refuses.  From ABI 6 on,
    signals and abstract unix sockets do not leave the sandbox either; ports are left out below
    ABI 4: who must have them asks first.
    """
    abi = kernel.landlock_abi()
    if abi == 0:
        return False
    attr = kernel.RulesetAttr(handled_access_fs=handled(abi))
    size = 8
    ports = rules.ports if abi >= NETWORK_ABI else None
    if ports is not None:
        attr.handled_access_net = BIND_TCP | CONNECT_TCP
        size = 16
    if abi >= SCOPE_ABI:
        attr.scoped = SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL
        size = 24
    ruleset = kernel.landlock_create(attr, size)
    try:
        for paths, rights in (
            (rules.read, _READ),
            (rules.write, _WRITE),
            (rules.devices, _DEVICE),
        ):
            for path in paths:
                _allow(ruleset, path, rights & handled(abi))
        if ports is not None:
            kernel.landlock_allow_port(ruleset, 0, BIND_TCP)
            for port in ports:
                kernel.landlock_allow_port(ruleset, port, CONNECT_TCP)
        kernel.landlock_restrict(ruleset)
    finally:
        os.close(ruleset)
    return True


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there, or may not be reached, cannot be granted
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _FILE
        kernel.landlock_allow(ruleset, fd, rights)
    finally:
        os.close(fd)
