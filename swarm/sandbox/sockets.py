"""Which kinds of sockets a session with a list of ports may make: a seccomp filter.

Landlock's rules are of TCP as ``IPPROTO_TCP`` alone.  A Multipath TCP socket reaches any plain TCP
server and is not asked (seen on Linux 6.18), SCTP and the like neither.  So only what Landlock
judges, UDP and what stays on the machine can be made; nor is there io_uring, which makes sockets
past any filter, nor a second set of system calls (32-bit programs).  See seccomp(2).
"""

from __future__ import annotations

import errno
import os
import struct
from typing import NamedTuple

from swarm.sandbox import kernel

_ARCHITECTURES = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
"""``uname -m`` → AUDIT_ARCH and the number of ``socket``."""
_IO_URING_SETUP = 425
_X32 = 0x40000000
_LOCAL = (1, 16)
"""AF_UNIX, AF_NETLINK."""
_INTERNET = (2, 10)
_TYPES = (1, 2, 3)
"""Stream, datagram, raw; the last takes a capability that sessions have not."""
_PROTOCOLS = (0, 6, 17, 1, 58)
"""The type's own, TCP, UDP, ICMP, ICMPv6."""

_LOAD, _AND, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_NUMBER, _ARCHITECTURE, _DOMAIN, _TYPE, _PROTOCOL = 0, 4, 16, 24, 32
"""Offsets in ``struct seccomp_data``; of arguments the low half, on a little-endian machine."""


class _Line(NamedTuple):
    code: int
    value: int
    yes: str = ""
    no: str = ""
    """Where a comparison goes on; empty is the next line."""
    name: str = ""


def restrict_sockets() -> None:
    """Put the calling process, and all it will start, under the filter for good.

    ``no_new_privs`` must be set.  Does nothing on a machine without one; raises ``OSError`` where
    the kernel refuses.
    """
    machine = os.uname().machine
    if machine in _ARCHITECTURES:
        kernel.seccomp_filter(assembled(_program(*_ARCHITECTURES[machine])))


def _program(architecture: int, socket: int) -> list[_Line]:
    return [
        _Line(_LOAD, _ARCHITECTURE),
        _Line(_EQUAL, architecture, no="no call"),
        _Line(_LOAD, _NUMBER),
        _Line(_AT_LEAST, _X32, yes="no call"),
        _Line(_EQUAL, _IO_URING_SETUP, yes="no call"),
        _Line(_EQUAL, socket, no="fine"),
        _Line(_LOAD, _DOMAIN),
        *(_Line(_EQUAL, one, yes="fine") for one in _LOCAL),
        _Line(_EQUAL, _INTERNET[0], yes="type"),
        _Line(_EQUAL, _INTERNET[1], no="no family"),
        _Line(_LOAD, _TYPE, name="type"),
        _Line(_AND, 0xF),
        *(_Line(_EQUAL, one, yes="protocol") for one in _TYPES[:-1]),
        _Line(_EQUAL, _TYPES[-1], no="no protocol"),
        _Line(_LOAD, _PROTOCOL, name="protocol"),
        *(_Line(_EQUAL, one, yes="fine") for one in _PROTOCOLS[:-1]),
        _Line(_EQUAL, _PROTOCOLS[-1], yes="fine", no="no protocol"),
        _Line(_RETURN, _ALLOW, name="fine"),
        _Line(_RETURN, _REFUSE | errno.ENOSYS, name="no call"),
        _Line(_RETURN, _REFUSE | errno.EAFNOSUPPORT, name="no family"),
        _Line(_RETURN, _REFUSE | errno.EPROTONOSUPPORT, name="no protocol"),
    ]


def assembled(lines: list[_Line]) -> bytes:
    """The program as the kernel reads it: an array of ``struct sock_filter``."""
    names = {line.name: at for at, line in enumerate(lines) if line.name}
    return b"".join(
        struct.pack(
            "=HBBI",
            line.code,
            names[line.yes] - at - 1 if line.yes else 0,
            names[line.no] - at - 1 if line.no else 0,
            line.value,
        )
        for at, line in enumerate(lines)
    )
