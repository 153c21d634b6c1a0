"""A whole swarm of real processes for a test: its home, repository and agents in one directory.

Every process it starts carries that directory in its environment, or works inside it; that is
how a test sees that nothing is left behind.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests_support import eventually

from swarm.cli.control import ask
from swarm.config.places import Places
from swarm.errors import SwarmError
from swarm.ledger import Attempt, Task, open_ledger
from swarm.sandbox import cgroup_place, cgroups
from swarm.wire import control


class Swarm:
    """One ``AGENTCTL_HOME`` with a configuration; brought up and down by its test."""

    def __init__(self, *, source: bool = True, runtime: str = "scripted") -> None:
        self.root = Path(tempfile.mkdtemp(prefix="ac-swarm-", dir="/tmp")).resolve()
        self.places = Places(self.root / "home")
        self.repository = self.root / "project"
        self.places.roles.mkdir(mode=0o700, parents=True)
        self.places.home.chmod(0o700)
        for role in ("builder", "auditor", "planner", "qa", "general"):
            (self.places.roles / f"{role}.yaml").write_text(f"runtime: {runtime}\n")
        if source:
            make_repository(self.repository)
        self.source = source
        self.configure()

    def configure(self, **sections: Any) -> None:
        """Write swarm.yaml: quick and quiet defaults, overridden section by section."""
        settings: dict[str, Any] = {
            "version": 1,
            "workspace_base": str(self.root / "agents"),
            "agents": [{"role": "builder", "count": 3}],
            "chat": {"listen": "127.0.0.1:0"},
            "limits": {"min_free_memory_mb": 0, "min_free_disk_mb": 0, "stagger_seconds": 0},
            "repo": {"merge": "none"},  # the tests of landing ask for it
            "health": {"heartbeat_seconds": 1, "sample_seconds": 1},
            "restart": {"base_seconds": 0.1},
            "stop": {"grace_seconds": 1},
        }
        if self.source:
            settings["repo"] |= {
                "source": str(self.repository),
                "author": "Test <test@example.org>",
            }
        for section, values in sections.items():
            if isinstance(values, dict):
                settings[section] = {**settings.get(section, {}), **values}
            else:
                settings[section] = values
        self.places.config.write_text(json.dumps(settings))  # JSON is YAML

    @property
    def environ(self) -> dict[str, str]:
        """A person's environment with this home; PATH as it is."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AGENTCTL_", "GIT_"))}
        return {**kept, "AGENTCTL_HOME": str(self.places.home)}

    def agentctl(
        self, *arguments: str, within: float = 60, cwd: Path | None = None, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run ``agentctl``; its exit status is the test's to judge."""
        return subprocess.run(
            [sys.executable, "-P", "-m", "swarm.cli", *arguments],
            env={**self.environ, **environ},
            cwd=cwd or self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )

    def must(self, *arguments: str, within: float = 60, cwd: Path | None = None) -> str:
        """Run ``agentctl`` and expect exit status 0; what it printed."""
        done = self.agentctl(*arguments, within=within, cwd=cwd)
        assert done.returncode == 0, f"agentctl {arguments}: {done.stderr}\n{self.log_tail()}"
        return done.stdout

    def up(self, *arguments: str) -> int:
        """Bring it up, detached; the supervisor's pid."""
        self.must("swarm", "up", "--detach", *arguments)
        return int(self.status()["swarm"]["pid"])

    def status(self) -> dict[str, Any]:
        """The supervisor's own answer."""
        return ask(self.places, control.Status()).data

    def agents(self, state: str | None = None) -> list[dict[str, Any]]:
        """The agents, or those in one state."""
        return [a for a in self.status()["agents"] if state in (None, a["state"])]

    def add(self, prompt: str, role: str = "builder", *options: str) -> str:
        """Add a task by the command line; its id."""
        text = self.must("task", "add", "--role", role, "--json", *options, "--", prompt)
        return str(json.loads(text)["id"])

    def task(self, task: str) -> Task:
        """One task as the ledger has it."""
        with open_ledger(self.places.ledger) as ledger:
            found = ledger.task(task)
        assert found is not None
        return found

    def attempts(self, task: str) -> list[Attempt]:
        """Its attempts."""
        with open_ledger(self.places.ledger) as ledger:
            return ledger.attempts(task)

    def ended(self, tasks: list[str], within: float = 30) -> list[Task]:
        """Wait until all have ended; the tasks."""
        with open_ledger(self.places.ledger) as ledger:

            def look() -> list[Task] | None:
                found = [ledger.task(task) for task in tasks]
                return [t for t in found if t] if all(t and t.state.ended for t in found) else None

            return (
                eventually(look, within, lambda: f"tasks have not ended\n{self.log_tail()}") or []
            )

    def active(self, count: int, within: float = 15) -> list[dict[str, Any]]:
        """Wait until so many sessions run; their agents."""
        return (
            eventually(
                lambda: found if len(found := self.agents("active")) >= count else None,
                within,
                f"{count} active agents",
            )
            or []
        )

    def clone(self, agent: dict[str, Any]) -> Path:
        """The working directory of its sessions."""
        return self.root / "agents" / str(agent["name"]) / "repo"

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        """Run git in the repository (or elsewhere), free of the person's configuration."""
        return git(cwd or self.repository, *arguments)

    def hub(self) -> Path:
        """The one hub of this home."""
        (found,) = self.places.hub.glob("*.git")
        return found

    def processes(self) -> dict[int, str]:
        """Every living process that belongs to this swarm, by pid, with its command line."""
        found = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) != os.getpid() and self._is_ours(entry):
                found[int(entry)] = _command(entry)
        return found

    def _is_ours(self, pid: str) -> bool:
        try:
            if open_bytes(f"/proc/{pid}/stat").rpartition(b")")[2].split()[0] in (b"Z", b"X"):
                return False
            own = str(self.root).encode()
            environ = open_bytes(f"/proc/{pid}/environ")
            return own in environ or os.readlink(f"/proc/{pid}/cwd").startswith(str(self.root))
        except OSError:
            return False

    def gone(self, within: float = 2.0) -> None:
        """Nothing of it is left, at most ``within`` seconds from now."""
        left = self.processes
        eventually(lambda: not left(), within, lambda: f"left: {left()}", promised=True)

    def log_tail(self) -> str:
        """The ends of its logs, for a failure's message."""
        tails = []
        for path in sorted(self.places.logs.rglob("*.log")):
            tails += [f"--- {path.name}", *path.read_text(errors="replace").splitlines()[-8:]]
        return "\n".join(tails)

    def close(self) -> None:
        """End what is left and remove the directory."""
        try:
            self.agentctl("swarm", "stop", "--now", within=30)
            for pid in self.processes():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self.gone(within=5)
            if self.places.home_id.exists():  # a killed swarm's: the next up would remove them
                cgroups.sweep(cgroup_place.find().folders(self.places.home_id.read_text().strip()))
        finally:
            shutil.rmtree(self.root, ignore_errors=True)


