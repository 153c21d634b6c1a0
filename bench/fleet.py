"""A swarm of its own for a measurement: temporary home, scripted agents, nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from swarm.cli.control import ask, poke
from swarm.config.places import Places
from swarm.ledger import NewTask, open_ledger
from swarm.wire import control


class Fleet:
    """``with Fleet(50) as fleet``: up and ready inside, stopped and removed after."""

    def __init__(
        self,
        count: int,
        *,
        heartbeat: float = 30,
        max_active: int = 5,
        base_seconds: float = 1,
        max_restarts: int = 5,
        sample_seconds: float = 10,
    ) -> None:
        self.count = count
        self.root = Path(tempfile.mkdtemp(prefix="agentctl-bench-", dir="/tmp"))
        self.places = Places(self.root / "home")
        self.places.roles.mkdir(mode=0o700, parents=True)
        self.places.home.chmod(0o700)
        (self.places.roles / "builder.yaml").write_text("runtime: scripted\n")
        self.places.config.write_text(
            f"""\
version: 1
workspace_base: {json.dumps(str(self.root / "agents"))}
agents: [{{role: builder, count: {count}}}]
chat: {{listen: "127.0.0.1:0"}}
limits: {{max_active: {max_active}, min_free_memory_mb: 0, stagger_seconds: 0}}
health: {{heartbeat_seconds: {heartbeat}, sample_seconds: {sample_seconds}}}
restart: {{base_seconds: {base_seconds}, max_restarts: {max_restarts}}}
stop: {{grace_seconds: 1}}
"""
        )
        self.environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("AGENTCTL_", "GIT_"))},
            "AGENTCTL_HOME": str(self.places.home),
        }
        self.seconds_to_ready = 0.0

    def __enter__(self) -> Fleet:
        began = time.monotonic()
        self.agentctl("swarm", "up", "--detach")
        self.seconds_to_ready = time.monotonic() - began
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self.agentctl("swarm", "stop", "--now")
        shutil.rmtree(self.root, ignore_errors=True)

    def agentctl(self, *arguments: str) -> str:
        """Run a command of this same program, outside any repository."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "swarm.cli", *arguments],
            env=self.environ,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"bench: agentctl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def status(self) -> dict[str, Any]:
        """The supervisor's answer."""
        return ask(self.places, control.Status()).data

    def processes(self) -> list[int]:
        """Every process of the swarm: supervisor, zygote, services, daemons."""
        supervisor = int(self.status()["swarm"]["pid"])
        return [supervisor, *children(supervisor)]

    def daemons(self) -> list[int]:
        """The daemons' pids."""
        return [int(agent["pid"]) for agent in self.status()["agents"] if agent["pid"]]

    def submit(self, prompt: str) -> tuple[str, float]:
        """Commit a task and poke; its id and the Unix time just after the commit."""
        with open_ledger(self.places.ledger) as ledger:
            task = ledger.submit(NewTask(prompt=prompt, role="builder"))
            committed = time.time()
        poke(self.places)
        return task, committed

    def journal(self) -> Iterator[dict[str, Any]]:
        """Every journal entry so far."""
        path = self.places.journal / "journal.jsonl"
        for line in path.read_text().splitlines():
            yield json.loads(line)


def children(pid: int) -> list[int]:
    """Direct children of a process."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def proportional_memory(pid: int) -> float:
    """PSS in MB: shared pages are divided among those who share them."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def processor_seconds(pid: int) -> float:
    """Time on a processor, to the nanosecond (``/proc/<pid>/schedstat``)."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def until(condition: Any, within: float = 60.0) -> Any:
    """Poll until ``condition()`` is truthy; its value."""
    end = time.monotonic() + within
    while not (value := condition()):
        if time.monotonic() > end:
            raise SystemExit(f"bench: not within {within} s: {condition}")
        time.sleep(0.002)
    return value
