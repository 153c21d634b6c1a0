"""The ``chat`` service: the embedded server as a child of the supervisor."""

from __future__ import annotations

import msgspec

from swarm.chat.server import FLEET_LIMITS, read_listen, serve_chat
from swarm.config.places import Places
from swarm.core.model import bare_id
from swarm.logs import JsonLog
from swarm.service import ServiceLifeline, run_service
from swarm.wire.lifeline import Rules
from swarm.wire.spawn import ServiceSpec


class ChatConfig(msgspec.Struct, frozen=True):
    """``ServiceSpec.config`` of this service."""

    listen: str = "127.0.0.1:6667"
    channel: str = "#agents"
    trusted: tuple[str, ...] = ()
    """Agent ids without a rate limit: our coordinator's, the operator's."""
    badge: str = ""
    """What our daemons show when they sign in; everybody else is a guest."""


def main(fd: int, spec: bytes) -> int:
    """Serve until the lifeline ``fd`` ends; the exit status."""
    service = msgspec.json.decode(spec, type=ServiceSpec)
    config = msgspec.convert(service.config, ChatConfig)
    places = Places.of({"AGENTCTL_HOME": service.home})
    log = JsonLog(places.service_log("chat"))

    async def serve(line: ServiceLifeline) -> None:
        host, port = read_listen(config.listen)
        async with serve_chat(
            host,
            port,
            limits=FLEET_LIMITS,
            channels=(config.channel,),
            trusted=[bare_id(agent) for agent in config.trusted],
            badge=config.badge,
            log=log,
        ) as running:
            log.write("listening", address=running.address)
            line.ready(address=running.address)
            async for said in line:  # until it is cancelled
                if isinstance(said, Rules):
                    running.machine.rules(
                        map(bare_id, said.coordinators), map(bare_id, said.announcers)
                    )

    return run_service(fd, service.name, serve)
