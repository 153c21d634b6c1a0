"""The desk of a whole swarm: over HTTP, MCP and the command line, at the same tasks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp import ClientSession, StdioServerParameters, stdio_client
from swarm_support import Swarm
from tests_support import eventually, stretch

from swarm.core.model import TaskState


@asynccontextmanager
async def mcp_client(swarm: Swarm, name: str) -> AsyncIterator[ClientSession]:
    server = StdioServerParameters(
        command=sys.executable,
        args=["-P", "-m", "swarm.cli", "mcp", "--as", name],
        env=swarm.environ,
    )
    with (swarm.root / f"mcp-{name}.stderr").open("w") as errors:
        async with (
            stdio_client(server, errors) as (reading, writing),
            ClientSession(reading, writing) as session,
        ):
            await session.initialize()
            yield session


async def tool(session: ClientSession, verb: str, **fields: Any) -> dict[str, Any]:
    async with asyncio.timeout(60 * stretch()):
        result = await session.call_tool(verb, fields)
    assert not result.is_error, result.content
    return dict(result.structured_content or {})


def api_of(swarm: Swarm) -> httpx2.Client:
    told = json.loads(swarm.places.api_address.read_text())
    token = swarm.places.api_token.read_text().strip()
    return httpx2.Client(
        base_url=told["address"],
        headers={"Authorization": f"Bearer {token}"},
        trust_env=False,
        timeout=60,
    )


async def test_an_mcp_client_submits_waits_and_reads_the_result(swarm: Swarm) -> None:
    swarm.up()
    async with mcp_client(swarm, "asker") as asker, mcp_client(swarm, "reviewer") as reviewer:
        prompt = "write a.txt hello\ncommit add a.txt\nanswer It is there."
        added = await tool(asker, "submit_task", prompt=prompt)
        assert added["swarm_running"] is True
        told = await tool(asker, "wait_task", id=added["id"], seconds=60)
        assert (told["ended"], told["task"]["state"], told["task"]["result"]) == (
            True, "done", "branch",
        )  # fmt: skip
        assert told["task"]["answer"] == "It is there."
        shown = swarm.git("show", f"{told['task']['branch']}:a.txt", cwd=swarm.hub())
        assert shown == "hello"
        eventually(lambda: len(swarm.agents("idle")) == 3)  # it is so a moment after its task
        status = await tool(asker, "fleet_status")
        assert (status["running"], status["agents"]) == (True, {"idle": 3})
        # What nobody of the fleet takes waits for somebody outside.
        added = await tool(asker, "submit_task", prompt="Is it good?", lane="reviews")
        waiting = asyncio.ensure_future(tool(asker, "wait_task", id=added["id"], seconds=60))
        taken = await tool(reviewer, "claim_task", lane="reviews", wait_seconds=30)
        lease = taken["lease"]
        assert lease["prompt"] == "Is it good?"
        await tool(reviewer, "respond_task", id=lease["id"], fence=lease["fence"], text="Yes.")
        assert (await waiting)["task"]["answer"] == "Yes."


def test_the_http_interface_is_a_service_like_any_other(swarm: Swarm) -> None:
    swarm.configure(api={"listen": "127.0.0.1:0"})
    swarm.up()
    (service,) = [one for one in swarm.status()["services"] if one["name"] == "api"]
    with api_of(swarm) as client:
        assert service["address"] == str(client.base_url).rstrip("/")
        added = client.post("/v1/tasks", json={"prompt": "answer From the fleet."}).json()
        told = client.get(f"/v1/tasks/{added['id']}/wait?seconds=60").json()
        assert told["task"]["answer"] == "From the fleet."
        added = client.post("/v1/tasks", json={"prompt": "Outside?", "lane": "out"}).json()
        asked = {"name": "ada", "lane": "out", "wait_seconds": 30, "lease_seconds": 1}
        lease = client.post("/v1/lane/claim", json=asked).json()["lease"]
        assert lease["id"] == added["id"]
        # The lease runs out; its answer is refused, another's is taken.
        eventually(lambda: swarm.task(added["id"]).state is TaskState.QUEUED)
        answer = {"id": added["id"], "fence": lease["fence"], "name": "ada", "text": "Late."}
        late = client.post("/v1/lane/respond", json=answer)
        assert late.status_code == 409
        said = swarm.must("lane", "claim", "--lane", "out", "--as", "bob", "--json")
        fence = json.loads(said)["lease"]["fence"]
        swarm.must("lane", "respond", added["id"], f"--fence={fence}", "--as=bob", "In time.")
        assert swarm.task(added["id"]).answer == "In time."
        assert client.get("/v1/status").json()["running"] is True
    # Killed, it comes back where it was.
    os.kill(service["pid"], signal.SIGKILL)

    def again() -> dict[str, Any] | None:
        (now,) = [one for one in swarm.status()["services"] if one["name"] == "api"]
        return now if now["state"] == "running" and now["pid"] != service["pid"] else None

    now = eventually(again)
    assert now["address"] == service["address"]
    # A new program of the swarm's finds it, and leaves it alone.
    swarm.must("swarm", "upgrade")
    (upgraded,) = [one for one in swarm.status()["services"] if one["name"] == "api"]
    assert (upgraded["pid"], upgraded["address"]) == (now["pid"], now["address"])
    with api_of(swarm) as client:
        assert client.get("/v1/tasks").json()["total"] == 2
    swarm.must("swarm", "stop")
    swarm.gone()


def test_no_interface_without_an_address(swarm: Swarm) -> None:
    swarm.up()
    assert [one["name"] for one in swarm.status()["services"]] == ["chat", "coordinator"]
    assert not swarm.places.api_token.exists()
