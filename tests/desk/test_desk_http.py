"""Who may use the HTTP interface, and what a hostile client can do with it: nothing."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import json
import os
import stat
import time
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from desk_ways import http_of
from tests_support import eventually_async, stretch

from swarm.config.places import Places
from swarm.desk import connections, guard, waits
from swarm.desk.control import poke
from swarm.desk.requests import MAX_WAIT
from swarm.desk.service import serve_api
from swarm.errors import SwarmError, UsageError
from swarm.ledger import Ledger, NewTask
from swarm.logs import JsonLog


def one_line_error(answer: httpx2.Response, status: int) -> dict[str, object]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.text.count("\n") == 1
    told = json.loads(answer.text)
    assert told["version"] == 1
    assert told["error"]
    assert not any(name.startswith("access-control") for name in answer.headers)
    return dict(told)


async def test_the_token_and_the_address_are_for_nobody_else(places: Places) -> None:
    async with http_of(places) as client:
        for path in (places.api_token, places.api_address):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        told = json.loads(places.api_address.read_text())
        assert told["address"] == str(client.base_url).rstrip("/")
        token = places.api_token.read_text()
    places.api_token.chmod(0o644)
    async with http_of(places):
        assert places.api_token.read_text() == token, "the same after a restart"
        assert stat.S_IMODE(places.api_token.stat().st_mode) == 0o600
    places.api_token.write_text("short\n")
    async with http_of(places):
        assert len(places.api_token.read_text().strip()) == 64


@pytest.mark.parametrize(
    "shown", [None, "", "Bearer", "Bearer x", "Basic {token}", "Bearer {token}x", "{token}"]
)
async def test_without_the_token_nothing_is_looked_at(
    shown: str | None, places: Places, ledger: Ledger
) -> None:
    async with http_of(places) as client:
        token = places.api_token.read_text().strip()
        del client.headers["authorization"]
        headers = {} if shown is None else {"authorization": shown.format(token=token)}
        for path in ("/v1/tasks", "/v1/nothing"):
            one_line_error(await client.post(path, content=b"{", headers=headers), 401)
    assert ledger.tasks() == []


async def test_what_was_taken_in_is_answered_where_the_swarm_cannot_be_looked_for(
    places: Places, ledger: Ledger
) -> None:
    """As by an interface without a descriptor left: an error would say that nothing was done."""
    async with http_of(places) as client:
        places.pid_file.symlink_to(places.pid_file)
        answer = await client.post("/v1/tasks", json={"prompt": "x"})
        assert answer.status_code == 201
        assert ledger.task(answer.json()["id"]) is not None
    assert not poke(places)


async def test_a_swarm_that_cannot_be_told_is_no_defect(
    places: Places, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a descriptor left the first thread cannot even be imported."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, what: complaints.append(what))

    async def to_thread(*_arguments: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async with http_of(places) as client:
        monkeypatch.setattr(asyncio, "to_thread", to_thread)
        answer = await client.post("/v1/tasks", json={"prompt": "x"})
        assert answer.status_code == 201
    gc.collect()
    assert complaints == []


async def test_a_name_that_points_at_the_loopback_is_refused(
    places: Places, ledger: Ledger
) -> None:
    """DNS rebinding: the browser sends the page's own name."""
    async with http_of(places) as client:
        port = client.base_url.port
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port}.x"):
            answer = await client.post("/v1/tasks", json={"prompt": "x"}, headers={"host": host})
            one_line_error(answer, 421)
        answer = await client.get("/v1/tasks", headers={"host": f"localhost:{port}"})
        assert answer.status_code == 200
        one_line_error(await client.options("/v1/tasks", headers={"origin": "http://e"}), 405)
    assert ledger.tasks() == []


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"7",
        b'"x"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"prompt":' * 20_000 + b"1" + b"}" * 20_000,
        b'{"prompt": 5}',
        b'{"prompt": "x", "promt": "y"}',
        b'{"prompt": ""}',
        b'{"prompt": "a\\u0000b"}',
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "x", "priority": 1e400}',
        b'{"prompt": "x", "role": "../../etc"}',
        b'{"prompt": "x", "role": "nobody"}',
        b'{"prompt": "x", "after": ["t-nothing"]}',
        b'{"prompt": "x", "labels": {"A": "b"}}',
        b'{"prompt": "x", "repo": "/etc"}',
        b'{"prompt": "x", "token_budget": -1}',
    ],
)
async def test_a_bad_body_is_told_in_one_line(body: bytes, places: Places, ledger: Ledger) -> None:
    async with http_of(places) as client:
        one_line_error(await client.post("/v1/tasks", content=body), 400)
        assert (await client.get("/v1/tasks")).status_code == 200
    assert ledger.tasks() == []


