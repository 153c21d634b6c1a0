"""What a plan file may hold: its keys and their kinds, the same for YAML and Markdown."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Word = str | int
"""A key or a reference: YAML reads ``1`` as a number."""
Tokens = Annotated[int, msgspec.Meta(ge=1)] | str


class Defaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a task is when it does not say otherwise."""

    role: str | None = None
    component: str | None = None
    priority: Annotated[int, msgspec.Meta(ge=-100, le=100)] | None = None
    on_failed: Literal["skip", "run", "hold"] | None = None
    review: Literal["none", "agent", "human"] | None = None
    merge: Literal["squash", "merge", "rebase", "none"] | None = None
    lane: str | None = None
    labels: dict[str, Word] | None = None
    thread: str | None = None
    token_budget: Tokens | None = None
    usd_budget: Annotated[float, msgspec.Meta(gt=0)] | None = None


class Entry(Defaults, frozen=True):
    """One task: ``text`` (or ``prompt``), and whatever else is to be said of it."""

    key: Word | None = None
    id: Word | None = None
    text: str | None = None
    prompt: str | None = None
    title: str | None = None
    after: Word | tuple[Word, ...] | None = None
    files: str | tuple[str, ...] | None = None


class Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    title: str | None = None
    defaults: Defaults = Defaults()
    tasks: tuple[str | Entry, ...] = ()


PERSONS = ("review", "merge", "lane", "token_budget", "usd_budget")
"""Keys that a plan written by a session may not hold: they say what a person has to allow."""

LISTS = ("after", "files")
"""Keys whose values are lists: in Markdown they are separated by commas."""
