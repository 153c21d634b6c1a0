"""A provider's quota: which runtimes are parked, until when, and the probe that frees one.

A quota parks its runtime only: a ``claude`` quota does not stop ``codex`` roles.
"""

from __future__ import annotations

from swarm.core.fleet_events import Probed
from swarm.core.fleet_state import FleetState


def probed(fleet: FleetState, event: Probed) -> None:
    """The probe of a runtime's quota is over."""