async def test_a_body_that_is_too_long_is_not_kept(places: Places, ledger: Ledger) -> None:
    async with http_of(places) as client:
        for size in (guard.MAX_BODY + 1, 4 * guard.MAX_BODY):
            one_line_error(await client.post("/v1/tasks", content=b"x" * size), 413)

        async def endless() -> object:
            while True:
                yield b"x" * 65536

        with contextlib.suppress(httpx2.TransportError):  # it may be hung up on while it sends
            one_line_error(await client.post("/v1/tasks", content=endless()), 413)
        long = "x" * 200_000
        assert (await client.post("/v1/tasks", json={"prompt": long})).status_code == 201
    assert len(ledger.tasks()) == 1


@pytest.mark.parametrize(
    "path",
    [
        "/v1/tasks/..%2f..%2fetc%2fpasswd",
        "/v1/tasks/%00",
        "/v1/tasks/%1b%5b2J",
        "/v1/tasks/t-nothing/wait",
        "/v1/tasks/" + "t" * 5000,
        "/v1/../control.token",
        "/v2/tasks",
        "/",
        "//v1/tasks",
        "/v1/tasks/",
    ],
)
async def test_odd_addresses_name_nothing(path: str, places: Places, ledger: Ledger) -> None:
    async with http_of(places) as client:
        answer = await client.get(path)
        told = one_line_error(answer, 404)
        assert "\x1b" not in str(told)


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "state=dead", "nothing=1", "limit=5&limit=-1"],
)
async def test_odd_queries_are_told(query: str, places: Places, ledger: Ledger) -> None:
    async with http_of(places) as client:
        one_line_error(await client.get(f"/v1/tasks?{query}"), 400)


async def test_lists_and_waits(places: Places, ledger: Ledger) -> None:
    first, second = ledger.submit(NewTask("a")), ledger.submit(NewTask("b"))
    ledger.cancel(second)
    async with http_of(places) as client:
        told = (await client.get("/v1/tasks?state=queued&state=running&limit=5")).json()
        assert ([one["id"] for one in told["tasks"]], told["total"]) == ([first], 2)
        told = (await client.get(f"/v1/tasks/{first}/wait?seconds=0.01")).json()
        assert (told["ended"], told["task"]["state"]) == (False, "queued")
        assert told["where"]["next_step"] == "no swarm is running"
        assert told["where"]["last_event"]["kind"] == "submitted"
        waiting = asyncio.ensure_future(client.get(f"/v1/tasks/{first[2:]}/wait?seconds=60"))
        await asyncio.sleep(0)
        assert (await client.post(f"/v1/tasks/{first}/cancel")).json()["state"] == "cancelled"
        async with asyncio.timeout(10 * stretch()):
            assert (await waiting).json()["ended"] is True
        one_line_error(await client.get(f"/v1/tasks/{first}/wait?seconds={MAX_WAIT + 1}"), 400)
        told = (await client.post(f"/v1/tasks/{first}/retry", json={})).json()
        assert told["state"] == "queued"
        assert (await client.get("/v1/status")).json()["tasks"]["queued"] == 1


