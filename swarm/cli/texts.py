"""What a person gives in words: a text, a file of text, a repository."""

from __future__ import annotations

import sys
from pathlib import Path

from swarm.errors import ConfigError, UsageError

MAX_INPUT = 512 * 1024
"""Bytes read of a text: above what a task may have, so that it is told, not cut."""


def read_text(
    words: tuple[str, ...],
    what: str = "the task's text",
    example: str = 'agentctl task add "Fix the typo"',
) -> str:
    """A text from the command line or, for ``-``, from standard input: ``what`` it is to people.

    Raises :class:`UsageError` when there is none, or bytes that are no UTF-8.
    """
    if words == ("-",):
        text = _decoded(sys.stdin.buffer.read(MAX_INPUT), "standard input")
    else:
        text = " ".join(words)
    if not text.strip():
        raise UsageError(f"{what} is empty", f"as in: {example}, or - for stdin")
    return text


def text_of(file: Path) -> str:
    """What a file says.  Raises :class:`UsageError` for bytes that are no UTF-8."""
    with open(file, "rb") as opened:
        return _decoded(opened.read(MAX_INPUT), str(file))


def _decoded(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{where} is not UTF-8 (byte {error.start})", "give the text in UTF-8"
        ) from None


def usable_repository(repo: str) -> str:
    """``repo`` as the coordinator can use it: a folder's path made absolute, checked early.

    Raises :class:`UsageError` for what cannot be fetched from.
    """
    from swarm.spawner.hub import check_source, normal_source

    try:
        check_source(repo)
    except ConfigError as error:
        what = "; ".join(error.problems).removeprefix("repo.source: ")
        raise UsageError(f"--repo: {what}", error.remedy) from None
    return normal_source(repo)
