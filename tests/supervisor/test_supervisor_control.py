"""The control server over a real socket, with clients that mean no good."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests_support import eventually_async

from swarm.errors import SwarmError, UsageError
from swarm.supervisor import control as server_module
from swarm.supervisor.control import Caller, ControlServer, check_path
from swarm.wire import control

TOKEN = "t" * 64


class Desk:
    """Answers what is asked, or keeps the caller waiting."""

    def __init__(self) -> None:
        self.asked: list[control.Command] = []
        self.waiting: list[Caller] = []

    def carry_out(self, command: control.Command, caller: Caller) -> None:
        self.asked.append(command)
        match command:
            case control.Status():
                caller.answer(control.Done(data={"fine": True}))
            case control.Reload():
                caller.answer(control.Progress(text="reading"))
                caller.answer(control.Done(lines=("nothing changed",)))
            case control.Pause():
                caller.answer(control.Done(data={"long": "x" * 4_000_000}))
            case _:
                self.waiting.append(caller)


@pytest.fixture
async def desk(home: Path) -> AsyncIterator[tuple[Desk, Path, ControlServer]]:
    made = Desk()
    path = home / "control.sock"
    server = ControlServer(asyncio.get_running_loop(), path, TOKEN, made.carry_out)
    yield made, path, server
    await server.close()
    assert not path.exists()


async def talk(path: Path, data: bytes) -> list[control.Answer]:
    reader, writer = await asyncio.open_unix_connection(str(path), limit=16_000_000)
    writer.write(data)
    answers = [control.read_answer(line.rstrip()) async for line in reader]
    writer.close()
    await writer.wait_closed()
    return answers


def request(do: control.Command, token: str = TOKEN, version: int = control.VERSION) -> bytes:
    return control.encode(control.Request(token=token, do=do, version=version))


async def test_a_request_is_answered_and_the_connection_ends(desk) -> None:
    _desk, path, _server = desk
    assert await talk(path, request(control.Status())) == [control.Done(data={"fine": True})]
    assert await talk(path, request(control.Reload())) == [
        control.Progress(text="reading"),
        control.Done(lines=("nothing changed",)),
    ]


async def test_the_socket_is_for_nobody_else(desk) -> None:
    _desk, path, _server = desk
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (request(control.Status(), token="wrong"), "token"),
        (request(control.Status(), token="ü"), "token"),
        (request(control.Status(), version=99), "version"),
        (b"hello\n", "not a control request"),
        (b"\xff\xfe\n", "not a control request"),
        (b'{"token":"x","do":{"command":"format_disk"}}\n', "not a control request"),
        (b'{"token":"x"}\n', "not a control request"),
        (b"x" * (control.MAX_REQUEST + 10), "at most"),
    ],
)
async def test_nonsense_is_refused_and_nothing_happens(desk, data: bytes, says: str) -> None:
    made, path, _server = desk
    (answer,) = await talk(path, data)
    assert isinstance(answer, control.Refused)
    assert says in answer.error
    assert answer.remedy or says == "at most"
    assert made.asked == []


async def test_slow_and_hung_clients_hold_up_nobody(desk) -> None:
    made, path, _server = desk
    slow = [await asyncio.open_unix_connection(str(path)) for _ in range(20)]
    for number, (_reader, writer) in enumerate(slow):
        writer.write(request(control.Status())[: number + 1])
    silent = socket.socket(socket.AF_UNIX)
    silent.connect(str(path))
    silent.send(request(control.Pause()))  # four megabytes it never reads
    await eventually_async(lambda: len(made.asked) == 1)
    assert await talk(path, request(control.Status())) == [control.Done(data={"fine": True})]
    silent.close()
    for _reader, writer in slow:
        writer.close()
        await writer.wait_closed()


async def test_a_client_that_never_asks_is_dropped(desk, monkeypatch) -> None:
    monkeypatch.setattr(server_module, "REQUEST_SECONDS", 0.05)
    _desk, path, _server = desk
    (answer,) = await talk(path, b"{")
    assert isinstance(answer, control.Refused)
    assert "no request within" in answer.error


async def test_a_client_that_does_not_read_its_answer_is_dropped(desk, monkeypatch) -> None:
    monkeypatch.setattr(server_module, "ANSWER_SECONDS", 0.05)
    _desk, path, server = desk
    deaf = socket.socket(socket.AF_UNIX)
    deaf.connect(str(path))
    deaf.send(request(control.Pause()))
    await eventually_async(lambda: server._callers)
    await eventually_async(lambda: not server._callers)
    deaf.close()


async def test_a_client_that_hangs_up_while_waiting_does_no_harm(desk) -> None:
    made, path, server = desk
    _reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(request(control.WaitReady()))
    await eventually_async(lambda: made.waiting)
    writer.close()
    await writer.wait_closed()
    made.waiting[0].answer(control.Progress(text="still there?"))
    made.waiting[0].answer(control.Done())
    made.waiting[0].answer(control.Done())
    await eventually_async(lambda: not server._callers)


async def test_a_client_that_only_shuts_its_sending_side_is_answered(desk) -> None:
    made, path, _server = desk
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(request(control.WaitReady()))
    writer.write_eof()
    await eventually_async(lambda: made.waiting)
    made.waiting[0].answer(control.Done())
    assert isinstance(control.read_answer((await reader.readline()).rstrip()), control.Done)
    writer.close()
    await writer.wait_closed()


async def test_too_many_connections_are_refused(desk, monkeypatch) -> None:
    monkeypatch.setattr(server_module, "MAX_CLIENTS", 1)
    _desk, path, server = desk
    first = socket.socket(socket.AF_UNIX)
    first.connect(str(path))
    await eventually_async(lambda: server._callers)
    (answer,) = await talk(path, request(control.Status()))
    assert isinstance(answer, control.Refused)
    first.close()


async def test_another_users_peer_is_refused(desk, monkeypatch) -> None:
    monkeypatch.setattr(server_module, "_peer_uid", lambda _connection: os.getuid() + 4242)
    made, path, _server = desk
    (answer,) = await talk(path, request(control.Status()))
    assert isinstance(answer, control.Refused)
    assert "another user" in answer.error
    assert made.asked == []


async def test_a_leftover_socket_is_replaced(home: Path) -> None:
    path = home / "control.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    server = ControlServer(asyncio.get_running_loop(), path, TOKEN, Desk().carry_out)
    assert await talk(path, request(control.Status()))
    await server.close()


def test_a_path_no_socket_can_have_is_refused_before_anything_is_made(home: Path) -> None:
    check_path(home / "control.sock")
    with pytest.raises(UsageError, match="107") as refused:
        check_path(home / ("x" * 100) / "control.sock")
    assert "shorter AGENTCTL_HOME" in refused.value.remedy
    assert isinstance(refused.value, SwarmError)