async def test_who_went_away_waits_no_more(
    places: Places, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim of a client that is gone takes no task."""
    claims: list[asyncio.Task[object] | None] = []
    claim = waits.claim

    async def noted(*asked: Any) -> object:
        claims.append(asyncio.current_task())
        return await claim(*asked)

    monkeypatch.setattr(waits, "claim", noted)
    async with http_of(places) as client:
        asked = client.post("/v1/lane/claim", json={"name": "ada", "wait_seconds": 60})
        waiting = asyncio.ensure_future(asked)
        await eventually_async(lambda: claims)
        waiting.cancel()
        await asyncio.wait([waiting])
        (served,) = claims
        assert served is not None
        await eventually_async(served.done)
        task = ledger.submit(NewTask("x"))
        assert (await client.get(f"/v1/tasks/{task}/wait?seconds=0.1")).json()["ended"] is False
    found = ledger.task(task)
    assert found is not None
    assert not found.held


async def connect(places: Places) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(json.loads(places.api_address.read_text())["address"])
    return await asyncio.open_connection(address.hostname, address.port)


@pytest.mark.parametrize("sent", [b"", b"POST /v1/tasks HTTP/1.1\r\nHost: ", b"GET / HTT"])
async def test_who_takes_his_time_is_hung_up_on(
    sent: bytes, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.05)
    async with http_of(places):
        reader, writer = await connect(places)
        writer.write(sent)
        async with asyncio.timeout(10 * stretch()):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()


async def test_a_body_that_does_not_come_is_not_waited_for(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.05)
    async with http_of(places) as client:
        reader, writer = await connect(places)
        head = f"POST /v1/tasks HTTP/1.1\r\nHost: {client.base_url.netloc.decode()}\r\n"
        head += f"Authorization: {client.headers['authorization']}\r\nContent-Length: 9\r\n\r\n{{"
        writer.write(head.encode())
        async with asyncio.timeout(10 * stretch()):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"no whole request" in answer
        writer.close()


@pytest.mark.parametrize(
    "sent",
    [b"\x16\x03\x01\x02\x00\x01", b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nA: " + b"x" * 100_000],
)
async def test_what_is_no_http_is_told_so(sent: bytes, places: Places) -> None:
    async with http_of(places) as client:
        reader, writer = await connect(places)
        writer.write(sent)
        async with asyncio.timeout(10 * stretch()):
            try:
                answer = await reader.read()
            except ConnectionResetError:
                answer = b"HTTP/1.1 400 "  # it was told while it still sent
        assert answer.startswith(b"HTTP/1.1 400 ")
        writer.close()
        assert (await client.get("/v1/tasks")).status_code == 200


async def test_an_answer_that_nobody_reads_is_given_up(
    places: Places, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "UNREAD_SECONDS", 0.05)
    prompt = "x" * 200_000
    task = ledger.submit(NewTask(prompt))
    aborted: list[float] = []
    lost = connections.Connection.connection_lost

    def note(self: connections.Connection, error: Exception | None) -> None:
        aborted.append(time.monotonic())
        lost(self, error)

    monkeypatch.setattr(connections.Connection, "connection_lost", note)
    async with http_of(places) as client:
        _reader, writer = await connect(places)
        head = f"GET /v1/tasks/{task} HTTP/1.1\r\nHost: {client.base_url.netloc.decode()}\r\n"
        head += f"Authorization: {client.headers['authorization']}\r\n\r\n"
        writer.transport.pause_reading()
        writer.write(head.encode() * 200)
        await eventually_async(lambda: aborted, within=20)
        writer.transport.abort()


async def test_too_many_at_once_are_told_to_come_again(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "MAX_REQUESTS", 2)
    async with http_of(places) as client:
        ask = {"seconds": 30}
        waits = [asyncio.ensure_future(client.post("/v1/lane/wait", json=ask)) for _ in range(3)]
        async with asyncio.timeout(10 * stretch()):
            done, others = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        one_line_error(done.pop().result(), 503)
        for wait in others:
            wait.cancel()
        await asyncio.wait(others)


async def test_a_defect_of_ours_is_one_line_and_goes_on_record(
    places: Places, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object, **_named: object) -> None:
        raise ZeroDivisionError("secret")

    async with http_of(places) as client:
        monkeypatch.setattr("swarm.desk.verbs.show_json", broken)
        told = one_line_error(await client.get(f"/v1/tasks/{ledger.submit(NewTask('x'))}"), 500)
        assert "secret" not in str(told)
    assert "secret" in places.service_log("api").read_text()


async def test_a_port_that_is_taken_is_said(places: Places) -> None:
    log = JsonLog(places.home / "api.log")
    async with http_of(places) as client:
        listen = f"127.0.0.1:{client.base_url.port}"
        with pytest.raises(SwarmError, match=r"cannot listen on .*Address already in use"):
            async with serve_api(places, listen, log):
                pass
    for listen in ("0.0.0.0:0", "192.168.1.1:80", "[::]:0", "nonsense"):
        with pytest.raises(UsageError, match=r"api\.listen"):
            async with serve_api(places, listen, log):
                pass
