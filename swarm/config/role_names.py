"""Whether a role exists, asked so that adding a task need not read YAML."""

from __future__ import annotations

from pathlib import Path

import swarm
from swarm.config.places import Places
from swarm.errors import UsageError


def require_role(places: Places, role: str) -> None:
    """Raise :class:`UsageError`, listing the roles there are, when ``role`` is none of them.

    A file of its name is enough; whether it is a good one is told where the role is used.  The
    list comes from ``swarm.config``, whose import takes longer than adding a task.
    """
    shipped = Path(swarm.__file__).parent / "roles"
    if any((folder / f"{role}.yaml").is_file() for folder in (shipped, places.roles)):
        return
    from swarm.config.roles import available_roles

    known = sorted(available_roles(places.roles))
    if role not in known:
        raise UsageError(
            f"there is no role {role!r}",
            f"there are {', '.join(known)}; {places.roles}/{role}.yaml would add it",
        )
