"""The ``api`` service: the HTTP interface as a child of the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import uvicorn
from uvicorn.server import ServerState

from swarm.config.load import bad_api_listen, parse_address
from swarm.config.places import Places
from swarm.desk.connections import Connection
from swarm.desk.guard import Guard
from swarm.desk.office import Office
from swarm.desk.routes import application
from swarm.errors import SwarmError, UsageError
from swarm.logs import JsonLog
from swarm.service import ServiceLifeline, run_service
from swarm.spawner.folders import write_whole
from swarm.wire.spawn import ServiceSpec

KEEP_ALIVE_SECONDS = 30
"""How long a connection may rest between two requests."""
MAX_HEAD = 16 * 1024
"""Bytes of a request's head."""
BACKLOG = 128


class ApiConfig(msgspec.Struct, frozen=True):
    """``ServiceSpec.config`` of this service."""

    listen: str
    decide: bool = False


class ApiAddress(msgspec.Struct, frozen=True):
    """What ``AGENTCTL_HOME/api.json`` holds."""

    address: str
    token_file: str
    pid: int
    version: int = 1


def main(fd: int, spec: bytes) -> int:
    """Serve until the lifeline ``fd`` ends; the exit status."""
    service = msgspec.json.decode(spec, type=ServiceSpec)
    config = msgspec.convert(service.config, ApiConfig)
    places = Places.of({"AGENTCTL_HOME": service.home})
    log = JsonLog(places.service_log(service.name))

    async def run(line: ServiceLifeline) -> None:
        async with serve_api(places, config.listen, log, decides=config.decide) as address:
            log.write("listening", address=address)
            line.ready(address=address)
            async for _said in line:
                pass  # until it is cancelled: nothing the supervisor says concerns us

    return run_service(fd, service.name, run)


@contextlib.asynccontextmanager
async def serve_api(
    places: Places, listen: str, log: JsonLog, *, decides: bool = False
) -> AsyncIterator[str]:
    """The interface of one home, while the block lasts; its address.

    ``decides``: whoever has the token may approve, reject and answer in the person's name.

    Raises :class:`~swarm.errors.SwarmError` when it cannot listen.
    """
    listening = _listen(listen)
    try:
        token = _token(places.api_token)
        address, hosts = _names(listening)
        told = ApiAddress(address, str(places.api_token), os.getpid())
        _write_private(places.api_address, f"{msgspec.json.encode(told).decode()}\n")
        async with Office(places, "http") as office:

            def defect(error: Exception) -> None:
                log.write("defect", error=repr(error), where=_last_line(error))

            guard = Guard(application(office, decides=decides), token, hosts, defect)
            async with _serving(guard, listening):
                yield address
    finally:
        listening.close()


@contextlib.asynccontextmanager
async def _serving(app: Guard, listening: socket.socket) -> AsyncIterator[None]:
    """Uvicorn's connections without its server, which looks around ten times a second."""
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",  # a client's nonsense is none of our log's; our defects are told
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        h11_max_incomplete_event_size=MAX_HEAD,
    )
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(config, state, {}), sock=listening, backlog=BACKLOG
    )
    try:
        yield
    finally:
        server.close()
        for task in state.tasks:
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)
        for connection in list(state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # the loop tells them that they are lost


def _listen(listen: str) -> socket.socket:
    address = parse_address(listen)
    why = bad_api_listen(listen)
    if why or address is None:
        raise UsageError(f"api.listen: {why}", "mend swarm.yaml")
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Not what /etc/hosts makes of the name: it is the loopback that was promised.
        listening.bind(("127.0.0.1" if host == "localhost" else host, port))
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise SwarmError(
            f"the HTTP interface cannot listen on {listen}: {error.strerror}",
            "choose another port with api.listen, or end who has it",
        ) from None
    return listening


def _names(listening: socket.socket) -> tuple[str, tuple[str, ...]]:
    """Its address, and what may stand in ``Host``."""
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}", (f"{shown}:{port}", f"localhost:{port}")


def _token(path: Path) -> str:
    """What is in the file, made when it is not there: it stays the same over restarts.

    Raises :class:`~swarm.errors.SwarmError`.
    """
    try:
        text = path.read_text().strip()
        if len(text) >= 32 and text.isascii() and text.isalnum():
            if path.stat().st_mode & 0o077:
                path.chmod(0o600)
            return text
        path.unlink()
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError) as error:
        raise SwarmError(
            f"{path} cannot be read: {error}", "remove it; a new one is made"
        ) from None
    token = secrets.token_hex(32)
    _write_private(path, f"{token}\n")
    return token


def _write_private(path: Path, text: str) -> None:
    try:
        write_whole(str(path), text)
    except OSError as error:
        raise SwarmError(f"{path} cannot be written: {error.strerror}", "make room") from None


def _last_line(error: BaseException) -> str:
    """Where it was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
