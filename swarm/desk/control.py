"""The client end of the control socket: one request, its progress, its answer."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

from swarm.config.places import Places
from swarm.desk.lock import find_holder, is_frozen, is_locked
from swarm.errors import (
    AlreadyRunning,
    BadMessage,
    ConfigError,
    ControlError,
    FrameTooLarge,
    NotRunning,
    SwarmError,
    TaskEndedBadly,
    UsageError,
    WaitedTooLong,
)
from swarm.wire import control
from swarm.wire.framing import LineBuffer

MAX_SOCKET_PATH = 107
"""Bytes of a unix socket's path: ``sun_path`` holds 108 with its end (unix(7))."""
PATIENCE = 10.0
"""Seconds without a line after which a supervisor counts as hung."""
_STARTING = 2.0
"""Seconds a supervisor that holds the lock may take until it listens."""

_BY_CODE: dict[int, type[SwarmError]] = {
    2: UsageError,
    3: TaskEndedBadly,
    4: NotRunning,
    5: AlreadyRunning,
    124: WaitedTooLong,
}

START_ONE = "start one with 'agentctl swarm up'"
HUNG = "try again, or end it with 'agentctl swarm stop', which works with a hung swarm too"


class Hung(ControlError):
    """The supervisor is there and does not answer."""


class HungUp(ControlError):
    """The supervisor closed the connection before it answered."""


def not_running(places: Places) -> NotRunning:
    """The error for a home without a swarm."""
    return NotRunning(f"no swarm is running in {places.home}", START_ONE)


def check_socket_path(places: Places) -> None:
    """Raise :class:`UsageError` when the control socket's path is too long for a socket."""
    length = len(os.fsencode(places.control_socket))
    if length > MAX_SOCKET_PATH:
        raise UsageError(
            f"the path of the control socket has {length} bytes, a unix socket's may have "
            f"{MAX_SOCKET_PATH}: {places.control_socket}",
            "choose a shorter AGENTCTL_HOME",
        )


def ask(
    places: Places,
    command: control.Command,
    *,
    patience: float | None = PATIENCE,
    progress: Callable[[str], None] | None = None,
    still_there: Callable[[], bool] | None = None,
) -> control.Done:
    """Send one command and wait for its answer.

    ``patience`` is the longest silence in seconds that is borne, ``None`` any; with
    ``still_there`` it is borne again whenever that says so.  ``progress`` gets each line meant
    for people meanwhile.  Raises :class:`NotRunning` when nobody holds the lock,
    :class:`Hung` after a silence, :class:`HungUp` when the connection ends first, and what the
    supervisor refused with as the :class:`SwarmError` of its exit code.
    """
    with _connect(places, patience) as connection:
        request = control.Request(token=_token(places), do=command)
        buffer = LineBuffer()
        try:
            connection.sendall(control.encode(request))
            while data := _receive(connection, still_there):
                for line in buffer.feed(data):
                    match control.read_answer(line):
                        case control.Progress(text=text):
                            if progress is not None:
                                progress(text)
                        case control.Done() as done:
                            return done
                        case control.Refused() as refused:
                            raise _refusal(refused)
        except TimeoutError:
            raise _hung(places, patience) from None
        except (BadMessage, FrameTooLarge) as error:
            raise ControlError(
                f"the supervisor's answer makes no sense: {error}",
                "are agentctl and the running swarm of the same version? restart the swarm",
            ) from error
        except (BrokenPipeError, ConnectionResetError):
            pass  # it closed the connection, as an end-of-file says too
    raise HungUp(
        "the supervisor closed the connection before it answered",
        f"see 'agentctl swarm status' and {places.service_log('supervisor')}",
    )


def poke(places: Places) -> bool:
    """Tell a running swarm that the ledger changed; whether there is one that heard it."""
    try:
        ask(places, control.PokeLedger(), patience=2.0)
    except (NotRunning, OSError):  # nobody, or none that can be reached: no descriptor is left
        return False
    except SwarmError:
        return _runs(places)  # it finds the task when it looks again
    return True


def _runs(places: Places) -> bool:
    try:
        return is_locked(places)
    except OSError:
        return False


def _connect(places: Places, patience: float | None) -> socket.socket:
    """A connection, waiting a moment for a supervisor that holds the lock and starts up."""
    if not is_locked(places):
        raise not_running(places)
    refuse_frozen(places)
    check_socket_path(places)
    end = time.monotonic() + _STARTING
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        connection.settimeout(patience)
        try:
            connection.connect(str(places.control_socket))
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            if not is_locked(places):
                raise not_running(places) from None
            if time.monotonic() > end:
                raise Hung(
                    f"a swarm holds {places.pid_file} and does not listen on "
                    f"{places.control_socket}",
                    f"it is starting or ending; {HUNG}",
                ) from None
            time.sleep(0.02)
        except (TimeoutError, BlockingIOError):  # its backlog is full: it accepts nobody
            connection.close()
            raise _hung(places, patience) from None
        except BaseException:
            connection.close()
            raise
        else:
            return connection


def refuse_frozen(places: Places) -> None:
    """Raise :class:`Hung` at once for a supervisor that a signal has stopped: it cannot answer."""
    holder = find_holder(places)
    if holder is not None and is_frozen(holder):
        raise Hung(
            f"the supervisor (pid {holder.pid}) is stopped by a signal",
            f"let it go on with 'kill -CONT {holder.pid}', or end it with 'agentctl swarm stop'",
        )


def _receive(connection: socket.socket, still_there: Callable[[], bool] | None) -> bytes:
    while True:
        try:
            return connection.recv(65536)
        except TimeoutError:
            if still_there is None or not still_there():
                return _last(connection)


def _last(connection: socket.socket) -> bytes:
    """What came while it was asked otherwise: it may have answered and ended in that moment."""
    patience = connection.gettimeout()
    connection.setblocking(False)
    try:
        return connection.recv(65536)
    except BlockingIOError:
        raise TimeoutError from None
    finally:
        connection.settimeout(patience)


def _token(places: Places) -> str:
    try:
        return Path(places.control_token).read_text().strip()
    except FileNotFoundError:
        raise ControlError(
            f"{places.control_token} is missing, and the supervisor wants what it holds",
            "restart the swarm with 'agentctl swarm stop' and 'up'",
        ) from None


def _hung(places: Places, patience: float | None) -> Hung:
    return Hung(f"the supervisor of {places.home} did not answer within {patience or 0:g} s", HUNG)


def _refusal(refused: control.Refused) -> SwarmError:
    problems = refused.error.splitlines()
    if refused.exit_code == ConfigError.exit_code and len(problems) > 1:
        return ConfigError(problems, refused.remedy)  # a file's: one a line
    kind = _BY_CODE.get(refused.exit_code, ControlError)
    return kind(refused.error, refused.remedy)
