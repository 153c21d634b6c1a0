"""Start a program so that its whole process tree can be ended, and dies with its starter.

::

    caller ── keeper ── init (pid 1 of a PID namespace) ── prelude steps, then the program
                        │ where there are no namespaces the keeper itself is the root:
    caller ── keeper ── prelude steps, then the program

The caller must be single-threaded: it forks.  The keeper is the caller's child and lives exactly
as long as the tree, so its pidfd becomes readable when the tree is empty.  The caller's death
kills the tree (parent-death signals all the way down; the kernel empties a namespace whose init
died).  ``swarm.sandbox.keeper`` is what runs on the other side of the fork.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from swarm.core.model import Containment
from swarm.errors import SessionError, SpawnError
from swarm.sandbox import cgroups, keeper, kernel, trees
from swarm.sandbox.cgroups import Group
from swarm.sandbox.landlock import LandlockRules
from swarm.sandbox.steps import KILL_SIGNAL, Ends, Nature, Step

_ANSWER_SECONDS = 10.0
"""The keeper answers in about a millisecond; this only bounds a machine that has stopped."""


@dataclass(frozen=True, slots=True)
class Command:
    """A program to run.  ``argv[0]`` without a slash is found on ``PATH`` of ``env``."""

    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Confinement:
    """What holds a tree together and what it may touch."""

    containment: Containment | None = None
    """The rung to use; ``None`` is the best this machine has."""
    landlock: LandlockRules | None = None
    """``None``: no file-system sandbox.  Rules are left out only when the kernel has no Landlock;
    ask :func:`swarm.sandbox.probe.what_holds` where that must not be."""
    marker: str = ""
    """Put into every command's environment as ``AGENTCTL_TREE``; see ``trees.marker``."""
    tmp: str = ""
    """Private temporary directory, in the environment as ``TMPDIR`` and, in a namespace, seen as
    ``/tmp`` when nothing that is granted lies there."""
    user_ns: bool | None = None
    """Make a user namespace too.  ``None``: only when a PID namespace cannot be had without."""
    group: Group | None = None
    """The cgroup the whole tree is put in, made by the caller and removed by :func:`reap`: it keeps
    the limits, and the tree together where there is no namespace."""
    nice: int = 0
    """Lowers the priority of every step so much."""
    oom_score: int = 0
    """Added to every step's ``oom_score_adj``, see ``swarm.sandbox.oom``."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A started tree.  The caller reads the three pipes, polls the pidfd and calls ``reap``."""

    pid: int
    """The keeper, a child of the caller: only :func:`reap` may wait for it."""
    pidfd: int
    """Readable when the keeper has ended, which is when the tree is empty."""
    stdout: int
    """Non-blocking; the program's standard output.  Prelude steps write to ``stderr``."""
    stderr: int
    """Non-blocking; the reader caps what it keeps."""
    status: int
    """Non-blocking; JSON lines, see :class:`Status`."""
    tree_pid: int
    """Root of the tree: the namespace's init, or the keeper."""
    tree_start: int
    """Start time of ``tree_pid``, clock ticks since boot."""
    containment: Containment
    marker: str
    group: Group | None = None

    @property
    def id(self) -> trees.TreeId:
        """What somebody else needs to end this tree."""
        return trees.TreeId(
            self.tree_pid, self.tree_start, self.containment, self.marker, self.group
        )


class Status(msgspec.Struct, frozen=True):
    """One line of ``Tree.status``; what did not happen is ``None``.

    End-of-file without ``exit``, ``failed`` or ``prelude_failed`` means the tree was killed.
    """

    started: int | None = None
    """Pid of the program, as the caller sees it: exec succeeded."""
    failed: str | None = None
    """One line for people: why the program could not be started; names it."""
    prelude_failed: int | None = None
    """Index of the prelude step that failed, with its ``exit`` status."""
    exit: int | None = None
    """Exit status of the program; negative is the signal that ended it."""
    error: str = ""
    """Why a prelude step could not even be started."""


_statuses = msgspec.json.Decoder(Status)


def read_status(line: bytes) -> Status:
    """Decode one line of ``Tree.status``; the keeper writes them, so they are well-formed."""
    return _statuses.decode(line)


