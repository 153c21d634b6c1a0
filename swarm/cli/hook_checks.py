"""What ``doctor`` says of the inbox and of the hooks that tell people."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from swarm.cli.check import Check, Level
from swarm.cli.screen import one_line
from swarm.config.places import Places, expanded
from swarm.config.roles import available_roles
from swarm.config.settings import Settings
from swarm.errors import SwarmError


def check_inbox(places: Places, settings: Settings) -> Check:
    """Where the inbox is, and whether anything can be taken in from it."""
    inbox = settings.inbox
    if not inbox.enabled:
        return Check("inbox", Level.OK, "off (inbox.enabled)")
    try:
        path = places.inbox if inbox.path is None else expanded(Path(inbox.path), "inbox.path")
    except SwarmError as error:
        return Check("inbox", Level.BAD, error.what, error.remedy)
    if path.exists() and not (path.is_dir() and os.access(path, os.W_OK | os.X_OK)):
        return Check("inbox", Level.WARN, f"{path} is no folder that can be written", "see ls -ld")
    if inbox.role not in available_roles(places.roles):
        what = f"{path}: its drops wait for role {inbox.role!r}, which there is not"
        return Check("inbox", Level.WARN, what, "set inbox.role to one of your roles")
    try:
        aside = sum(not one.suffix for one in (path / ".quarantine").iterdir())
    except OSError:
        aside = 0
    if aside:
        what = f"{path}, {aside} in quarantine"
        return Check("inbox", Level.WARN, what, f"see {path / '.quarantine'}")
    return Check("inbox", Level.OK, f"{path}; tasks for role {inbox.role}")


def check_hooks(settings: Settings) -> Iterator[Check]:
    """Whether the programs of ``notify`` are there; addresses are not tried."""
    for place, rule in enumerate(settings.notify):
        name = f"notify[{place}]"
        kinds = ", ".join(rule.on)
        if rule.command is None:
            yield Check(name, Level.OK, f"a webhook hears of {kinds}")
        elif shutil.which(rule.command[0]) is None:
            what = f"{one_line(rule.command[0], 80)} cannot be run"
            yield Check(name, Level.WARN, what, "install it, or name its full path")
        else:
            yield Check(name, Level.OK, f"{one_line(rule.command[0], 80)} hears of {kinds}")
