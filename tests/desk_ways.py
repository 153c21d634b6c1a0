"""The three ways to the desk behind one call, so that one test asks all of them the same."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any, Protocol

import httpx2
from mcp import Client

from swarm.config.places import Places
from swarm.desk.mcp import make_server
from swarm.desk.office import Office
from swarm.desk.routes import _ADDRESSES
from swarm.desk.service import serve_api
from swarm.logs import JsonLog


class Refusal(Exception):
    """What a way answered instead: one line."""


class Way(Protocol):
    """One way to the desk."""

    async def call(self, verb: str, **fields: Any) -> dict[str, Any]:
        """The reply; raises :class:`Refusal`."""


class Http:
    """The HTTP interface, by a client that knows nothing of it."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self.client = client

    async def call(self, verb: str, **fields: Any) -> dict[str, Any]:
        ((method, address),) = [(m, a) for m, a, name in _ADDRESSES if name == verb]
        if "{id}" in address:
            address = address.replace("{id}", fields.pop("id"))
        if method == "GET":
            answer = await self.client.get(address, params=fields)
        else:
            answer = await self.client.post(address, json=fields)
        told = answer.json()
        if answer.is_error:
            assert answer.text.count("\n") == 1, answer.text
            raise Refusal(f"{told['error']}; {told['remedy']}")
        return dict(told)


class Mcp:
    """The MCP server, by the SDK's own client."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def call(self, verb: str, **fields: Any) -> dict[str, Any]:
        result = await self.client.call_tool(verb, fields)
        (content,) = result.content
        if result.is_error:
            assert "\n" not in content.text
            raise Refusal(content.text)
        told = json.loads(content.text)
        assert told == result.structured_content
        return dict(told)


class Cli:
    """The command line, in processes of its own."""

    def __init__(self, places: Places) -> None:
        self.places = places

    async def call(self, verb: str, **fields: Any) -> dict[str, Any]:
        done = await asyncio.to_thread(self.run, *argv(verb, fields))
        if done.returncode:
            assert done.stderr.count("\n") == 1, done.stderr
            if verb == "claim_task" and "no task to be had" in done.stderr:
                return {"version": 1, "lease": None}
            raise Refusal(done.stderr)
        return dict(json.loads(done.stdout))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``agentctl`` with this home."""
        return subprocess.run(
            [sys.executable, "-P", "-m", "swarm.cli", *arguments],
            env={"AGENTCTL_HOME": str(self.places.home), "PATH": "/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )


COMMANDS = {
    "claim_task": "claim",
    "renew_lease": "renew",
    "release_task": "release",
    "respond_task": "respond",
    "await_task": "wait",
}


def argv(verb: str, fields: dict[str, Any]) -> list[str]:
    """The command line for a verb of the lanes."""
    command = ["lane", COMMANDS[verb], "--json"]
    for name, value in fields.items():
        match name:
            case "id" | "text":
                if verb == "claim_task":
                    command += ["--task", value]
                else:
                    command.append(value)
            case "name":
                command += ["--as", value]
            case "labels":
                command += [f"--label={key}={said}" for key, said in value.items()]
            case "roles":
                command += [f"--role={role}" for role in value]
            case "seconds":
                command += ["--timeout", str(value)]
            case _:
                option = {"lease_seconds": "lease", "wait_seconds": "wait"}.get(name, name)
                command += [f"--{option}", str(value)]
    return command


@contextlib.asynccontextmanager
async def http_of(places: Places, decides: bool = False) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of an interface of this home's, with its token."""
    places.logs.mkdir(parents=True, exist_ok=True)
    async with (
        serve_api(
            places, "127.0.0.1:0", JsonLog(places.service_log("api")), decides=decides
        ) as address,
        httpx2.AsyncClient(
            base_url=address,
            headers={"Authorization": f"Bearer {places.api_token.read_text().strip()}"},
            trust_env=False,
            timeout=60,
        ) as client,
    ):
        yield client


@contextlib.asynccontextmanager
async def way_of(kind: str, places: Places, *, decides: bool = False) -> AsyncIterator[Way]:
    """One of ``cli``, ``http``, ``mcp`` to this home's desk."""
    if kind == "cli":
        yield Cli(places)
    elif kind == "http":
        async with http_of(places, decides) as client:
            yield Http(client)
    else:
        async with (
            Office(places, "mcp tester") as office,
            Client(make_server(office, "tester", decides=decides)) as session,
        ):
            yield Mcp(session)
