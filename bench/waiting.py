"""What it costs to wait for a task by the command line, HTTP and MCP, in a long queue."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from mcp import ClientSession, StdioServerParameters, stdio_client

from bench.rows import Row, median
from swarm.config.places import Places
from swarm.ledger import NewTask, open_ledger

TASKS = 50_000
SAMPLES = 5
SAMPLE_SECONDS = 1.0
SETTLE_SECONDS = 2.0
"""After a start, until only waiting is left."""
LIMIT = 1.0
"""Percent of a core."""

_IDLE = "import time; time.sleep(3600)"
_POLLING = """\
import sys, time
from pathlib import Path
from swarm.ledger import open_ledger
with open_ledger(Path(sys.argv[1])) as ledger:
    seen = None
    while True:
        newest = ledger.last_event(), ledger.notes()
        if newest != seen:
            seen = newest
            ledger.task(sys.argv[2])
        time.sleep(0.05)
"""
"""How ``task wait`` used to look: twenty times a second."""
_SERVING = """\
import asyncio, sys
from pathlib import Path
from swarm.config.places import Places
from swarm.desk.service import serve_api
from swarm.logs import JsonLog
async def serve():
    places = Places(Path(sys.argv[1]))
    async with serve_api(places, "127.0.0.1:0", JsonLog(places.home / "api.log")):
        print("listening", flush=True)
        await asyncio.Event().wait()
asyncio.run(serve())
"""


def waiting() -> Iterator[Row]:
    """Processor time of processes that wait for one queued task."""
    with tempfile.TemporaryDirectory(prefix="agentctl-bench-") as folder:
        places = Places(Path(folder))
        task = _fill(places)
        idle = _used_by([sys.executable, "-c", _IDLE], places)
        polling = _used_by([sys.executable, "-c", _POLLING, str(places.ledger), task], places)
        command = _used_by(_agentctl("task", "wait", task), places)
        http = asyncio.run(_with(lambda: _http(places, task), places, task))
        mcp = asyncio.run(_with(lambda: _mcp(places, task), places, task))
    baseline = f"an idle interpreter {idle:.3f} %, looking 20 times a second {polling:.2f} %"
    for what, (share, told) in (
        ("`task wait`", (command, None)),
        ("an HTTP long poll, its server", http),
        ("an MCP `wait_task`, its server", mcp),
    ):
        raw = {"percent": share, "idle_percent": idle, "polling_percent": polling}
        if told is not None:
            raw["told_ms"] = told
        yield Row(
            f"waiting: {what}",
            f"{TASKS:,} tasks",
            f"{share:.3f} % of a core" + ("" if told is None else f"; told {told:.1f} ms after"),
            f"<= {LIMIT:g} %",
            share <= LIMIT,
            baseline,
            raw,
        )


def _fill(places: Places) -> str:
    with open_ledger(places.ledger) as ledger:
        for number in range(TASKS):
            task = ledger.submit(NewTask(prompt=f"task {number}"))
    return task


def _agentctl(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "swarm.cli", *arguments]


def _environ(places: Places) -> dict[str, str]:
    return {**os.environ, "AGENTCTL_HOME": str(places.home)}


def _used_by(argv: list[str], places: Places) -> float:
    process = subprocess.Popen(argv, env=_environ(places), stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        time.sleep(SETTLE_SECONDS)
        assert process.poll() is None, argv
        return _share(process.pid, time.sleep)
    finally:
        process.kill()
        process.wait()


def _share(pid: int, rest: Callable[[float], object]) -> float:
    """Percent of a core, the median of the samples."""
    shares = []
    for _ in range(SAMPLES):
        began, before = time.monotonic(), _nanoseconds(pid)
        rest(SAMPLE_SECONDS)
        shares.append((_nanoseconds(pid) - before) / 1e7 / (time.monotonic() - began))
    return median(shares)


def _nanoseconds(pid: int) -> int:
    """On a processor so far, all threads (``/proc/<pid>/task/*/schedstat``)."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)


Waiter = tuple[int, "asyncio.Future[Any]"]


async def _with(
    open_one: Callable[[], AbstractAsyncContextManager[Waiter]],
    places: Places,
    task: str,
) -> tuple[float, float]:
    """The share of a server with one waiter, and how long after the commit it was told, in ms."""
    async with open_one() as (pid, waiter):
        await asyncio.sleep(SETTLE_SECONDS)
        share = await asyncio.to_thread(_share, pid, time.sleep)
        assert not waiter.done()
        with open_ledger(places.ledger) as ledger:
            ledger.cancel(task)
            began = time.perf_counter()
            await waiter
            told = (time.perf_counter() - began) * 1000
            ledger.retry(task)
    return share, told


@asynccontextmanager
async def _http(places: Places, task: str) -> AsyncIterator[Waiter]:
    process = _serve(places)
    assert process.stdout is not None
    try:
        await asyncio.to_thread(process.stdout.readline)
        address = json.loads(places.api_address.read_bytes())["address"]
        token = places.api_token.read_text().strip()
        async with httpx2.AsyncClient(
            base_url=address, headers={"Authorization": f"Bearer {token}"}, trust_env=False,
            timeout=600,
        ) as client:  # fmt: skip
            wait = client.get(f"/v1/tasks/{task}/wait?seconds=600")
            yield process.pid, asyncio.ensure_future(wait)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _serve(places: Places) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _SERVING, str(places.home)],
        stdout=subprocess.PIPE,
        env=_environ(places),
    )


@asynccontextmanager
async def _mcp(places: Places, task: str) -> AsyncIterator[Waiter]:
    command, *arguments = _agentctl("mcp")
    server = StdioServerParameters(command=command, args=arguments, env=_environ(places))
    before = _children()
    async with AsyncExitStack() as stack:
        reading, writing = await stack.enter_async_context(stdio_client(server))
        session = await stack.enter_async_context(ClientSession(reading, writing))
        await session.initialize()
        (pid,) = _children() - before
        call = session.call_tool("wait_task", {"id": task, "seconds": 600})
        yield pid, asyncio.ensure_future(call)


def _children() -> set[int]:
    threads = Path("/proc/self/task").iterdir()
    return {int(pid) for thread in threads for pid in (thread / "children").read_text().split()}
