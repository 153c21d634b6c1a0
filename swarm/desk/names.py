"""The name somebody outside the fleet works under, where none is given."""

from __future__ import annotations

import os
import pwd
import re
import socket
from collections.abc import Mapping

from swarm.core.model import is_outsider_name
from swarm.errors import UsageError

VARIABLE = "AGENTCTL_LANE_NAME"
"""Names the outsider for every command of a shell or script."""
MAX_NAME = 32


def outsider_name(given: str, environ: Mapping[str, str]) -> str:
    """``given``, else what the environment says, else ``<user>-<host>``.

    Raises :class:`~swarm.errors.UsageError` for one that cannot be.
    """
    name = given or environ.get(VARIABLE, "") or _own(environ)
    if not is_outsider_name(name):
        raise UsageError(
            f"{name[:40]!r} cannot be the name of who claims",
            "use 1 to 32 letters, digits, _ or -, as in --as ada-laptop",
        )
    return name


def _own(environ: Mapping[str, str]) -> str:
    user = environ.get("USER") or environ.get("LOGNAME") or _user()
    host = socket.gethostname().partition(".")[0]
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", f"{user}-{host}")[:MAX_NAME].strip("-_")
    return name if is_outsider_name(name) else "outsider"


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user whom nobody has named
        return f"uid{os.getuid()}"
