"""The other side of ``launch``: the keeper, the namespace's init and the step before exec.

Everything here runs in a child freshly forked from a single-threaded process and ends in ``exec``
or ``os._exit``; it imports nothing and never returns to its caller.  See ``launch`` for the shape.
"""

from __future__ import annotations

import errno
import gc
import os
import select
import signal
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NoReturn

import msgspec

from swarm.core.model import Containment
from swarm.sandbox import cgroups, kernel, mounts, oom, trees
from swarm.sandbox.cgroups import Group
from swarm.sandbox.landlock import LandlockRules
from swarm.sandbox.steps import (
    KILL_SIGNAL,
    NOTHING_SPECIAL,
    Ends,
    Nature,
    Orders,
    Step,
    Steps,
    default_signals,
    die_with,
    run_steps,
    wait_for,
)

PRIVATE_SHM = "/dev/shm"  # noqa: S108 - a fresh tmpfs of the tree's own is mounted there
_LOOK_SECONDS = 0.05
_PRIVATE_TMP = "/tmp"  # noqa: S108 - likewise, the tree's private directory


@dataclass(frozen=True, slots=True)
class Plan:
    """All the keeper knows."""

    steps: tuple[Step, ...]
    """Prelude, then the program last."""
    ends: Ends
    parent: int
    containment: Containment | None
    user_ns: bool | None
    landlock: LandlockRules | None
    tmp: str
    group: Group | None = None
    inside: bool = False
    """It was born in the group."""
    nature: Nature = NOTHING_SPECIAL


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The keeper's one line to ``launch``."""

    tree_pid: int = 0
    tree_start: int = 0
    containment: str = ""
    error: str = ""


def keep(plan: Plan) -> NoReturn:
    """The keeper's whole life, signals blocked at birth."""
    code = 1
    try:
        _be_born(plan)
        if plan.group is not None and not plan.inside:
            cgroups.join(plan.group)  # before anything of the session is started
        rung = _enter_namespaces(plan)
        if rung is Containment.PID_NAMESPACE:
            _keep_namespace(plan)
        elif rung is Containment.CGROUP and plan.group is not None:
            _keep_group(plan, plan.group)
        else:
            _keep_descent(plan)
        code = 0
    except BaseException as error:  # noqa: BLE001 - a forked child has nobody above to tell
        why = error.strerror if isinstance(error, OSError) else repr(error)
        _tell(plan.ends, Answer(error=f"cannot contain a session: {why}"))
    finally:
        os._exit(code)


def enter_namespaces(
    containment: Containment | None, user_ns: bool | None, *, grouped: bool = False
) -> Containment:
    """Unshare so that the next child is init of a PID namespace, or say what is left to use.

    ``grouped``: there is a cgroup to use.  Raises ``OSError`` when ``containment`` asks for what
    cannot be had.
    """
    rest = Containment.CGROUP if grouped else Containment.DESCENT
    if containment is Containment.DESCENT:
        return Containment.DESCENT
    if containment is Containment.CGROUP:
        if not grouped:
            raise OSError(errno.ENOTSUP, "there is no cgroup to use")
        return rest
    attempts = {None: (False, True), True: (True,), False: (False,)}[user_ns]
    refused = OSError(errno.EPERM, "namespaces are refused")
    for with_user in attempts:
        uid, gid = os.getuid(), os.getgid()
        try:
            if with_user:
                kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWPID)
                _write("/proc/self/setgroups", "deny")
                _write("/proc/self/uid_map", f"{uid} {uid} 1")
                _write("/proc/self/gid_map", f"{gid} {gid} 1")
            else:
                kernel.unshare(kernel.CLONE_NEWPID)
        except OSError as error:
            refused = error
            continue
        return Containment.PID_NAMESPACE
    if containment is Containment.PID_NAMESPACE:
        raise refused
    return rest


def own_proc() -> None:
    """Mount a ``/proc`` that shows this PID namespace only; ``OSError`` where it is refused."""
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_SLAVE)
    kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)


