"""``agentctl init``: a commented swarm.yaml to begin with."""

from __future__ import annotations

import os
from pathlib import Path

import click

from swarm.cli.control import here
from swarm.cli.screen import say
from swarm.cli.settings import config_named
from swarm.errors import UsageError


@click.command("init")
@click.option("--config", type=click.Path(path_type=Path), help="Another file than swarm.yaml.")
def init(config: Path | None) -> None:
    """Write a commented swarm.yaml with every setting and its default; never overwrites one.

    \b
    Examples:
      agentctl init
      agentctl init --config ./swarm.yaml && agentctl swarm up --config ./swarm.yaml
    """
    from swarm.config.template import TEMPLATE

    places = here()
    path = config_named(config) or places.config
    if path == places.config:
        places.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_new(path, TEMPLATE)
    say(f"wrote {path}")
    say("edit it, then 'agentctl doctor' checks it and 'agentctl swarm up' starts the fleet")


def write_new(path: Path, text: str) -> None:
    """Write a file that must not be there yet; a half-written one is removed.

    Raises :class:`UsageError` when it is there, or its directory is not.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise UsageError(
            f"{path} is there already, and is not overwritten", "edit it, or move it away first"
        ) from None
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"there is no directory {path.parent}", "make it first") from None
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError:
        path.unlink(missing_ok=True)  # a full disk must not leave half a configuration
        raise
