"""The journal on disk: what happened, appended and rotated."""

from __future__ import annotations

from swarm.config.places import Places
from swarm.core.journal import Entry, as_fields
from swarm.logs import JsonLog

MAX_BYTES = 16 * 1024 * 1024
KEEP = 5
NAME = "journal.jsonl"


class Journal:
    """Appends entries; one that the disk will not take is lost, and ``lost`` counts it."""

    def __init__(self, places: Places) -> None:
        self._log = JsonLog(places.journal / NAME, max_bytes=MAX_BYTES, keep=KEEP)
        self.lost = 0

    def write(self, entry: Entry) -> None:
        """Append one entry."""
        if not self._log.write(entry.kind, **as_fields(entry)):
            self.lost += 1
