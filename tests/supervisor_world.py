"""A real supervisor as a process of its own, in a home of its own, for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from tests_support import eventually

from swarm.cli.control import ask
from swarm.config.places import Places
from swarm.errors import SwarmError
from swarm.ledger import open_ledger
from swarm.ledger.interface import NewTask
from swarm.sandbox import cgroup_place, cgroups
from swarm.wire import control

CONFIG = """\
version: 1
workspace_base: {base}
agents: [{{role: builder, count: {count}}}]
chat: {{listen: "127.0.0.1:0"}}
health: {{heartbeat_seconds: {beat}, sample_seconds: 0.5}}
restart: {{base_seconds: 0.05}}
limits: {{min_free_memory_mb: 0, min_free_disk_mb: 0, stagger_seconds: 0}}
stop: {{grace_seconds: 2}}
{more}
"""


class World:
    """One home; at most one supervisor at a time."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.places = Places(home)
        self.base = home / "w"
        self.process: subprocess.Popen[bytes] | None = None
        self.configure()

    def configure(self, count: int = 2, beat: float = 0.5, more: str = "") -> None:
        """Write ``swarm.yaml``; builders run the scripted agent."""
        (self.home / "roles").mkdir(exist_ok=True)
        (self.home / "roles" / "builder.yaml").write_text("runtime: scripted\n")
        text = CONFIG.format(base=self.base, count=count, beat=beat, more=more)
        (self.home / "swarm.yaml").write_text(text)

    # -- the process ------------------------------------------------------------------------------

    def start(self, **overrides: object) -> dict[str, Any]:
        """Start it and return what it says on the ready pipe; nothing if it died without."""
        reader, writer = os.pipe()
        environ = {**os.environ, "AGENTCTL_HOME": str(self.home)}
        arguments = ["--overrides", msgspec.json.encode(overrides).decode()]
        with open(self.home / "out.txt", "ab") as out:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "swarm.supervisor"),
                    *arguments,
                    *("--ready-fd", str(writer)),
                ],
                env=environ,
                pass_fds=[writer],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            line = pipe.readline()
        answer: dict[str, Any] = msgspec.json.decode(line) if line else {}
        return answer

    def up(self, **overrides: object) -> dict[str, Any]:
        """Start it, and it must be ready."""
        answer = self.start(**overrides)
        assert answer.get("ready"), (answer, (self.home / "out.txt").read_text())
        return answer

    @property
    def pid(self) -> int:
        """The supervisor's."""
        assert self.process is not None
        return self.process.pid

    def wait(self, within: float = 20.0) -> int:
        """Its exit status."""
        assert self.process is not None
        return self.process.wait(within)

    def end(self) -> None:
        """Whatever happened, nothing stays."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait(10)
        if self.places.home_id.exists():  # a killed swarm's: the next up would remove them
            cgroups.sweep(cgroup_place.find().folders(self.places.home_id.read_text().strip()))

    # -- talking to it ----------------------------------------------------------------------------

    def ask(self, command: control.Command) -> control.Done:
        """One control request."""
        return ask(self.places, command, patience=60.0)

    def status(self) -> dict[str, Any]:
        """The supervisor's part of the status."""
        return self.ask(control.Status()).data

    def agents(self) -> dict[str, dict[str, Any]]:
        """Agents by name."""
        return {agent["name"]: agent for agent in self.status()["agents"]}

    def services(self) -> dict[str, dict[str, Any]]:
        """Services by name."""
        return {service["name"]: service for service in self.status()["services"]}

    def states(self) -> list[str]:
        """The agents' states, by name."""
        return [agent["state"] for _name, agent in sorted(self.agents().items())]

    def active(self) -> list[dict[str, Any]]:
        """Agents whose session runs."""
        return [agent for agent in self.agents().values() if agent["state"] == "active"]

    def wrote(self, agent: dict[str, Any], name: str) -> None:
        """Wait until its session has come as far as writing that file into its clone."""
        eventually((self.base / agent["name"] / "repo" / name).exists, 10.0)

    def let_go(self, agent: dict[str, Any]) -> None:
        """End the wait of its session's ``HELD``."""
        (self.base / agent["name"] / "repo" / "go").touch()

    def stop(self, **how: Any) -> int:
        """Stop it by command; its exit status."""
        self.ask(control.Stop(**how))
        return self.wait()

    def journal(self, kind: str) -> list[dict[str, Any]]:
        """Entries of one kind."""
        lines = (self.home / "journal" / "journal.jsonl").read_bytes().splitlines()
        return [entry for line in lines if (entry := msgspec.json.decode(line))["kind"] == kind]

    # -- tasks ------------------------------------------------------------------------------------

    def add(self, prompt: str) -> str:
        """Submit a task and poke; its id."""
        with open_ledger(self.places.ledger) as ledger:
            task = ledger.submit(NewTask(prompt=prompt, role="builder"))
        with suppress(SwarmError):
            ask(self.places, control.PokeLedger(), patience=5.0)
        return task

    def task(self, task: str) -> Any:
        """The ledger's row."""
        with open_ledger(self.places.ledger) as ledger:
            return ledger.task(task)

    def attempts(self, task: str) -> list[Any]:
        """Its attempts."""
        with open_ledger(self.places.ledger) as ledger:
            return list(ledger.attempts(task))

    def done(self, task: str, within: float = 20.0) -> Any:
        """Wait until it has ended."""

        def ended() -> Any:
            row = self.task(task)
            return row if row.state.ended else None

        return eventually(ended, within, f"task {task} has ended: {self.task(task)}")


@contextmanager
def world(home: Path) -> Iterator[World]:
    """A world that is cleaned up."""
    made = World(home)
    try:
        yield made
    finally:
        made.end()


def gone(pid: int) -> bool:
    """Whether a process is dead; a zombie that its new parent has not reaped is."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return text.rpartition(")")[2].split()[0] in "ZX"


def family(pid: int) -> list[int]:
    """Every live process below ``pid``."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children(waiting.pop())
        found += below
        waiting += below
    return found


def children(pid: int) -> list[int]:
    """Every live child of ``pid`` itself."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def kill(pid: int) -> None:
    """``kill -9`` of a process the test started."""
    os.kill(pid, signal.SIGKILL)