def make_repository(where: Path) -> None:
    """A small real repository on ``main``."""
    where.mkdir(parents=True)
    (where / "README.md").write_text("# Project\n")
    git(where, "init", "-q", "-b", "main")
    git(where, "add", "-A")
    git(where, "commit", "-q", "-m", "first")


def git(where: Path, *arguments: str) -> str:
    """Run git; its output without the last newline."""
    done = subprocess.run(
        [
            "git",
            *("-c", "user.name=Test", "-c", "user.email=test@example.org"),
            *("-c", "commit.gpgSign=false", *arguments),
        ],
        cwd=where,
        env={"PATH": os.environ["PATH"], "HOME": str(where), "GIT_CONFIG_NOSYSTEM": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout.rstrip("\n")


def open_bytes(path: str) -> bytes:
    """A whole file of /proc."""
    with open(path, "rb") as file:
        return file.read()


def _command(pid: str) -> str:
    try:
        return (
            open_bytes(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode(errors="replace")[:200]
        )
    except OSError:
        return "?"


def kill(pid: int) -> bool:
    """SIGKILL; whether there was such a process."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def is_up(swarm: Swarm) -> bool:
    """Whether its supervisor answers."""
    try:
        swarm.status()
    except SwarmError:
        return False
    return True


def now() -> float:
    """Unix seconds."""
    return time.time()
