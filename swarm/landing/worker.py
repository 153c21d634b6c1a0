"""The process that lands: one order a line on standard input, one verdict a line on its output.

A process of its own, as git and checks block and a contained tree is forked from a process
without threads.  It ends with its input, with its parent, and after a while without work; what it
was doing can be killed at any point.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from types import FrameType

import msgspec

from swarm.errors import SwarmError
from swarm.landing.land import land, publish_target
from swarm.landing.model import Job, NotLanded, Order, Publish, Verdict
from swarm.sandbox import kernel

_CHUNK = 65536
_orders: msgspec.json.Decoder[Order] = msgspec.json.Decoder(Order)


def main() -> int:
    """``worker PARENT HOME_ID IDLE_SECONDS``; 0 at the end of input or of its patience.

    1 where it cannot work, and where nobody is left to hear its verdict.
    """
    try:
        return _serve()
    except (SwarmError, BrokenPipeError) as error:
        print(f"agentctl-lander: {error}", file=sys.stderr)
        return 1


def _serve() -> int:
    parent, home_id, idle = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    # End of input does not reach one that is amid a check, nor one that is stopped.
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return 1
    kernel.set_name("agentctl-lander")
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's alone
    answers = os.dup(1)  # only verdicts go there, whatever else prints
    os.dup2(2, 1)
    fetched: dict[str, float] = {}
    rest = b""
    while True:
        while b"\n" not in rest:
            if not select.select([0], [], [], idle)[0]:
                return 0
            data = os.read(0, _CHUNK)
            if not data:
                return 0
            rest += data
        line, _, rest = rest.partition(b"\n")
        _write(answers, msgspec.json.encode(obey(line, home_id, fetched)) + b"\n")


def obey(line: bytes, home_id: str, fetched: dict[str, float]) -> Verdict:
    """One order's verdict; a line that is no order is ours to mend."""
    try:
        order = _orders.decode(line)
    except msgspec.MsgspecError as error:
        return NotLanded(f"the lander was asked for what it does not know: {error}", retry=False)
    match order:
        case Job():
            return land(order, home_id, fetched)
        case Publish():
            return publish_target(order.hub, order.source, order.target, order.branch)


def _leave(_number: int, _frame: FrameType | None) -> None:
    """Unwind, so that trees are ended and folders removed on the way out."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(0)


def _write(fd: int, data: bytes) -> None:
    done = 0
    while done < len(data):
        done += os.write(fd, data[done:])
