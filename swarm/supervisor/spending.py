"""The ledger's word about money, brought to the fleet: at the start, each sample, each reload.

Between two readings the fleet counts for itself what its sessions say (:mod:`swarm.core.budget`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarm.core import fleet_events as e
from swarm.errors import SwarmError

if TYPE_CHECKING:
    from swarm.supervisor.shell import Shell


def read_spending(shell: Shell) -> None:
    """Read what was spent in the window as it is configured now, and tell the fleet.

    A ledger that cannot be read now is read at the next sample; until then the last reading and
    what is heard meanwhile count.
    """
    daily = shell.specs.configuration.settings.limits.budget_window == "day"
    try:
        reading = shell.books.spending(tuple(shell.fleet.tally.sessions), daily=daily)
    except SwarmError as error:
        shell.log.write("ledger", error=str(error))
        return
    shell.post(e.SpendingIs(reading))
