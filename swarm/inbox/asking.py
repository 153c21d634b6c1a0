"""What a drop asks for: its own text, with settings in front of it, or a sentence about it."""

from __future__ import annotations

import os
import re
import stat
from pathlib import PurePath
from typing import Literal

import msgspec

from swarm.config.places import Places
from swarm.config.role_names import require_role
from swarm.core.model import Review
from swarm.errors import UsageError
from swarm.ledger.intake import MAX_PROMPT, checked, one_line
from swarm.ledger.records import NewTask
from swarm.wire.lifeline import InboxRules

SENDER = "inbox"
"""Whose reference the id of a drop is, in the ledger."""
INSTRUCTIONS = ("TASK.md", "task.md")
"""Files whose text is what a dropped folder asks for, the first that is there."""
MAX_AFTER = 100

_FENCE = re.compile(r"---[ \t]*\n")
_END = re.compile(r"^(?:---|\.\.\.)[ \t]*$\n?", re.MULTILINE)


class Front(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings that may stand before a text, between two lines of three dashes."""

    role: str | None = None
    priority: int | None = None
    component: str | None = None
    lane: str | None = None
    labels: dict[str, str] = {}
    review: Literal["none", "agent", "human"] | None = None
    after: tuple[str, ...] = ()
    title: str = ""


def asked(path: str, rules: InboxRules, places: Places) -> NewTask:
    """The task that the drop at ``path`` asks for, without its folder and reference.

    ``places`` has the roles there are.  ``after`` is as it was written: prefixes of ids.
    Raises :class:`~swarm.errors.UsageError` for what cannot be asked, ``OSError``.
    """
    text = _text_of(path)
    front = Front()
    if text is None:
        prompt = _about(path)
    else:
        front, prompt = _split(text, one_line(os.path.basename(path), 60))
        if not prompt.strip():
            raise UsageError("it asks for nothing: its text is empty", "write what is to be done")
    if front.role is not None:
        require_role(places, front.role)
    if len(front.after) > MAX_AFTER:
        raise UsageError(f"it waits for {len(front.after)} tasks", f"name at most {MAX_AFTER}")
    review = front.review or rules.review
    new = NewTask(
        prompt=prompt,
        role=rules.role if front.role is None else front.role,
        component=rules.component if front.component is None else front.component,
        title=front.title,
        priority=rules.priority if front.priority is None else front.priority,
        lane=rules.lane if front.lane is None else front.lane,
        labels=front.labels,
        review=None if review is None else Review(review),
        after=front.after,
        sender=SENDER,
    )
    checked(new)  # not its result: a title made from the text is as private as the text
    return new


def _text_of(path: str) -> str | None:
    """The text that says what is wanted; ``None`` where the drop is only something to work on."""
    if not os.path.isdir(path):
        return _read_text(path)
    for name in INSTRUCTIONS:
        inside = os.path.join(path, name)
        if os.path.lexists(inside):
            text = _read_text(inside)
            if text is None:
                raise UsageError(
                    f"its {name} is no text of at most {MAX_PROMPT // 1024} KiB in UTF-8",
                    "write what is to be done in it",
                )
            return text
    return None


def _read_text(path: str) -> str | None:
    """A small regular file as text; ``None`` for any other."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        if stat.S_ISREG(os.lstat(path).st_mode):
            raise
        return None
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        data = file.read(MAX_PROMPT + 1)
    if len(data) > MAX_PROMPT or b"\0" in data:
        return None
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        return None


def _split(text: str, name: str) -> tuple[Front, str]:
    """The settings in front, checked, and the text behind; raises ``UsageError``."""
    opening = _FENCE.match(text)
    if opening is None:
        return Front(), text
    end = _END.search(text, opening.end())
    if end is None:
        raise UsageError(
            "its first line '---' begins settings that do not end",
            "end them with a line '---', or begin with another line",
        )
    # Not before one is needed: YAML costs each idle coordinator some megabytes.
    from swarm.config.check import check, merged
    from swarm.config.document import parse_document

    # The line break in place of the fence: problems then name the file's own lines.
    document = parse_document("\n" + text[opening.end() : end.start()], name)
    problems = merged(document.problems, check(document, Front))
    if problems:
        raise UsageError("; ".join(map(str, problems[:5])), "mend its settings")
    try:
        return msgspec.convert(document.data, Front), text[end.end() :]
    except msgspec.ValidationError as error:
        raise UsageError(f"{name}: {error}", "mend its settings") from None


def _about(path: str) -> str:
    """What is said for a drop that says nothing itself; its name is hostile, so cut and quoted."""
    name = PurePath(path).name
    shown = one_line(name, 120)
    if os.path.isdir(path):
        what = f"Work on the folder “{shown}” from the inbox."
    else:
        what = f"Work on the file “{shown}” from the inbox ({_size(path)})."
    return (
        f"{what}\n\nIt lies in this task's input folder.  Nobody said more than that: look at what "
        "it is, do what it evidently asks for, and leave a question for a person where that is "
        "not clear."
    )


def _size(path: str) -> str:
    size = os.lstat(path).st_size
    return f"{size} bytes" if size < 10_240 else f"{size // 1024:,} KiB"