def launch(command: Command, prelude: Sequence[Command], confinement: Confinement) -> Tree:
    """Fork a keeper that runs ``prelude`` one after the other, then ``command``.

    Returns when the tree's root exists (about a millisecond); everything later is told on
    ``Tree.status``.  Raises :class:`~swarm.errors.SessionError` when the wanted containment cannot
    be had, :class:`~swarm.errors.SpawnError` when the kernel has no process or pipe left.
    """
    steps = tuple(_marked(step, confinement) for step in (*prelude, command))
    pipes: list[int] = []
    try:
        for _ in range(4):
            pipes.extend(os.pipe())
        pid = _fork(Ends(*pipes[1::2]), steps, confinement)
    except OSError as error:
        _close(pipes)
        raise SpawnError(f"cannot start a session: {error.strerror}") from error
    _close(pipes[1::2])
    out, err, status, report = pipes[0::2]
    try:
        answer = _await(report)
    finally:
        os.close(report)
    if answer is None or answer.error:
        _close([out, err, status])
        _abandon(pid)
        raise SessionError(answer.error if answer else "the session's keeper did not answer")
    for fd in (out, err, status):
        os.set_blocking(fd, False)
    return Tree(
        pid=pid,
        pidfd=os.pidfd_open(pid),
        stdout=out,
        stderr=err,
        status=status,
        tree_pid=answer.tree_pid or pid,
        tree_start=answer.tree_start,
        containment=Containment(answer.containment),
        marker=confinement.marker,
        group=confinement.group,
    )


def terminate(tree: Tree) -> None:
    """Send TERM to every process of the tree; a program that ignores it needs :func:`kill`."""
    _tell(tree, signal.SIGTERM)


def kill(tree: Tree) -> None:
    """Kill every process of the tree; the pidfd becomes readable once they are gone."""
    _tell(tree, KILL_SIGNAL)
    if tree.containment is not Containment.PID_NAMESPACE:
        _tell(tree, signal.SIGCONT)  # a tree without a namespace can stop its keeper


def reap(tree: Tree) -> int:
    """Wait for the keeper of a tree that is over, close the descriptors; returns survivors killed.

    Call it once the pidfd is readable.  In a namespace nothing survives.  Without one, a session
    that killed its keeper may have left some behind: they are killed here as far as they can be
    found.  The tree's cgroup is emptied and removed.
    """
    os.waitpid(tree.pid, 0)
    _close([tree.pidfd, tree.stdout, tree.stderr, tree.status])
    left = 0
    if tree.containment is not Containment.PID_NAMESPACE:
        left = len(trees.survivors(tree.id))
        if left:
            trees.destroy(tree.id)
    if tree.group is not None:
        cgroups.remove(tree.group)
    return left


def _tell(tree: Tree, number: int) -> None:
    with suppress(ProcessLookupError):  # it is over, and the pidfd says so
        signal.pidfd_send_signal(tree.pidfd, number)


def _fork(ends: Ends, steps: tuple[Step, ...], confinement: Confinement) -> int:
    parent = os.getpid()
    # No handler of the caller may run on the other side, nor write to its wake-up descriptor.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid, inside = _born(confinement.group)
        if pid == 0:
            keeper.keep(
                keeper.Plan(
                    steps=steps,
                    ends=ends,
                    parent=parent,
                    containment=confinement.containment,
                    user_ns=confinement.user_ns,
                    landlock=confinement.landlock,
                    tmp=confinement.tmp,
                    group=confinement.group,
                    inside=inside,
                    nature=Nature(confinement.nice, confinement.oom_score),
                )
            )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def _born(group: Group | None) -> tuple[int, bool]:
    """Fork; and whether the child is in the group already."""
    if group is not None and group.unified:
        with suppress(OSError):  # an older kernel: the keeper joins by itself
            folder = os.open(group.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                return kernel.fork_into(folder), True
            finally:
                os.close(folder)
    return os.fork(), False


def _marked(command: Command, confinement: Confinement) -> Step:
    env = dict(command.env)
    if confinement.marker:
        env[trees.MARKER] = confinement.marker
    if confinement.tmp:
        env["TMPDIR"] = confinement.tmp
    return Step(command.argv, command.cwd, env)


def _await(report: int) -> keeper.Answer | None:
    """The keeper's first words, or ``None`` when it died or hangs."""
    data = b""
    poll = select.poll()
    poll.register(report, select.POLLIN)
    while not data.endswith(b"\n"):
        if not poll.poll(_ANSWER_SECONDS * 1000):
            return None
        chunk = os.read(report, 4096)
        if not chunk:
            return None
        data += chunk
    return msgspec.json.decode(data, type=keeper.Answer)


def _abandon(pid: int) -> None:
    with suppress(ProcessLookupError):  # it ended by itself
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
