"""How much room there is on the disks the fleet works on."""

from __future__ import annotations

import os
from collections.abc import Iterable


def free_disk_mb(folders: Iterable[str | os.PathLike[str]]) -> float | None:
    """MB that may still be written below these folders: the lowest; ``None`` when none can say.

    A folder that is not there yet counts as the first above it that is.  What is kept for root
    counts for nobody (statvfs(3), ``f_bavail``).
    """
    found = []
    for folder in folders:
        path = os.path.abspath(folder)
        while not os.path.exists(path) and path != os.path.dirname(path):
            path = os.path.dirname(path)
        try:
            room = os.statvfs(path)
        except OSError:
            continue  # no word of that one
        found.append(room.f_bavail * room.f_frsize / 1048576)
    return min(found, default=None)
