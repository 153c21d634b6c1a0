"""Exercise once, before any fork, what every daemon will do.

Each first use of a library fills caches and lazily built tables: a first Ed25519 signature costs
a cold child 1.4 MB of its own, a warm one 0.5 MB; a first connection and the first decode of a
message are alike.  Done here, those pages are shared by every child.
"""

from __future__ import annotations

import gc
import os
import select
import socket

import swarm.daemon.main  # noqa: F401 - imported for its pages
from swarm.core.model import Outcome, Usage
from swarm.daemon.warm import fill_holes, rehearse
from swarm.spawner.identity import Identity
from swarm.wire import lifeline, work

_FILLING: list[object] = []
"""What fills the heap's holes, for as long as the zygote lives."""


def warm_up() -> None:
    """Sign, connect over loopback, encode and decode, poll; a whole doze, and no hole left."""
    identity = Identity.create("warm-up")
    identity.sign(b"AGENTCHAT_AUTH|warm|up|0")
    _connect()
    finished = lifeline.Finished("t-warm", 1, Outcome.SUCCEEDED, usage=Usage(1, 1))
    for said in (lifeline.Beat(seq=1), lifeline.Ended(finished=finished), lifeline.Idle(warm=True)):
        lifeline.from_child(lifeline.encode(said).rstrip())
    tuning = lifeline.Tuning(heartbeat_seconds=30.0, coordinators=(identity.agent_id,))
    lifeline.from_parent(lifeline.encode(tuning).rstrip())
    task = work.TaskRef(id="t-warm", component="c", role="builder")
    work.decode(work.encode(work.TaskAvailable(task=task, offer=("a",), idle=1)))
    work.decode(work.encode(work.Assign(task=task, fence=1)))
    rehearse()
    gc.collect()
    _FILLING.extend(fill_holes())


def _connect() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.setblocking(False)
        client.connect_ex(server.getsockname())
        with server.accept()[0] as accepted, select.epoll() as poll:
            poll.register(client.fileno(), select.EPOLLOUT)
            poll.poll(1.0)
            client.send(os.urandom(64))
            accepted.recv(64)
