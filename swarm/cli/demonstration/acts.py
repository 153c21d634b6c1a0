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
from swarm.cli.demonstration.project import PUBLISHED, fingerprint, text_of
from swarm.cli.demonstration.report import Report
from swarm.cli.demonstration.stage import (
    FLEET,
    MAX_ACTIVE,
    MAX_ACTIVE_LATER,
    Stage,
    agentctl,
    write_settings,
)
from swarm.cli.demonstration.tasks import (
    ANNOUNCED,
    APPROVED,
    PLAN,
    REVISED,
    SINGLE,
    TASKS,
    VICTIM,
    Piece,
    plan_text,
)
from swarm.cli.interruption import held_back
from swarm.cli.lock import is_locked, start_time
from swarm.cli.screen import one_line
from swarm.cli.task_wait import Seen, look, watch
from swarm.core.model import Outcome, TaskKind, TaskResult, TaskState
from swarm.desk.fleet import gather
from swarm.desk.verbs import Desk
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
        self._desk = Desk(stage.places, ledger, lambda: None)
        self._tell = tell
        self._ids: list[str] = []
        self._id_of: dict[str, str] = {}
        """The task of each piece, by title."""
        self._before = fingerprint(stage.repository)
        self._shown: dict[str, str] = {}
        self._judged: dict[str, int] = {}
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
        self._add_tasks()
        self._apply_plan()
        restarts = self._kill_one(self._id_of[VICTIM.title])
        self._scale()
        self._reload()
        self._approve()
        self._finish()
        report = Report.of(self._stage, self._ledger, self._ids, restarts)
        self._check_landed(report)
        self._stop()
        self._hold(
            fingerprint(self._stage.repository) == self._before,
            "something of the project has changed that is not what was published",
        )
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

    def _add_tasks(self) -> None:
        for piece in SINGLE:
            if piece is ANNOUNCED:
                self._taken_in(piece, self._announce(piece))
                continue
            review = ["--review", piece.review] if piece.review else []
            shown = " ".join(["--role", piece.role, *review])
            self._tell(f"$ agentctl task add {shown} {piece.title!r}")
            options = ["--role", piece.role, "--component", piece.component, *review]
            added = self._run("task", "add", *options, "--title", piece.title, "--", piece.prompt)
            self._taken_in(piece, added.strip())
            self._show_changes()

    def _apply_plan(self) -> None:
        file = self._stage.root / "plan.yaml"
        file.write_text(plan_text(PLAN))
        self._tell(f"$ agentctl plan apply {file.name}      # {len(PLAN)} tasks, one after another")
        plan = self._run("plan", "apply", str(file)).strip()
        tasks = {task.title: task.id for task in self._ledger.tasks(plan=plan)}
        for piece in PLAN:
            self._hold(piece.title in tasks, f"{plan} has no task {piece.title!r}")
            self._taken_in(piece, tasks[piece.title])
        self._show_changes()

    def _taken_in(self, piece: Piece, task: str) -> None:
        self._ids.append(task)
        self._id_of[piece.title] = task

    def _announce(self, piece: Piece) -> str:
        """The operator's own identity is always an accepted announcer (rules, "Trust")."""
        self._tell(f"$ agentctl chat send 'TASK {piece.role} {piece.component}: …'")
        before = {task.id for task in self._ledger.tasks()}
        self._run("chat", "send", f"TASK {piece.role} {piece.component}: {piece.prompt}")
        taken = self._until(
            lambda: [
                task.id
                for task in self._ledger.tasks()
                if task.id not in before and task.kind is TaskKind.WORK  # reviews come as well
            ],
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

    def _approve(self) -> None:
        """A person looks at what waits for one, and says yes."""
        task = self._id_of[APPROVED.title]
        asked = self._until(
            lambda: [one for one in gather(self._places)["attention"] if one.get("task") == task],
            f"'swarm status' does not show that {task} waits for a person",
        )
        self._tell(f"  {task} asks: {one_line(str(asked[0].get('text')), 60)}")
        self._tell(f"$ agentctl task diff {task}")
        change = self._run("task", "diff", task)
        self._hold("+def count(words):" in change, f"{task} changes something else: {change}")
        self._said("".join(f"{line}\n" for line in change.splitlines() if line[:1] == "+"))
        self._tell(f"$ agentctl task approve {task}")
        self._said(self._run("task", "approve", task))

    def _finish(self) -> None:
        try:
            tasks = watch(self._desk, self._ids, PATIENCE, False, self._show_seen)
        except WaitedTooLong as error:
            raise self._failed(error.what) from error
        bad = [f"{task.id} {task.state}: {task.reason}" for task in tasks if not _done(task)]
        self._hold(not bad, f"not every task is done: {'; '.join(bad)}")
        victim = self._id_of[VICTIM.title]
        attempts = self._ledger.attempts(victim)
        outcomes = [attempt.outcome for attempt in attempts]
        self._hold(Outcome.LOST in outcomes, f"{victim} shows no lost attempt: {outcomes}")
        finished = outcomes.count(Outcome.SUCCEEDED)
        self._hold(finished == 1, f"{victim} has {finished} successful attempts")
        said = [r.verdict for r in self._ledger.remarks(self._id_of[REVISED.title])]
        self._hold(said == ["needs-revision", "accept"], f"the auditor said {said}")

    def _check_landed(self, report: Report) -> None:
        """Each piece with commits is one commit on the published branch, and nothing else is."""
        expected = sorted(piece.title for piece in TASKS if piece.commits)
        found = sorted(line.partition(" ")[2] for line in report.landed)
        self._hold(found == expected, f"{PUBLISHED} has {found}, not {expected}")
        for piece in TASKS:
            task = self._ledger.find(self._id_of[piece.title])
            result = TaskResult.MERGED if piece.commits else TaskResult.ANSWER
            self._hold(task.result is result, f"{task.id} is done as {task.result}, not {result}")
        lines = text_of(self._stage, "src/lines.py")
        whole = "def lines(" in lines and "def full(" in lines
        self._hold(whole, f"the plan's second task did not go on from the first: {lines!r}")

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
        for seen in look(self._desk, self._ids):
            self._show_seen(seen)

    def _show_seen(self, seen: Seen) -> None:
        self._show_verdicts(seen.task)
        self._show(seen.task)

    def _show_verdicts(self, task: Task) -> None:
        found = [one for one in self._ledger.remarks(task.id) if one.verdict]
        for one in found[self._judged.get(task.id, 0) :]:
            self._tell(f"  {task.id} {one.verdict}, says {one.author}: {task.title}")
        self._judged[task.id] = len(found)

    def _show(self, task: Task) -> None:
        if self._shown.get(task.id) == task.state:
            return
        self._shown[task.id] = task.state
        if task.state is not TaskState.QUEUED:
            by = f" on {task.agent}" if task.state is TaskState.RUNNING else ""
            result = f" ({task.result})" if task.result else ""
            self._tell(f"  {task.id} {task.state}{result}{by}: {task.title}")
        elif len(self._ledger.attempts(task.id)):
            why = f" ({one_line(task.reason, 60)})" if task.reason else ""
            self._tell(f"  {task.id} is queued again{why}: {task.title}")

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
