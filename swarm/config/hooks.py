"""What ``notify`` and ``inbox`` of ``swarm.yaml`` may say, beyond the form of their values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from swarm.config.check import shown
from swarm.config.document import Key
from swarm.core.model import is_component, is_lane, is_role

MAX_HOOKS = 50


def notify_problems(entries: object) -> Iterator[tuple[Key, str]]:
    """What is wrong with the list under ``notify``: keys below it, and why."""
    if not isinstance(entries, list):
        return
    if len(entries) > MAX_HOOKS:
        yield (), f"has {len(entries)} entries; give at most {MAX_HOOKS}"
    for place, entry in enumerate(entries):
        if isinstance(entry, dict):
            for key, what in _entry(entry):
                yield (place, *key), what


def _entry(entry: Mapping[str, object]) -> Iterator[tuple[Key, str]]:
    command, webhook = entry.get("command"), entry.get("webhook")
    if (command is None) == (webhook is None):
        yield (), "must have a command or a webhook, and not both"
    if entry.get("on") == []:
        yield ("on",), 'names no kind of event; leave it out, or give e.g. ["*"]'
    if isinstance(command, list):
        if not command or not command[0]:
            yield ("command",), "must begin with a program"
        for place, word in enumerate(command):
            if isinstance(word, str) and "\0" in word:
                yield ("command", place), "no argument can hold a NUL character"
    if isinstance(webhook, str) and (why := bad_webhook(webhook)):
        yield ("webhook",), why


def bad_webhook(address: str) -> str:
    """Why nothing can be posted to ``address``; empty when it can."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        return f"{shown(address)} is no address: {error}"
    if parts.scheme not in ("http", "https"):
        return f"{shown(address)} must begin with http:// or https://"
    if not parts.hostname or port == 0 or re.search(r"[\x00-\x20\x7f]", address):
        return f"{shown(address)} names no host; give e.g. https://example.org/hook"
    return ""


def inbox_problems(inbox: Mapping[str, object]) -> Iterator[tuple[Key, str]]:
    """What is wrong with the values under ``inbox``."""
    path, role = inbox.get("path"), inbox.get("role")
    component, lane = inbox.get("component"), inbox.get("lane")
    if isinstance(path, str):
        if not path.startswith(("/", "~")):
            yield ("path",), "must be an absolute path, or begin with ~"
        elif path.rstrip("/") in ("", "~"):
            yield ("path",), "must be a folder of its own: all that lies in it is taken in"
        elif re.search(r"[\x00-\x1f]", path):
            yield ("path",), "must be one path"
    if isinstance(role, str) and not is_role(role):
        yield ("role",), f"{shown(role)} cannot name a role"
    if isinstance(component, str) and component and not is_component(component):
        yield ("component",), f"{shown(component)} cannot name a component"
    if isinstance(lane, str) and not is_lane(lane):
        yield ("lane",), f"{shown(lane)} cannot name a lane"