def has_children() -> bool:
    """Reap the dead; whether there are others."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return False
    return True


def close_all_but(keep: Collection[int]) -> None:
    """Close every other descriptor of this process, or siblings would not see ends of file."""
    low = 0
    for fd in sorted(keep):
        if low < fd:  # closerange(0, 0) closes all there are (seen on Python 3.11)
            os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, 1 << 30)


# -- the keeper ---------------------------------------------------------------------------------


def _be_born(plan: Plan) -> None:
    gc.disable()
    signal.set_wakeup_fd(-1)
    default_signals()
    die_with(plan.parent, signal.SIGKILL)
    os.setsid()
    kernel.set_name("agentctl-keeper")
    if plan.nature.oom_score:
        # Now: once it has entered a user namespace, or is not dumpable, /proc/self is root's.
        oom.worsen(plan.nature.oom_score)
    close_all_but({0, 1, 2, *plan.ends})
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        if fd not in plan.ends:
            os.dup2(null, fd, inheritable=True)
    if null > 2:
        os.close(null)


def _enter_namespaces(plan: Plan) -> Containment:
    rung = enter_namespaces(plan.containment, plan.user_ns, grouped=plan.group is not None)
    if rung is Containment.PID_NAMESPACE:
        die_with(plan.parent, signal.SIGKILL)  # new credentials may have cleared it
    return rung


def _keep_namespace(plan: Plan) -> None:
    lives, holds = os.pipe()  # end-of-file tells init that its keeper was gone before it was armed
    init = os.fork()
    if init == 0:
        try:
            os.close(holds)
            _init(plan, lives)
        finally:
            os._exit(1)
    os.close(lives)
    start = trees.start_time(init) or 0
    _tell(plan.ends, Answer(init, start, Containment.PID_NAMESPACE.value))
    for fd in plan.ends:
        os.close(fd)
    forward = {signal.SIGTERM: signal.SIGTERM, KILL_SIGNAL: signal.SIGKILL}
    wait_for(init, Orders(lambda number: _send(init, forward[signal.Signals(number)])))


def _keep_descent(plan: Plan) -> None:
    """Root of a tree without a namespace: adopts its orphans, kills until there are none."""
    here = os.getpid()
    _keep_rooted(
        plan,
        Containment.DESCENT,
        plan.nature,
        lambda: bool(trees.signal_tree(here, signal.SIGKILL)),
    )


def _keep_group(plan: Plan, group: Group) -> None:
    """The same, where a cgroup knows the tree: nothing leaves it by forking."""
    here = (os.getpid(),)
    cgroups.make_cage(group)
    caged = plan.nature._replace(caged=group)
    _keep_rooted(plan, Containment.CGROUP, caged, lambda: bool(cgroups.kill(group, spare=here)))


def _keep_rooted(
    plan: Plan, rung: Containment, nature: Nature, kill_all: Callable[[], bool]
) -> None:
    """``kill_all`` kills every process of the tree it can find, and says whether there were any."""
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    die_with(plan.parent, KILL_SIGNAL)  # it must outlive the caller to take the tree along
    here = os.getpid()
    killing = False

    def obey(number: int) -> None:
        nonlocal killing
        killing = killing or number == KILL_SIGNAL
        if killing:
            kill_all()
        else:
            trees.signal_tree(here, signal.SIGTERM)

    orders = Orders(obey)
    _tell(plan.ends, Answer(here, trees.start_time(here) or 0, rung.value))
    os.close(plan.ends.report)
    run_steps(Steps(plan.steps, plan.ends, here, plan.landlock, None, orders, nature))
    for fd in plan.ends[:3]:
        os.close(fd)
    while has_children() or (rung is Containment.CGROUP and kill_all()):
        kill_all()
        # A look at /proc can miss what is forked meanwhile: look again, and at each death.
        signal.sigtimedwait({signal.SIGCHLD}, _LOOK_SECONDS)


def _tell(ends: Ends, answer: Answer) -> None:
    with suppress(OSError):  # the caller is gone, and its parent-death signal is on the way
        os.write(ends.report, msgspec.json.encode(answer) + b"\n")


def _send(pid: int, number: int) -> None:
    with suppress(OSError):  # nobody is left to hear it
        os.kill(pid, number)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


# -- init of the namespace ----------------------------------------------------------------------


def _init(plan: Plan, lives: int) -> NoReturn:
    """Pid 1 of the namespace: what it leaves behind at its exit, the kernel kills."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    watch = select.poll()
    watch.register(lives, 0)  # POLLHUP alone: the keeper never writes
    if watch.poll(0):
        os._exit(1)
    os.close(lives)
    os.close(plan.ends.report)
    kernel.set_name("agentctl-init")
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)  # the session must not read its starter's memory
    host_proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    landlock = _own_mounts(plan)
    orders = Orders(lambda number: _send(-1, number))
    run_steps(Steps(plan.steps, plan.ends, 1, landlock, host_proc, orders, plan.nature))
    os._exit(0)


def _own_mounts(plan: Plan) -> LandlockRules | None:
    """Mounts of the tree's own, as far as the kernel lets us; returns the rules that fit them.

    A container that masks ``/proc`` refuses another one: the tree then sees the machine's pids,
    it is held together all the same.
    """
    rules = plan.landlock
    try:
        own_proc()
    except OSError:
        return rules
    try:
        mounts.own_shared_memory(PRIVATE_SHM)
        if rules is not None:
            rules = replace(rules, write=(*rules.write, PRIVATE_SHM))
    except OSError:
        pass  # no shared memory of its own: none is granted
    if rules is not None:
        mounts.hide_sockets((*rules.read, *rules.write))
        mounts.hide_secrets()
    if plan.tmp and rules is not None and not _in_tmp(plan, rules):
        with suppress(OSError):  # TMPDIR names the private one all the same
            kernel.mount(plan.tmp, _PRIVATE_TMP, None, kernel.MS_BIND)
    return rules


def _in_tmp(plan: Plan, rules: LandlockRules) -> bool:
    """Whether anything the tree needs would be hidden by a private ``/tmp``."""
    needed = [plan.tmp, *rules.read, *rules.write]
    for step in plan.steps:
        needed += [step.cwd, *(word for word in step.argv if word.startswith("/"))]
    return any(f"{os.path.realpath(path)}/".startswith(f"{_PRIVATE_TMP}/") for path in needed)
