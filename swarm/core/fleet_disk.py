"""When the disk runs low: the gate is closed already, people are told, and what may go is removed.

The gate itself closes by :class:`~swarm.core.gate.GateFacts`; here is what follows from it.
"""

from __future__ import annotations

from swarm.core import journal
from swarm.core.fleet_effects import CleanUp, EndCleanUp, TellNotice
from swarm.core.fleet_events import CleanedUp
from swarm.core.fleet_state import FleetState
from swarm.core.gate import GateFacts, disk_reason
from swarm.core.model import NoticeKind

AGAIN_SECONDS = 600.0
"""Between two clean-ups while the disk stays low, and between two notices of it: what one left
behind the next would find no older."""


def settle(fleet: FleetState) -> None:
    """What follows from the disk as it was last seen."""
    reason = _low(fleet)
    if not reason:
        return
    _tell(fleet, reason)
    due = fleet.cleaned_at is None or fleet.now - fleet.cleaned_at >= AGAIN_SECONDS
    # Not before every agent is known: a workspace that waits for its agent looks like one left.
    if due and not fleet.cleaning and fleet.stop is None and fleet.started_daemons:
        fleet.cleaning = True
        fleet.cleaned_at = fleet.now
        fleet.emit(CleanUp())


def _low(fleet: FleetState) -> str:
    free, least = fleet.free_disk_mb, fleet.settings.min_free_disk_mb
    if free is None or free >= least:
        return ""
    return disk_reason(GateFacts(free_disk_mb=int(free), min_free_disk_mb=least))


def _tell(fleet: FleetState, reason: str) -> None:
    told = fleet.disk_told_at
    if fleet.linked and (told is None or fleet.now - told >= AGAIN_SECONDS):
        fleet.disk_told_at = fleet.now
        fleet.note(journal.DiskLow(reason))
        fleet.emit(TellNotice(NoticeKind.DISK, f"no session starts: {reason}"))


def cleaned_up(fleet: FleetState, event: CleanedUp) -> None:
    """The clean-up is over, whatever it came to."""
    fleet.cleaning = False
    if event.free_disk_mb is not None:
        fleet.free_disk_mb = event.free_disk_mb
    fleet.note(journal.CleanedUp(event.freed_mb, event.saved, event.problem))
    reason = _low(fleet)
    if reason and fleet.stop is None:
        did = f"the clean-up failed ({event.problem})" if event.problem else "the clean-up is over"
        freed = f"{event.freed_mb} MB were removed, and still {reason}: make room"
        fleet.tell(TellNotice(NoticeKind.DISK, f"{did}: {freed}"))


def end(fleet: FleetState) -> None:
    """The swarm stops: nothing else must be at the workspaces when the janitor comes."""
    if fleet.cleaning:
        fleet.emit(EndCleanUp())
