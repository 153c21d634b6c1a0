"""What the zygote does before it forks, so that a dozing daemon writes to few pages of its own.

Two things make a fork of Python unshare its memory beyond what it stores: code that runs for the
first times specialises itself in place, and new objects fill the holes that imports left all over
the heap.  So the doze is rehearsed until its code has settled, and the holes are filled.  Measured
on 3.11, the two save 0.4 MB of private memory a daemon.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress

import msgspec

from swarm.daemon.chore import Chore
from swarm.daemon.doze import Arrival, Doze, Settled
from swarm.daemon.line import Lifeline
from swarm.daemon.signin import Joined
from swarm.daemon.state import Me
from swarm.wire import lifeline, work
from swarm.wire.spawn import DaemonSpec, RuntimeSpec

ROUNDS = 12
"""CPython 3.11 specialises a function from its eighth call on."""
MAX_FILLING = 16 * 1024 * 1024
"""Bytes spent on filling holes, at most; a lean zygote needs half of it, once for all children."""
_POOL = 16 * 1024
"""CPython's small-object allocator hands out pools of this size, one for each size class."""
_LARGEST_SMALL = 512
_BYTES_HEADER = 33

_ME = Me("swarm-rehearsal-001", "0123456789abcdef", "rehearsal")
_COORDINATOR = "f" * 16
_TUNING = lifeline.Tuning(heartbeat_seconds=0.001, coordinators=(_COORDINATOR,))


class _Rehearsal:
    """Helpers that know their answer; each is forked all the same, as forking is rehearsed too."""

    def __init__(self) -> None:
        ours, self.server = socket.socketpair()
        ours.setblocking(False)
        self._chat = ours.detach()

    def arrive(self) -> tuple[int, Chore]:
        """Settled and joined, with an offer that wakes it after the rest was looked at."""
        joined = Joined(b"", b"", 0, 100.0, True, _talk(), time.monotonic())
        return self._chat, Chore(
            lambda: msgspec.json.encode(Arrival(Settled(_ME, "", sandboxed=True), joined))
        )

    def join(self) -> tuple[int, Chore]:
        """Never asked for: the rehearsal does not lose its connection."""
        return self._chat, Chore(bytes)

    def clone(self, wanted: lifeline.Prepare) -> Chore:  # noqa: ARG002 - the protocol's
        """Made at once."""
        return Chore(bytes)


def rehearse(rounds: int = ROUNDS) -> None:
    """Run whole dozes, from the spec to the offer that would wake it, against nobody."""
    spec = msgspec.json.encode(
        DaemonSpec(
            name=_ME.name,
            role=_ME.role,
            workspace="/",
            home="/",
            home_id="",
            chat_url="ws://127.0.0.1:1",
            channel="#agents",
            coordinators=(_COORDINATOR,),
            heartbeat_seconds=30.0,
            runtime=RuntimeSpec("none", "command", ()),
        )
    )
    for _ in range(rounds):
        msgspec.json.decode(spec, type=DaemonSpec)
        _doze_once()


def _doze_once() -> None:
    ours, theirs = socket.socketpair()
    line = Lifeline(theirs.detach())
    helpers = _Rehearsal()
    doze = Doze(line, _TUNING, helpers)
    line.send(lifeline.Hello(name=_ME.name, pid=os.getpid()))
    ours.sendall(lifeline.encode(_TUNING))
    doze.turn()
    helpers.server.sendall(_frame(b"talk") + b"\x89\x00")
    doze.run()
    with suppress(BlockingIOError):
        os.read(doze.chat, 4096)
    os.close(doze.chat)
    helpers.server.close()
    line.close()
    ours.close()


def _talk() -> bytes:
    """What a channel says, an offer of a task to us last."""
    task = work.TaskRef("t-1", role="another", component="c")
    others = work.TaskAvailable(task=task, offer=("someone",), idle=9)
    mine = work.TaskAvailable(task=task, offer=(_ME.name,), idle=9)
    return b"\x89\x00" + b"".join(
        _frame(
            msgspec.json.encode(
                {
                    "type": "MSG",
                    "ts": 1,
                    "from": f"@{_COORDINATOR}",
                    "from_name": "c",
                    "to": "#agents",
                    "content": work.encode(message),
                    "msg_id": "1",
                }
            )
        )
        for message in (others, work.Assign(agentId="e" * 16, task=task, fence=1), mine)
    )


def _frame(payload: bytes) -> bytes:
    size = len(payload)
    head = bytes((0x81, size)) if size < 126 else b"\x81\x7e" + size.to_bytes(2, "big")
    return head + payload


def fill_holes() -> list[object]:
    """Objects that fill the half-empty pools of CPython's allocator; keep them for ever.

    Whatever a child stores then lies in fresh pages of its own, side by side, instead of in one
    hole each of fifty shared ones.  For each size class objects are made until a quarter of a pool
    came in one piece: from then on the allocator hands out new pools.
    """
    filling: list[object] = []
    left = MAX_FILLING
    for size in range(48, _LARGEST_SMALL + 1, 16):
        wanted = (_POOL // size) * 3 // 4
        row, last = 0, 0
        while row < wanted and left >= size:
            one = bytes(size - _BYTES_HEADER)
            filling.append(one)
            left -= size
            row = row + 1 if id(one) == last + size else 0
            last = id(one)
    return filling
