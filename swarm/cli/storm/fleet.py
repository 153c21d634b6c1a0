"""The fleet a storm rages over: asked for its status, looked at in ``/proc``, given commands."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

from swarm.cli.control import ask
from swarm.cli.demonstration.stage import Stage, agentctl
from swarm.cli.interruption import held_back
from swarm.cli.lock import find_holder, is_locked
from swarm.cli.storm.processes import Process, find, fleet
from swarm.errors import SwarmError
from swarm.wire import control

PATIENCE = 2.0
"""Seconds a status may take before it counts as not answered."""
_DEFECTS = ("a defect in agentctl", "Traceback (most recent call last)")


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended."""

    words: tuple[str, ...]
    exit_code: int | None
    """``None`` for one that was ended because it took too long."""
    text: str
    seconds: float

    @property
    def problem(self) -> str:
        """What no command may do, whatever happens around it; empty when it did not."""
        name = f"'agentctl {' '.join(self.words)}'"
        if self.exit_code is None:
            return f"{name} did not end within {self.seconds:.0f} s"
        for defect in _DEFECTS:
            if defect in self.text:
                return f"{name} shows a defect: {self.text.strip()[-400:]}"
        if self.exit_code < 0:
            return f"{name} died of signal {-self.exit_code}"
        return ""


@dataclass(slots=True)
class Command:
    """An ``agentctl`` that runs beside the storm."""

    words: tuple[str, ...]
    process: subprocess.Popen[bytes]
    said: IO[bytes]
    """What it prints; a file, as nobody reads before its end."""
    began: float
    limit: float
    then: Callable[[Said], object]

    def end(self) -> str:
        """Wait for its end; what it printed."""
        self.process.wait()
        with self.said as said:
            said.seek(0)
            return said.read().decode(errors="replace")


@dataclass(slots=True)
class Fleet:
    """The shell around one stage; at most one supervisor, and any number of commands."""

    stage: Stage
    commands: list[Command] = field(default_factory=list)
    _home_id: str = ""

    @property
    def home_id(self) -> str:
        """The home's id, empty before its first start."""
        if not self._home_id:
            try:
                self._home_id = self.stage.places.home_id.read_text().strip()
            except OSError:
                return ""
        return self._home_id

    def status(self, patience: float = PATIENCE) -> dict[str, Any] | None:
        """The supervisor's answer, ``None`` when there is none."""
        try:
            return ask(self.stage.places, control.Status(), patience=patience).data
        except SwarmError:
            return None

    def is_up(self) -> bool:
        """Whether a supervisor holds the lock."""
        return is_locked(self.stage.places)

    def processes(self) -> dict[int, Process]:
        """All that belongs to it; the commands that run beside it are ours, not its."""
        but = [command.process.pid for command in self.commands]
        return fleet(str(self.stage.root), self.home_id, but)

    def supervisor(self) -> Process | None:
        """Who holds the lock."""
        holder = find_holder(self.stage.places)
        return find(holder.pid) if holder is not None else None

    # -- commands -------------------------------------------------------------------------------

    def run(self, *words: str, then: Callable[[Said], object], limit: float = 60.0) -> None:
        """Start ``agentctl``; ``then`` hears how it ended, from :meth:`listen`."""
        with held_back():  # or an interrupt leaves a process that nobody knows of
            said = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe nobody reads yet could fill up
            process = subprocess.Popen(
                agentctl(*words),
                env=self.stage.environment(),
                cwd=self.stage.root,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )
            self.commands.append(Command(words, process, said, time.monotonic(), limit, then))

    def runs(self, *words: str) -> bool:
        """Whether such a command is under way."""
        return any(command.words[: len(words)] == words for command in self.commands)

    def listen(self) -> None:
        """Hear what commands have ended; end those that take too long."""
        now = time.monotonic()
        for command in list(self.commands):
            late = now - command.began > command.limit
            if command.process.poll() is None and not late:
                continue
            if late:
                command.process.kill()
            self.commands.remove(command)
            text = command.end()
            code = None if late else command.process.returncode
            command.then(Said(command.words, code, text, now - command.began))

    def finish(self, *words: str, limit: float = 90.0) -> Said:
        """Run a command to its end."""
        heard: list[Said] = []
        self.run(*words, then=heard.append, limit=limit)
        while not heard:
            time.sleep(0.02)
            self.listen()
        return heard[0]

    def end_commands(self) -> None:
        """End every command that still runs."""
        for command in self.commands:
            command.process.kill()
            command.end()
        self.commands.clear()
