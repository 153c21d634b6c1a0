"""``agentctl swarm stop``: ask, wait, and when nobody answers, signal."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import click

from swarm.cli.arguments import Number
from swarm.cli.control import Hung, HungUp, ask, here, not_running
from swarm.cli.lock import Holder, find_holder, is_frozen, is_locked, send, wait_until_free
from swarm.cli.screen import say
from swarm.config.places import Places
from swarm.errors import ControlError, NotRunning, SwarmError, UsageError
from swarm.wire import control

SILENCE = 4.0
"""Seconds without a word after which the supervisor is asked whether it still lives."""
LEAVING = 15.0
"""Seconds it may hold the lock without answering, and to act on TERM, before more is done."""
KILLED = 5.0
"""Seconds the kernel may take to release the lock of a killed supervisor."""


@click.command("stop")
@click.option(
    "--drain",
    type=Number(min=0),
    is_flag=False,
    flag_value=0.0,
    metavar="[SECONDS]",
    help="Let running sessions finish, at most so long; without a number, however long.",
)
@click.option("--now", is_flag=True, help="Without the grace to save their work.")
def stop(drain: float | None, now: bool) -> None:
    """End the fleet.

    Sessions get TERM and time to save their work (stop.grace_seconds), then KILL; their tasks
    are queued again for the next 'up'.  Works with a swarm that hangs, too: what does not answer
    is signalled.

    \b
    Examples:
      agentctl swarm stop
      agentctl swarm stop --drain          after the running sessions
      agentctl swarm stop --drain 600      the same, at most ten minutes
      agentctl swarm stop --now
    """
    if now and drain is not None:
        raise UsageError("--now and --drain exclude each other", "give the one or the other")
    end_swarm(here(), now=now, drain=drain, tell=say)


def end_swarm(
    places: Places, *, now: bool, drain: float | None, tell: Callable[[str], None]
) -> None:
    """Stop the swarm of ``places`` and return when its lock is free.

    ``tell`` hears each thing that is done.  Raises :class:`NotRunning` when there is none, and
    :class:`SwarmError` when its process cannot be ended.
    """
    if not is_locked(places):
        raise not_running(places)
    try:
        said = _ask(places, control.Stop(now=now, drain=drain), tell)
        answers = True
    except NotRunning:
        said, answers = (), True  # it ended between the look at the lock and the question
    except Hung as error:
        tell(error.what)
        said, answers = (), False
    except ControlError as error:
        tell(f"{error.what}; it gets signals instead")
        said, answers = (), False
    if not (answers and _left(places)):
        _signal_until_gone(places, LEAVING / 5 if now else LEAVING, tell)
    for line in said or ("stopped",):
        tell(line)


def _ask(places: Places, command: control.Stop, tell: Callable[[str], None]) -> tuple[str, ...]:
    try:
        return ask(
            places, command, patience=SILENCE, progress=tell, still_there=lambda: _answers(places)
        ).lines
    except HungUp:
        return ()  # it ended, and its last line with it


def _answers(places: Places) -> bool:
    try:
        ask(places, control.Status(), patience=SILENCE)
    except SwarmError:
        return False
    return True


def _left(places: Places) -> bool:
    """Wait for the lock as long as the supervisor answers, and a while after it does not."""
    heard = time.monotonic()
    while not wait_until_free(places, 1.0):
        if _answers(places):
            heard = time.monotonic()
        elif time.monotonic() - heard > LEAVING:
            return False
    return True


def _signal_until_gone(places: Places, grace: float, tell: Callable[[str], None]) -> None:
    holder = find_holder(places)
    if holder is None:
        if wait_until_free(places, 1.0):
            return
        raise SwarmError(
            f"{places.pid_file} is locked by a process that cannot be seen from here",
            "end it where it runs: as its user, or in its container",
        )
    if not is_frozen(holder):
        _signal(holder, signal.SIGTERM, tell)
        if wait_until_free(places, grace):
            return
    _signal(holder, signal.SIGKILL, tell)
    if not wait_until_free(places, KILLED):
        if holder.pid == 1:  # no signal from inside its namespace can kill it (pid_namespaces(7))
            raise SwarmError(
                "the supervisor is pid 1 of this container and does not answer",
                "end the container from outside",
            )
        raise SwarmError(
            f"the supervisor (pid {holder.pid}) was killed and still holds {places.pid_file}",
            "it may wait for a disk; look at it with ps",
        )
    tell("its agents and sessions die with it; the next 'up' queues their tasks again")


def _signal(holder: Holder, number: signal.Signals, tell: Callable[[str], None]) -> None:
    try:
        sent = send(holder, number)
    except PermissionError:
        raise SwarmError(
            f"the supervisor (pid {holder.pid}) belongs to another user", "stop it as that user"
        ) from None
    if sent:
        tell(f"sent {number.name} to the supervisor (pid {holder.pid})")
