"""Lanes and labels on the command line, and whether anybody takes such a task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import click

from swarm.config.places import Places
from swarm.core.matching import Needs, why_nobody
from swarm.core.model import is_label, is_lane
from swarm.errors import SwarmError, UsageError

if TYPE_CHECKING:
    _Text = click.ParamType[str]
    _Pair = click.ParamType[tuple[str, str]]
else:  # click before 8.2 has no type parameter here
    _Text = _Pair = click.ParamType


class LaneName(_Text):
    """The name of a lane, by its form."""

    name = "LANE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Raises :class:`UsageError` for what can name no lane."""
        if not is_lane(str(value)):
            raise UsageError(f"{str(value)[:80]!r} can name no lane", "lanes: a-z 0-9 _ -, 22 long")
        return str(value)


class Label(_Pair):
    """``KEY=VALUE`` → ``(key, value)``."""

    name = "KEY=VALUE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Raises :class:`UsageError` for what can be no label."""
        if isinstance(value, tuple):
            return value
        key, equals, text = str(value).partition("=")
        if not equals or not is_label(key, text):
            raise UsageError(
                f"{str(value)[:80]!r} is no label",
                "write it as in effort=high, the key of a-z 0-9 _ -",
            )
        return key, text


def labels_of(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Labels as a mapping; raises :class:`UsageError` for a key with two values."""
    labels: dict[str, str] = {}
    for key, value in pairs:
        if labels.setdefault(key, value) != value:
            raise UsageError(f"label {key} is given twice", f"{labels[key]!r} or {value!r}?")
    return labels


def nobody_takes(places: Places, role: str, lane: str, labels: Mapping[str, str]) -> str:
    """Why no agent of the configured fleet takes such a task; empty when one does.

    Also empty where the configuration cannot be read: that is told elsewhere.
    """
    from swarm.cli.settings import settings_or_defaults
    from swarm.config.roles import load_role
    from swarm.config.takes import takes_of_role

    try:
        settings = settings_or_defaults(places)
        fleet = {one.role for one in settings.agents if one.count}
        takes = [takes_of_role(name, load_role(name, places.roles), settings) for name in fleet]
    except SwarmError:
        return ""
    return why_nobody(takes, Needs(role, lane, labels))
