"""``agentctl swarm upgrade``: let the running swarm go on with the newly installed program."""

from __future__ import annotations

import time
from typing import Any

import click

from swarm.cli.control import HungUp, ask, here
from swarm.cli.screen import say
from swarm.config.places import Places
from swarm.errors import ControlError, NotRunning, SwarmError
from swarm.wire import control

PATIENCE = 60.0
"""Seconds of silence: the installed program is tried for up to 30, and takes over after that."""
ARRIVAL = 30.0
"""Seconds the new program may take until it shows in the status."""
_LOOK_SECONDS = 0.1


@click.command("upgrade")
def upgrade() -> None:
    """Run the newly installed program in place of the running one; sessions never notice.

    Install the new version first, then say this.  The supervisor keeps its pid, its agents and
    their sessions; daemons go on with the code they have and take the new one when they are
    restarted.  The installed program is tried beforehand: when it does not start, or does not
    understand the running agents, the old one goes on and this says why.

    \b
    Example:
      pip install --upgrade agentctl-swarm && agentctl swarm upgrade
    """
    places = here()
    before = _swarm(places)
    lost = None
    try:
        data = ask(places, control.Upgrade(), patience=PATIENCE, progress=say).data
    except HungUp as error:
        data, lost = {}, error  # the answer may be lost though the upgrade is not
    wanted = int(data.get("generation") or int(before.get("generation", 1)) + 1)
    after = _arrived(places, wanted, lost)
    say(_told(before, after, data))


def _swarm(places: Places) -> dict[str, Any]:
    found = ask(places, control.Status()).data.get("swarm")
    return found if isinstance(found, dict) else {}


def _arrived(places: Places, generation: int, lost: SwarmError | None) -> dict[str, Any]:
    """The swarm as the new program shows it."""
    end = time.monotonic() + ARRIVAL
    while True:
        try:
            swarm = _swarm(places)
            if int(swarm.get("generation", 0)) >= generation:
                return swarm
        except NotRunning:
            raise ControlError(
                "the swarm ended while it was upgraded; its tasks wait in the ledger",
                f"see {places.logs / 'stderr.log'}, and go on with 'agentctl swarm up'",
            ) from None
        except ControlError as error:
            lost = lost or error
        if time.monotonic() > end:
            raise ControlError(
                f"the upgraded supervisor has not answered within {ARRIVAL:g} s"
                + (f": {lost.what}" if lost else ""),
                f"see 'agentctl swarm status' and {places.service_log('supervisor')}",
            )
        time.sleep(_LOOK_SECONDS)


def _told(before: dict[str, Any], after: dict[str, Any], data: dict[str, Any]) -> str:
    agents, sessions = data.get("agents"), data.get("sessions")
    went_on = ""
    if agents is not None and sessions is not None:
        went_on = f": {_count(agents, 'agent')} and {_count(sessions, 'session')} went on"
    versions = f"{before.get('version', '?')} → {after.get('version', '?')}"
    return f"upgraded {versions}{went_on}, pid {after.get('pid')}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
