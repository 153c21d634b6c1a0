"""Run one command in a tree of its own to its end, and keep what it said."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Sequence
from dataclasses import dataclass

from swarm.errors import SessionError
from swarm.sandbox.launch import (
    Command,
    Confinement,
    Status,
    Tree,
    kill,
    launch,
    read_status,
    reap,
)

MAX_KEPT = 1024 * 1024
"""Bytes kept of each stream."""


@dataclass(frozen=True, slots=True)
class Done:
    """How it ended."""

    exit: int | None
    """Exit status of the command; ``None`` when it was never started, or was killed with its
    tree."""
    out: bytes
    error: str
    """What was printed to standard error, or why it could not be started."""
    prelude_failed: int | None = None
    """Index of the step before it that failed."""


def run(
    command: Command,
    confinement: Confinement,
    prelude: Sequence[Command] = (),
    timeout: float = 60.0,
) -> Done:
    """Launch, wait until the whole tree is gone, and tell.

    Past ``timeout`` seconds the tree is killed and :class:`~swarm.errors.SessionError` raised, as
    for a containment that cannot be had.
    """
    tree = launch(command, prelude, confinement)
    kept = {tree.stdout: bytearray(), tree.stderr: bytearray(), tree.status: bytearray()}
    late = False
    try:
        late = not _follow(tree, kept, time.monotonic() + timeout)
    finally:
        kill(tree)
        select.select([tree.pidfd], [], [])
        for fd, buffer in kept.items():
            _drain(fd, buffer)
        reap(tree)
    if late:
        raise SessionError(f"{' '.join(command.argv[:2])} took longer than {timeout:.0f} s")
    return _done(
        kept[tree.status], bytes(kept[tree.stdout]), kept[tree.stderr].decode("utf-8", "replace")
    )


def _done(status: bytearray, out: bytes, error: str) -> Done:
    lines: list[Status] = [read_status(line) for line in bytes(status).splitlines()]
    last = lines[-1] if lines else Status()
    if last.prelude_failed is not None:
        return Done(last.exit, out, last.error or error, last.prelude_failed)
    return Done(last.exit, out, last.failed or error)


def _follow(tree: Tree, kept: dict[int, bytearray], end: float) -> bool:
    """Read until the tree is gone; false when time runs out first."""
    poll = select.poll()
    for fd in (tree.pidfd, *kept):
        poll.register(fd, select.POLLIN)
    while (left := end - time.monotonic()) > 0:
        for fd, _ in poll.poll(left * 1000):
            if fd == tree.pidfd:
                return True
            if _drain(fd, kept[fd]):
                poll.unregister(fd)
    return False


def _drain(fd: int, buffer: bytearray) -> bool:
    """Take what is there; true at end of file."""
    while True:
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return False
        if not data:
            return True
        if len(buffer) < MAX_KEPT:
            buffer += data
