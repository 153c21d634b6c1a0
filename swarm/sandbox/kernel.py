"""The system calls Python 3.11 does not wrap: ``prctl``, ``unshare``, ``mount``, Landlock's three.

Bound once at import, so that a freshly forked child only calls them.  Every function raises
``OSError`` with the kernel's errno.
"""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_BIND = 4096
MS_REC = 16384
MS_SLAVE = 1 << 19

_SYS_LANDLOCK_CREATE_RULESET = 444
_SYS_LANDLOCK_ADD_RULE = 445
_SYS_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_CREATE_RULESET_VERSION = 1
_LANDLOCK_RULE_PATH_BENEATH = 1

_libc = ctypes.CDLL(None, use_errno=True)
_prctl = _libc.prctl
_prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
_prctl.restype = ctypes.c_int
_prctl_name = ctypes.CDLL(None, use_errno=True).prctl
_prctl_name.argtypes = [ctypes.c_int, ctypes.c_char_p]
_prctl_name.restype = ctypes.c_int
_unshare = _libc.unshare
_unshare.argtypes = [ctypes.c_int]
_unshare.restype = ctypes.c_int
_mount = _libc.mount
_mount.argtypes = [ctypes.c_char_p] * 3 + [ctypes.c_ulong, ctypes.c_char_p]
_mount.restype = ctypes.c_int
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


class RulesetAttr(ctypes.Structure):
    """``struct landlock_ruleset_attr``; older kernels take a shorter one."""

    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def prctl(option: int, value: int = 0) -> None:
    """``prctl(option, value)`` for the options that take a number."""
    _check(_prctl(option, value, 0, 0, 0))


def set_name(name: str) -> None:
    """The name ``ps`` shows for this process, at most 15 bytes."""
    _check(_prctl_name(PR_SET_NAME, name.encode()[:15]))


def unshare(flags: int) -> None:
    """Leave namespaces; a new PID namespace takes effect for the next child."""
    _check(_unshare(flags))


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """``mount(2)``."""
    _check(
        _mount(
            os.fsencode(source),
            os.fsencode(target),
            kind.encode() if kind else None,
            flags,
            data.encode() if data else None,
        )
    )


def landlock_abi() -> int:
    """The Landlock ABI of this kernel; 0 when it has none, or it is switched off."""
    version = _syscall(
        ctypes.c_long(_SYS_LANDLOCK_CREATE_RULESET),
        None,
        ctypes.c_size_t(0),
        ctypes.c_uint32(_LANDLOCK_CREATE_RULESET_VERSION),
    )
    return max(0, int(version))


def landlock_create(attr: RulesetAttr, size: int) -> int:
    """A ruleset's descriptor, close-on-exec."""
    return _check(
        _syscall(
            ctypes.c_long(_SYS_LANDLOCK_CREATE_RULESET),
            ctypes.byref(attr),
            ctypes.c_size_t(size),
            ctypes.c_uint32(0),
        )
    )


def landlock_allow(ruleset: int, parent: int, access: int) -> None:
    """Allow ``access`` beneath the file or directory that ``parent`` is open on."""
    rule = _PathBeneath(access, parent)
    _check(
        _syscall(
            ctypes.c_long(_SYS_LANDLOCK_ADD_RULE),
            ctypes.c_int(ruleset),
            ctypes.c_int(_LANDLOCK_RULE_PATH_BENEATH),
            ctypes.byref(rule),
            ctypes.c_uint32(0),
        )
    )


def landlock_restrict(ruleset: int) -> None:
    """Put this process, and all it will start, under the ruleset; needs ``no_new_privs``."""
    _check(
        _syscall(
            ctypes.c_long(_SYS_LANDLOCK_RESTRICT_SELF),
            ctypes.c_int(ruleset),
            ctypes.c_uint32(0),
        )
    )
