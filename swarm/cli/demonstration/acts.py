"""The acts of the demo, each of which checks what it shows."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeVar

from swarm.cli.control import ask
from swarm.cli.demonstration.report import Report
from swarm.cli.demonstration.stage import (
    FLEET,
    MAX_ACTIVE,
    MAX_ACTIVE_LATER,
    Stage,
    agentctl,
    write_settings,
)
from swarm.cli.demonstration.tasks import ANNOUNCED, TASKS, VICTIM, Piece
from swarm.cli.interruption import held_back
from swarm.cli.lock import is_locked, start_time
from swarm.cli.task_wait import read, watch
from swarm.core.model import Outcome, TaskState
from swarm.errors import Interrupted, SwarmError, WaitedTooLong
from swarm.ledger import Ledger, Task
from swarm.wire import control

T = TypeVar("T")
LONGER = 7
"""Agents after ``scale``."""
PATIENCE = 20.0
"""Seconds any one thing may take before the demo counts as failed."""
_LOOK_SECONDS = 0.03


class DemoFailed(SwarmError):
    """Something the demo claims did not happen."""


class Play:
    """One run of the demo.  ``tell`` gets a line for people at each step."""

    def __init__(self, stage: Stage, ledger: Ledger, tell: Callable[[str], None]) -> None:
        self._stage = stage
        self._places = stage.places
        self._ledger = ledger
        self._tell = tell
        self._ids: list[str] = []
        self._shown: dict[str, str] = {}
        self.pids: dict[int, int] = {}
        """Every process of the swarm that was seen, with its start time."""

    def run(self) -> Report:
        """All acts, in order.  Raises :class:`DemoFailed` at the first that does not hold."""
        try:
            return self._acts()
        except (DemoFailed, Interrupted):
            raise
        except SwarmError as error:
            raise self._failed(str(error)) from error

    def _acts(self) -> Report:
        started = time.monotonic()
        self._up()
        victim = self._add_tasks()
        restarts = self._kill_one(victim)
        self._scale()
        self._reload()
        self._finish(victim)
        report = Report.of(self._stage, self._ledger, self._ids, restarts)
        self._check_commits(report)
        self._stop()
        return report.within(time.monotonic() - started)

    # -- the acts -------------------------------------------------------------------------------

    def _up(self) -> None:
        self._tell(f"$ agentctl swarm up --detach      # {self._fleet()}")
        self._said(self._run("swarm", "up", "--detach"))
        agents = self._until(
            lambda: self._agents_in("idle", sum(FLEET.values())), "the fleet is not idle and whole"
        )
        for role, count in FLEET.items():
            found = sum(agent["role"] == role for agent in agents)
            self._hold(found == count, f"{found} agents of role {role}, not {count}")

    def _add_tasks(self) -> str:
        victim = ""
        for piece in TASKS:
            if piece is ANNOUNCED:
                self._ids.append(self._announce(piece))
                continue
            self._tell(f"$ agentctl task add --role {piece.role} {piece.title!r}")
            options = ["--role", piece.role, "--component", piece.component, "--title", piece.title]
            added = self._run("task", "add", *options, "--", piece.prompt).strip()
            self._ids.append(added)
            if piece is VICTIM:
                victim = added
            self._show_changes()
        return victim

    def _announce(self, piece: Piece) -> str:
        """The operator's own identity is always an accepted announcer (rules, "Trust")."""
        self._tell(f"$ agentctl chat send 'TASK {piece.role} {piece.component}: …'")
        before = {task.id for task in self._ledger.tasks()}
        self._run("chat", "send", f"TASK {piece.role} {piece.component}: {piece.prompt}")
        taken = self._until(
            lambda: [task.id for task in self._ledger.tasks() if task.id not in before],
            "the announced task was not taken in",
        )
        return taken[0]

    def _kill_one(self, victim: str) -> int:
        agent = self._until(
            lambda: next((a for a in self._active() if a["task"]["id"] == victim), None),
            f"no agent works on {victim}",
        )
        name, pid = str(agent["name"]), int(agent["pid"])
        self._tell(f"$ kill -9 {pid}      # {name}, in the middle of {victim}")
        os.kill(pid, signal.SIGKILL)
        back = self._until(
            lambda: next(
                (
                    a
                    for a in self._status()["agents"]
                    if a["name"] == name and a["pid"] not in (None, pid) and a["restarts"] > 0
                ),
                None,
            ),
            f"{name} did not come back",
        )
        self._tell(f"{name} runs again as pid {back['pid']}, restart {back['restarts']}")
        return int(back["restarts"])

    def _scale(self) -> None:
        self._tell(f"$ agentctl swarm scale {LONGER}")
        self._said(self._run("swarm", "scale", str(LONGER)))
        self._until(
            lambda: (
                len([a for a in self._status()["agents"] if a["state"] != "starting"]) == LONGER
            ),
            f"there are not {LONGER} agents",
        )

    def _reload(self) -> None:
        pid = int(self._status()["swarm"]["pid"])
        self._tell(f"$ kill -HUP {pid}      # limits.max_active {MAX_ACTIVE} → {MAX_ACTIVE_LATER}")
        write_settings(self._stage, MAX_ACTIVE_LATER)
        os.kill(pid, signal.SIGHUP)
        self._until(
            lambda: self._status()["limits"]["max_active"] == MAX_ACTIVE_LATER,
            "the reload did not change limits.max_active",
        )
        count = len(self._status()["agents"])
        self._hold(count == LONGER, f"the reload made {LONGER} agents {count}")
        self._tell(f"limits.max_active is {MAX_ACTIVE_LATER}, still {LONGER} agents")

    def _finish(self, victim: str) -> None:
        try:
            tasks = watch(self._ledger, self._ids, PATIENCE, False, self._show)
        except WaitedTooLong as error:
            raise self._failed(error.what) from error
        bad = [f"{task.id} {task.state}: {task.reason}" for task in tasks if not _done(task)]
        self._hold(not bad, f"not every task is done: {'; '.join(bad)}")
        attempts = self._ledger.attempts(victim)
        outcomes = [attempt.outcome for attempt in attempts]
        self._hold(Outcome.LOST in outcomes, f"{victim} shows no lost attempt: {outcomes}")
        finished = outcomes.count(Outcome.SUCCEEDED)
        self._hold(finished == 1, f"{victim} has {finished} successful attempts")

    def _check_commits(self, report: Report) -> None:
        expected = sum(piece.commits for piece in TASKS)
        # What the killed attempt left is on the branch when it came home before the next began.
        found = sum(count for _, count in report.branches) - report.saved
        self._hold(found == expected, f"{found} commits in the hub, not {expected}")
        self._hold(report.saved <= 1, f"{report.saved} commits of one killed attempt")

    def _stop(self) -> None:
        self._status()  # the last processes are noted
        self._tell("$ agentctl swarm stop")
        self._said(self._run("swarm", "stop"))
        self._hold(not is_locked(self._places), "the swarm still holds its lock")
        self._until(lambda: not self.survivors(), "processes of the swarm are left")
        left = sorted(path.name for path in self._stage.workspaces.iterdir())
        self._hold(not left, f"workspaces are left: {left}")

    def survivors(self) -> list[int]:
        """Processes of the swarm that were seen and still live; a reused pid is not one."""
        return [pid for pid, start in self.pids.items() if start_time(pid) == start]

    # -- looking --------------------------------------------------------------------------------

    def _status(self) -> dict[str, Any]:
        data = ask(self._places, control.Status()).data
        seen = [data["swarm"], *data["agents"], *data["services"]]
        for pid in (one.get("pid") for one in seen):
            if isinstance(pid, int) and pid not in self.pids and (start := start_time(pid)):
                self.pids[pid] = start
        return data

    def _active(self) -> list[dict[str, Any]]:
        agents = self._status()["agents"]
        return [a for a in agents if a["state"] == "active" and a["task"] is not None]

    def _agents_in(self, state: str, count: int) -> list[dict[str, Any]] | None:
        agents = self._status()["agents"]
        whole = len(agents) == count and all(agent["state"] == state for agent in agents)
        return list(agents) if whole else None

    def _until(self, found: Callable[[], T | None], otherwise: str) -> T:
        end = time.monotonic() + PATIENCE
        while not (value := found()):
            if time.monotonic() > end:
                raise self._failed(f"{otherwise} after {PATIENCE:g} s")
            self._show_changes()
            time.sleep(_LOOK_SECONDS)
        return value

    def _show_changes(self) -> None:
        for task in read(self._ledger, self._ids):
            self._show(task)

    def _show(self, task: Task) -> None:
        if self._shown.get(task.id) == task.state:
            return
        self._shown[task.id] = task.state
        if task.state is not TaskState.QUEUED:
            by = f" on {task.agent}" if task.state is TaskState.RUNNING else ""
            result = f" ({task.result})" if task.result else ""
            self._tell(f"  {task.id} {task.state}{result}{by}: {task.title}")
        elif len(self._ledger.attempts(task.id)):
            self._tell(f"  {task.id} is queued again: {task.title}")

    # -- doing ----------------------------------------------------------------------------------

    def _run(self, *arguments: str) -> str:
        """Run agentctl; its output.  Interrupted, it is interrupted too and waited for."""
        process: subprocess.Popen[str] | None = None
        with ExitStack() as stack:
            try:
                with held_back():  # or an interrupt leaves a process that nobody knows of
                    process = stack.enter_context(self._start(*arguments))
                said, complained = process.communicate(timeout=60)
            except BaseException:
                if process is not None:
                    process.send_signal(signal.SIGINT)  # an 'up' then ends what it was starting
                    _wait_or_kill(process)
                raise
        if process.returncode != 0:
            raise self._failed(
                f"'agentctl {' '.join(arguments[:2])}' exited with {process.returncode}: "
                f"{complained.strip()}"
            )
        return said

    def _start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            agentctl(*arguments),
            env=self._stage.environment(),
            cwd=self._stage.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )

    def _said(self, text: str) -> None:
        for line in text.splitlines():
            self._tell(f"  {line}")

    def _fleet(self) -> str:
        return ", ".join(f"{count} {role}" for role, count in FLEET.items())

    def _hold(self, held: bool, otherwise: str) -> None:
        if not held:
            raise self._failed(otherwise)

    def _failed(self, what: str) -> DemoFailed:
        return DemoFailed(f"the demo failed: {what}", "--keep keeps its home, with the logs")


def _wait_or_kill(process: subprocess.Popen[str]) -> None:
    try:
        process.communicate(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()


def _done(task: Task) -> bool:
    return task.state is TaskState.DONE
