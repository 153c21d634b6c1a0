"""``agentctl demo``: play the whole story, and leave nothing behind."""

from __future__ import annotations

import signal
import time

import click

from swarm.cli.demonstration.stage import Stage, clear, set_stage
from swarm.cli.interruption import ended_by_signals, held_back, undisturbed
from swarm.cli.lock import Holder, find_holder, is_locked, send, start_time, wait_until_free
from swarm.cli.screen import note, say
from swarm.errors import SwarmError


@click.command("demo")
@click.option("--keep", is_flag=True, help="Leave the temporary home, with logs and the hub.")
@click.option("--quiet", is_flag=True, help="Only the report.")
def demo(keep: bool, quiet: bool) -> None:
    """See a fleet at work: in a temporary home, without a model, in less than 30 seconds.

    Five agents come up; eight tasks of three roles are added, one of them over the chat, two as a
    plan; one daemon is killed with -9 in the middle of its task; the fleet grows to seven; a
    SIGHUP changes a limit.  An auditor sends one task back and then accepts it, you approve
    another; six commits land on swarm/main of a small project, whose own branch and checkout stay
    as they were; it stops.  Each step is checked; exit status 0 says that all of it held.
    """
    from swarm.cli.demonstration.acts import Play
    from swarm.ledger import open_ledger

    started = time.monotonic()

    def tell(text: str) -> None:
        if not quiet:
            say(f"{time.monotonic() - started:5.1f}s  {text}")

    stage: Stage | None = None
    play: Play | None = None
    with ended_by_signals():
        try:
            with held_back():
                stage = set_stage()
            tell(f"a home, a project and a configuration in {stage.root}")
            with open_ledger(stage.places.ledger) as ledger:
                play = Play(stage, ledger, tell)
                report = play.run()
        finally:
            with undisturbed():
                if stage is not None:
                    clean_up(stage, play.pids if play is not None else {}, keep)
    say()
    for line in report.lines():
        say(line)


def clean_up(stage: Stage, pids: dict[int, int], keep: bool) -> None:
    """End what is left of the demo's swarm and remove its directory.

    ``pids`` are processes seen earlier with their start times: only those are signalled.
    """
    if is_locked(stage.places):
        _end_supervisor(stage)
    for pid, start in pids.items():
        if start_time(pid) == start:
            send(Holder(pid, start), signal.SIGKILL)
    if keep:
        note(f"kept: {stage.root}      (AGENTCTL_HOME={stage.places.home})")
        return
    clear(stage)
    if stage.root.exists():
        note(f"{stage.root} could not be removed whole; remove it yourself")


def _end_supervisor(stage: Stage) -> None:
    """TERM, and KILL when that does not help: its children die with it."""
    holder = find_holder(stage.places)
    if holder is None:
        return
    for number, seconds in ((signal.SIGTERM, 6.0), (signal.SIGKILL, 3.0)):
        send(holder, number)
        if wait_until_free(stage.places, seconds):
            return
    raise SwarmError(f"the demo's supervisor (pid {holder.pid}) does not end", "kill it with -9")
