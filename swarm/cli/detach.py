"""Starting a supervisor in the background, and waiting until it says that it is ready."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from pathlib import Path

import click
import msgspec

from swarm.cli.control import ask
from swarm.cli.interruption import ENDING, ended_by_signals
from swarm.cli.screen import one_line, say
from swarm.config.places import Places
from swarm.errors import AlreadyRunning, ConfigError, Interrupted, SwarmError
from swarm.wire import control

_LOOK_SECONDS = 0.5
_LEAVING = 10.0
"""Seconds an interrupted start may take to undo itself."""


class ReadyLine(msgspec.Struct, frozen=True):
    """What a supervisor writes to ``--ready-fd``: one JSON line, then it closes it."""

    ready: bool = False
    pid: int = 0
    lines: tuple[str, ...] = ()
    error: str = ""
    remedy: str = ""
    exit_code: int = 1


def start_detached(places: Places, argv: list[str], environment: dict[str, str]) -> None:
    """Start it in a session of its own; return when it is ready.

    Raises what it refused with; :class:`SwarmError` when it died without a word; and
    :class:`Interrupted`, having ended it, on Ctrl-C, TERM and HUP.
    """
    with ended_by_signals():
        _start(places, argv, environment)


def _start(places: Places, argv: list[str], environment: dict[str, str]) -> None:
    places.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    places.home.chmod(0o700)  # as the supervisor does
    places.logs.mkdir(mode=0o700, exist_ok=True)
    reader, writer = os.pipe()
    # A signal is taken once the pid is known: a supervisor nobody knows of could not be ended.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        try:
            pid = _spawn(places, [*argv, "--ready-fd", "3"], environment, writer, mask)
        finally:
            os.close(writer)
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            answer = _wait(places, reader)
        except (KeyboardInterrupt, Interrupted):
            _end(pid)
            raise Interrupted("interrupted; the swarm that was starting is ended") from None
    finally:
        os.close(reader)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if answer is None:
        raise _died(places, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    if not answer.ready:
        raise _refused(answer)
    for line in answer.lines or (f"ready, supervisor pid {answer.pid or pid}",):
        say(line)


def _spawn(
    places: Places,
    argv: list[str],
    environment: dict[str, str],
    writer: int,
    mask: set[int | signal.Signals],
) -> int:
    log = os.open(_stderr(places), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.posix_spawn(
            argv[0],
            argv,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, null, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
                (os.POSIX_SPAWN_DUP2, writer, 3),
            ],
            setsid=True,
            setsigmask=mask,
        )
    finally:
        os.close(null)
        os.close(log)


def _end(pid: int) -> None:
    """TERM, and KILL when that does not help; ``pid`` is our own child, not waited for yet."""
    for number, seconds in ((signal.SIGTERM, _LEAVING), (signal.SIGKILL, _LEAVING)):
        os.kill(pid, number)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return
            time.sleep(0.02)


def _wait(places: Places, reader: int) -> ReadyLine | None:
    """The ready line, or ``None`` when the pipe ended without one."""
    collected = bytearray()
    shown = False
    try:
        while True:
            if select.select([reader], [], [], _LOOK_SECONDS)[0]:
                data = os.read(reader, 65536)
                collected += data
                if not data or b"\n" in data:
                    break
            elif sys.stderr.isatty():
                click.echo(f"\r\x1b[Kstarting: {_progress(places)}", nl=False, err=True)
                shown = True
    finally:
        if shown:
            click.echo("\r\x1b[K", nl=False, err=True)
    try:
        return msgspec.json.decode(collected, type=ReadyLine)
    except msgspec.MsgspecError:
        return None


def _progress(places: Places) -> str:
    """``12 of 200 agents are ready``, as far as the supervisor answers already."""
    try:
        agents = ask(places, control.Status(), patience=0.3).data.get("agents", [])
        states = [agent["state"] for agent in agents]
    except (SwarmError, KeyError, TypeError):
        return time.strftime("%H:%M:%S")
    ready = sum(state not in ("starting", "backoff", "degraded") for state in states)
    return f"{ready} of {len(states)} agents are ready"


def _refused(answer: ReadyLine) -> SwarmError:
    match answer.exit_code:
        case 2:
            return ConfigError(answer.error.splitlines(), answer.remedy)
        case 5:
            return AlreadyRunning(answer.error, answer.remedy)
        case _:
            return SwarmError(answer.error or "the swarm is not ready", answer.remedy)


def _died(places: Places, status: int) -> SwarmError:
    log = _stderr(places)
    how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
    last = _last_words(log)
    why = f": {last}" if last else ""
    return SwarmError(f"the supervisor ended before it was ready ({how}){why}", f"see {log}")


def _stderr(places: Places) -> Path:
    """Standard error of the supervisor and its children: no log, logs are JSON lines."""
    return places.logs / "stderr.log"


def _last_words(log: Path) -> str:
    """The last line of it: what a traceback ends with."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return one_line(lines[-1], 200) if lines else ""
