"""The steps of a tree, one after the other, each under the sandbox: a prelude, then the program.

Runs in the root of a tree (see ``keeper``); :func:`run_steps` forks each step, the child becomes
the command.  Their fate is written to the status pipe, see ``launch.Status``.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple, NoReturn

import msgspec

from swarm.sandbox import cgroups, kernel
from swarm.sandbox.cgroups import Group
from swarm.sandbox.landlock import LandlockRules, restrict
from swarm.sandbox.programs import find_program
from swarm.sandbox.sockets import restrict_sockets

KILL_SIGNAL = signal.SIGUSR1
"""Asks the keeper to kill the tree and to stay until it is empty."""
ORDERS = frozenset({signal.SIGTERM, KILL_SIGNAL})
_NOWHERE = "no such program"
ROOT_KEEPS = frozenset({0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 31})
"""Capabilities a sandboxed session of root keeps: chown, dac_override, fowner, fsetid, kill,
setgid, setuid, setpcap, net_bind_service, sys_chroot, setfcap.

As in a common container, without raw sockets and device nodes.  The others reach around files:
loading modules or BPF programs, tracing, mounting, opening by handle."""
_NOT_STARTED = 127
"""Exit status of a step that did not reach its exec, as shells have it."""


class Step(NamedTuple):
    """One command, its environment complete."""

    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str]


class Nature(NamedTuple):
    """What each step is born as, beside its environment."""

    nice: int = 0
    """Added to its priority: 10 gives way to everything else."""
    oom_score: int = 0
    """Added to ``oom_score_adj`` of the whole tree by its keeper: the kernel takes the largest
    first when memory runs out."""
    caged: Group | None = None
    """Group whose cage it is put in; a namespace needs none."""


NOTHING_SPECIAL = Nature()


class Ends(NamedTuple):
    """Write ends of the four pipes to the caller."""

    stdout: int
    stderr: int
    status: int
    report: int


class Orders:
    """What the root of a tree is told to do, taken one at a time while it waits.

    Every signal stays blocked in the root and is fetched with ``sigwait``: a handler could come
    just before a blocking call and be heard only after it.
    """

    __slots__ = ("_obey", "ended")

    def __init__(self, obey: Callable[[int], None]) -> None:
        self._obey = obey
        self.ended = False
        """Whether an order to end has come; nothing is started any more."""

    def take(self, number: int) -> None:
        """Obey one order."""
        self.ended = True
        self._obey(number)

    def pending(self) -> bool:
        """Whether one has come, taken or not."""
        return self.ended or bool(signal.sigpending() & ORDERS)


class Steps(NamedTuple):
    """What the root of a tree runs."""

    steps: tuple[Step, ...]
    ends: Ends
    root: int
    """The root's pid as its children see it."""
    landlock: LandlockRules | None
    host_proc: int | None
    """Descriptor of the caller's ``/proc``; ``None``: its pids are ours."""
    orders: Orders
    nature: Nature = NOTHING_SPECIAL


def run_steps(work: Steps) -> None:
    """Run every step to its end and report; the first that fails is the last."""
    *prelude, program = work.steps
    for index, step in enumerate(prelude):
        started = _start(work, step, work.ends.stderr)
        if started is None:
            return
        status = wait_for(started.pid, work.orders)
        if status != 0:
            _tell(work, {"prelude_failed": index, "exit": status, "error": started.error})
            return
    started = _start(work, program, work.ends.stdout)
    if started is None:
        return
    if started.error:
        wait_for(started.pid, work.orders)
        _tell(work, {"failed": started.error})
        return
    _tell(work, {"started": started.seen_pid})
    _tell(work, {"exit": wait_for(started.pid, work.orders)})


def wait_for(pid: int, orders: Orders) -> int:
    """Wait until child ``pid`` ends, reaping orphans and obeying orders; its exit status.

    All signals must be blocked.
    """
    while True:
        ended, status = os.waitpid(-1, os.WNOHANG)
        if ended == 0:
            number = signal.sigwait({signal.SIGCHLD, *ORDERS})
            if number in ORDERS:
                orders.take(number)
        elif ended == pid:
            return os.waitstatus_to_exitcode(status)


