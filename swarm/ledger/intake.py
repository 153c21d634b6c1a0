"""What may be asked for: checks and clean-up of a new task, pure."""

from __future__ import annotations

import secrets
import unicodedata
from collections.abc import Mapping
from dataclasses import replace

from swarm.core.budget import Amount
from swarm.core.model import is_component, is_label, is_lane, is_role
from swarm.errors import UsageError
from swarm.ledger.interface import NewTask

MAX_PROMPT = 256 * 1024
"""Bytes of a prompt in UTF-8."""
MAX_TITLE = 80
"""Characters of a title."""
MAX_REPO = 4096
"""Characters of a repository's path or address."""
MAX_AFTER = 1000
"""Dependencies of one task."""
MAX_LABELS = 16
"""Labels of one task."""
LOWEST_PRIORITY, HIGHEST_PRIORITY = -100, 100
HIGHEST_TOKENS = 10**12
LOWEST_USD, HIGHEST_USD = 0.0001, 1_000_000.0
"""Of one task's budget; whatever lies outside is a slip of the finger."""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Lower case, without ``i l o u``, which are misread."""


def new_id() -> str:
    """A random task id, ``t-`` and eight of the alphabet: 40 bits, checked for collisions."""
    return "t-" + "".join(secrets.choice(_ALPHABET) for _ in range(8))


def one_line(text: str, cap: int) -> str:
    """``text`` on one line without control or invisible formatting characters, at most ``cap``."""
    head = text[: cap * 8]
    clean = "".join(" " if unicodedata.category(c) in _UNSEEN else c for c in head)
    clean = " ".join(clean.split())
    return clean if len(clean) <= cap else clean[: cap - 1].rstrip() + "…"


_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def title_of(prompt: str) -> str:
    """The first line of ``prompt`` that says something."""
    for line in prompt[:8192].splitlines():
        if title := one_line(line.strip().lstrip("#").strip(), MAX_TITLE):
            return title
    return "(no title)"


def checked(new: NewTask) -> NewTask:
    """``new`` with its title filled in; raises :class:`~swarm.errors.UsageError`."""
    _check_prompt(new.prompt)
    check_place(new.role, new.lane, new.labels, new.priority)
    if new.component and not is_component(new.component):
        raise UsageError(
            f"component {one_line(new.component, 40)!r} cannot be a component's name",
            "use 1 to 64 letters, digits, dots, dashes or underscores",
        )
    _check_repo(new.repo)
    _check_thread(new.thread)
    check_budget(new.budget)
    if len(new.after) > MAX_AFTER:
        raise UsageError(
            f"a task with {len(new.after)} dependencies", f"name at most {MAX_AFTER} with --after"
        )
    title = one_line(new.title, MAX_TITLE) or title_of(new.prompt)
    sender, ref = reference(new.sender, new.sender_ref)
    return replace(
        new, title=title, after=tuple(dict.fromkeys(new.after)), sender=sender, sender_ref=ref
    )


def check_budget(budget: Amount) -> None:
    """Raise :class:`~swarm.errors.UsageError` for what cannot be a task's budget."""
    tokens, usd = budget.tokens, budget.usd
    if tokens is not None and not 1 <= tokens <= HIGHEST_TOKENS:
        raise UsageError(
            f"a token budget of {tokens}", f"give 1 to {HIGHEST_TOKENS:,} tokens, or none at all"
        )
    # Not a number is in no range, so it is refused too.
    if usd is not None and not LOWEST_USD <= usd <= HIGHEST_USD:
        raise UsageError(
            f"a budget of {usd:g} dollars",
            f"give {LOWEST_USD:g} to {HIGHEST_USD:,.0f} dollars, or none at all",
        )


def reference(sender: str, sender_ref: str) -> tuple[str, str]:
    """Whose announcement it is and what they call it, as the ledger keeps the two."""
    return sender[:64], one_line(sender_ref, 200)


def _check_prompt(prompt: str) -> None:
    if not prompt.strip():
        raise UsageError("the task's text is empty", "say what is to be done")
    try:
        size = len(prompt.encode())
    except UnicodeEncodeError as error:
        raise UsageError("the task's text is not valid Unicode", "give it in UTF-8") from error
    if size > MAX_PROMPT:
        raise UsageError(
            f"the task's text has {size} bytes, more than {MAX_PROMPT}",
            "put the long part in a file of the repository and name it in the text",
        )
    if "\0" in prompt:
        raise UsageError("the task's text holds a NUL character", "remove it")


def _check_repo(repo: str | None) -> None:
    if repo is None:
        return
    if not repo or len(repo) > MAX_REPO or repo.startswith("-") or one_line(repo, MAX_REPO) != repo:
        raise UsageError(
            f"repository {one_line(repo, 80)!r} is not a usable path or address",
            "name a repository's directory or address",
        )


def check_place(role: str, lane: str, labels: Mapping[str, str], priority: int) -> None:
    """Raise :class:`~swarm.errors.UsageError` for what no task can need, or no place in a queue."""
    if not is_role(role):
        raise UsageError(
            f"role {one_line(role, 40)!r} cannot be a role's name",
            "use 1 to 22 of a-z 0-9 _ -, as in --role builder",
        )
    if not LOWEST_PRIORITY <= priority <= HIGHEST_PRIORITY:
        raise UsageError(
            f"priority {priority} is out of range",
            f"use {LOWEST_PRIORITY} to {HIGHEST_PRIORITY}; the higher goes first",
        )
    check_lane(lane)
    check_labels(labels)


def check_lane(lane: str) -> None:
    """Raise :class:`~swarm.errors.UsageError` for what cannot be a lane's name."""
    if not is_lane(lane):
        raise UsageError(
            f"lane {one_line(lane, 40)!r} cannot be a lane's name",
            "use 1 to 22 of a-z 0-9 _ -, as in --lane reviews",
        )


def check_labels(labels: Mapping[str, str]) -> None:
    """Raise :class:`~swarm.errors.UsageError` for too many labels, or one that cannot be."""
    if len(labels) > MAX_LABELS:
        raise UsageError(f"a task with {len(labels)} labels", f"give at most {MAX_LABELS}")
    for key, value in labels.items():
        if not is_label(key, value):
            raise UsageError(
                f"label {one_line(f'{key}={value}', 60)!r} cannot be",
                "use KEY=VALUE, the key of a-z 0-9 _ -, the value at most 64 characters",
            )


def _check_thread(thread: str) -> None:
    if thread and not is_component(thread):
        raise UsageError(
            f"thread {one_line(thread, 40)!r} cannot be a thread's name",
            "use 1 to 64 letters, digits, dots, dashes or underscores",
        )


def plain(text: str, cap: int) -> str:
    """``text`` without control characters other than line breaks and tabs, at most ``cap``."""
    kept = "".join(
        c for c in text[: cap * 2] if c in "\n\t" or unicodedata.category(c) not in _UNSEEN
    ).strip()
    return kept if len(kept) <= cap else kept[: cap - 1] + "…"
