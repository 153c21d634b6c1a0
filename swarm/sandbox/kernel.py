"""The system calls Python 3.11 does not wrap: ``prctl``, ``mount``, inotify's, Landlock's and more.

Bound once at import, so that a freshly forked child only calls them.  Every function raises
``OSError`` with the kernel's errno.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
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
_LANDLOCK_RULE_NET_PORT = 2
_SECCOMP_MODE_FILTER = 2
_MNT_DETACH = 2
_SYS_CLONE3 = 435
_CLONE_CHILD_CLEARTID = 0x00200000
_CLONE_CHILD_SETTID = 0x01000000
_CLONE_INTO_CGROUP = 0x200000000
_PR_GET_TID_ADDRESS = 40
_IN_MODIFY = 2
_LAST_CAPABILITY = 63
"""The kernel has 41 so far; dropping one it has not fails, which ends the list."""

_libc = ctypes.CDLL(None, use_errno=True)
_held_libc = ctypes.PyDLL(None, use_errno=True)
"""Keeps the interpreter's lock, which a child of :func:`fork_into` must be born with."""
_held_libc.syscall.restype = ctypes.c_long
ctypes.pythonapi.PyOS_BeforeFork.restype = None
ctypes.pythonapi.PyOS_AfterFork_Parent.restype = None
ctypes.pythonapi.PyOS_AfterFork_Child.restype = None
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
_umount2 = _libc.umount2
_umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
_umount2.restype = ctypes.c_int
_inotify_init1 = _libc.inotify_init1
_inotify_init1.argtypes = [ctypes.c_int]
_inotify_init1.restype = ctypes.c_int
_inotify_add_watch = _libc.inotify_add_watch
_inotify_add_watch.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32]
_inotify_add_watch.restype = ctypes.c_int
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


class _NetPort(ctypes.Structure):
    _fields_ = (("allowed_access", ctypes.c_uint64), ("port", ctypes.c_uint64))


class _CloneArgs(ctypes.Structure):
    """``struct clone_args`` as of Linux 5.7."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size",
            "tls", "set_tid", "set_tid_size", "cgroup",
        )
    )  # fmt: skip


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


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


def fork_into(cgroup: int) -> int:
    """``os.fork()``, the child born in the v2 cgroup that ``cgroup`` is open on (clone3(2)).

    Moving a process there afterwards waits 10–30 ms for a lock that all forks of the machine share
    (seen on Linux 6.18); being born there takes none.  Only for a process with one thread.  The
    child's thread id is written where the C library keeps it, as its own fork does.
    """
    thread = ctypes.c_void_p()
    _check(_held_libc.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(thread), 0, 0, 0))
    flags = _CLONE_INTO_CGROUP | _CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID
    asked = _CloneArgs(
        flags=flags, child_tid=thread.value, exit_signal=signal.SIGCHLD, cgroup=cgroup
    )
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = int(
        _held_libc.syscall(
            ctypes.c_long(_SYS_CLONE3), ctypes.byref(asked), ctypes.c_size_t(ctypes.sizeof(asked))
        )
    )
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    number = ctypes.get_errno()
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(number, os.strerror(number))
    return pid


def inotify() -> int:
    """A new inotify descriptor, non-blocking and close-on-exec."""
    return _check(_inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))


def inotify_modified(fd: int, path: str) -> None:
    """Make ``fd`` readable whenever ``path`` changes."""
    _check(_inotify_add_watch(fd, os.fsencode(path), _IN_MODIFY))


def seccomp_filter(program: bytes) -> None:
    """Filter this process's system calls for good by an array of ``struct sock_filter``."""
    code = ctypes.create_string_buffer(program, len(program))
    whole = _FilterProgram(len(program) // 8, ctypes.cast(code, ctypes.c_void_p))
    _check(_prctl(PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(whole), 0, 0))


def keep_capabilities(kept: frozenset[int]) -> None:
    """Take every other capability out of this process's bounding set: its exec loses them."""
    for number in range(_LAST_CAPABILITY + 1):
        if number not in kept and _prctl(PR_CAPBSET_DROP, number, 0, 0, 0) < 0:
            if ctypes.get_errno() == errno.EINVAL:
                return  # past the last one there is
            _check(-1)


def unmount(target: str) -> None:
    """Take a mount out of sight at once, ``umount2(target, MNT_DETACH)``."""
    _check(_umount2(os.fsencode(target), _MNT_DETACH))


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


def landlock_allow_port(ruleset: int, port: int, access: int) -> None:
    """Allow ``access`` (bind, connect) on a TCP port; needs ABI 4."""
    rule = _NetPort(access, port)
    _check(
        _syscall(
            ctypes.c_long(_SYS_LANDLOCK_ADD_RULE),
            ctypes.c_int(ruleset),
            ctypes.c_int(_LANDLOCK_RULE_NET_PORT),
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
