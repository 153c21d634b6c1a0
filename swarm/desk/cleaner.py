"""The cleaner: a child of the supervisor that cleans up once, as the disk runs low."""

from __future__ import annotations

import os
import socket

import msgspec

from swarm.config.places import Places
from swarm.core.keep import Lifetimes
from swarm.desk.cleaning import Cleaning
from swarm.errors import SwarmError
from swarm.wire.lifeline import Cleaned, Hello, Ready, encode
from swarm.wire.spawn import CleanerSpec

MAX_NAMED = 50
"""References and problems named in the one line it says."""


def main(fd: int, spec: bytes) -> int:
    """Clean up as the spec says and tell of it on the lifeline ``fd``; 0 if all went that should.

    The supervisor ends it by a signal, at any moment: each thing goes whole, or the next time.
    """
    order = msgspec.json.decode(spec, type=CleanerSpec)
    with socket.socket(fileno=fd) as lifeline:
        lifeline.setblocking(True)
        lifeline.sendall(encode(Hello("cleaner", os.getpid())) + encode(Ready()))
        said = _clean(order)
        lifeline.sendall(encode(said))
    return 1 if said.problems else 0


def _clean(order: CleanerSpec) -> Cleaned:
    cleaning = Cleaning(
        Places.of({"AGENTCTL_HOME": order.home}),
        Lifetimes(order.workspaces, order.branches, order.logs, order.log_bytes, order.folders),
        home_id=order.home_id,
        agents=frozenset,  # none of those it was given has an agent any more
        paths=order.left,
    )
    try:
        report = cleaning.carry_out()
    except SwarmError as error:
        return Cleaned(problems=(str(error),))
    return Cleaned(
        freed_mb=report.freed >> 20,
        saved=tuple(one.ref for one in report.saved[:MAX_NAMED]),
        problems=tuple(report.problems[:MAX_NAMED]),
    )
