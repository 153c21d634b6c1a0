"""The configuration file that counts for a command line."""

from __future__ import annotations

import os
from pathlib import Path

from swarm.config.load import load_settings
from swarm.config.places import Places
from swarm.config.settings import Settings
from swarm.errors import ConfigError


def config_named(option: Path | None) -> Path | None:
    """The file ``--config`` or ``AGENTCTL_SWARM_CONFIG`` names, if one does."""
    if option is not None:
        return option.expanduser().absolute()
    named = os.environ.get("AGENTCTL_SWARM_CONFIG")
    return Path(named).expanduser().absolute() if named else None


def checked_settings(places: Places, named: Path | None) -> Settings:
    """The settings in force with that file, or with the home's own, or without any.

    Raises :class:`ConfigError` with every problem, or when a named file does not exist.
    """
    if named is not None and not named.exists():
        raise ConfigError([f"there is no file {named}"], "'agentctl init' writes swarm.yaml")
    path = named or places.config
    loaded = load_settings(path if path.exists() else None)
    loaded.require()
    return loaded.settings


def settings_or_defaults(places: Places) -> Settings:
    """The same for reading along: with a bad file, what the product says by default."""
    try:
        return checked_settings(places, config_named(None))
    except ConfigError:
        return Settings()