def default_signals() -> None:
    """Give every signal its default action; the mask is left alone."""
    for number in signal.valid_signals():
        if signal.getsignal(number) is not signal.SIG_DFL:
            try:
                signal.signal(number, signal.SIG_DFL)
            except (OSError, ValueError):
                continue  # KILL and STOP are as they are


def die_with(parent: int, number: int) -> None:
    """Get signal ``number`` when ``parent`` dies; exit now if it died before this was armed."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(1)


class _Started(NamedTuple):
    pid: int
    seen_pid: int
    """Its pid as the caller of ``launch`` sees it."""
    error: str


def _start(work: Steps, step: Step, stdout: int) -> _Started | None:
    """Fork the step and wait until it is the command, or says why it is not.

    An order that comes before the fork is seen by ``pending``; one that comes later reaches the
    child, which unblocks its signals just before its exec.
    """
    if work.orders.pending():
        return None
    hears, tells = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(work, step, stdout, tells)
    os.close(tells)
    heard = b""
    while chunk := os.read(hears, 4096):  # end-of-file: exec closed the other end, or it died
        heard += chunk
    os.close(hears)
    seen, _, error = heard.partition(b"\n")  # the pid, and if it did not come to exec, why
    return _Started(pid, int(seen or b"0"), error.decode(errors="replace"))


def _become(work: Steps, step: Step, stdout: int, tells: int) -> NoReturn:
    """The child: everything between fork and exec, in the order that each part needs."""
    try:
        default_signals()
        die_with(work.root, signal.SIGKILL)
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0, inheritable=True)
        os.dup2(stdout, 1, inheritable=True)
        os.dup2(work.ends.stderr, 2, inheritable=True)
        os.umask(0o077)
        _take_nature(work.nature)
        seen = str(_seen_pid(work)).encode()
        os.chdir(step.cwd)
        program = find_program(step.argv[0], step.env.get("PATH", ""))
        if program is None:
            raise FileNotFoundError(errno.ENOENT, _NOWHERE, step.argv[0])
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        if work.landlock is not None:
            restrict(work.landlock)
            if work.landlock.ports is not None:
                restrict_sockets()
            if os.geteuid() == 0:
                kernel.keep_capabilities(ROOT_KEEPS)
        os.write(tells, seen)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execve(program, step.argv, step.env)  # noqa: S606 - no shell is the point
    except OSError as error:
        os.write(tells, b"\n" + _why(step, error).encode(errors="replace")[:2000])
    except BaseException as error:  # noqa: BLE001 - a forked child has nobody above to tell
        os.write(tells, b"\n" + repr(error).encode(errors="replace")[:2000])
    finally:
        os._exit(_NOT_STARTED)


def _take_nature(nature: Nature) -> None:
    if nature.caged is not None:
        cgroups.join(nature.caged, cage=True)
    if nature.nice:
        os.nice(nature.nice)


def _seen_pid(work: Steps) -> int:
    if work.host_proc is None:
        return os.getpid()
    try:
        return int(os.readlink("self", dir_fd=work.host_proc))
    except (OSError, ValueError):
        return 0  # a /proc that is not the caller's own


def _why(step: Step, error: OSError) -> str:
    name = step.argv[0]
    if error.filename == step.cwd:
        return f"cannot start {name}: its directory {step.cwd}: {error.strerror}"
    if error.strerror == _NOWHERE:
        where = "there is no such file" if "/" in name else "no such program on PATH"
        return f"cannot start {name}: {where}"
    if error.errno == errno.ENOENT:
        return f"cannot start {name}: the interpreter it names is not there"
    return f"cannot start {name}: {error.strerror}"


def _tell(work: Steps, line: dict[str, object]) -> None:
    with suppress(OSError):  # the caller is gone, and its parent-death signal is on the way
        os.write(work.ends.status, msgspec.json.encode(line) + b"\n")
