"""``agentctl swarm logs`` and ``story``: JSON-line files, read for people."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import click
import msgspec
from click.shell_completion import CompletionItem

from swarm.cli.arguments import AgentName
from swarm.cli.control import here
from swarm.cli.screen import many_lines, one_line, say
from swarm.config.places import Places
from swarm.core import view
from swarm.errors import SwarmError

SERVICES = ("supervisor", "coordinator", "chat", "health", "api")
LONGEST = 1024 * 1024
"""Bytes of a line without an end that are shown as one all the same."""
FOLLOW_SECONDS = 0.2
"""How often a followed file is looked at: one ``stat`` costs microseconds."""
_DROP = 16 * 1024 * 1024
"""Bytes from the end of a file in which its last lines are looked for."""


class LogName(AgentName):
    """An agent, or one of the services that write a log."""

    name = "AGENT"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Raises :class:`~swarm.errors.UsageError` for neither."""
        return str(value) if value in SERVICES else super().convert(value, param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        """Services, then agents."""
        services = [CompletionItem(name) for name in SERVICES if name.startswith(incomplete)]
        return services + super().shell_complete(ctx, param, incomplete)


@click.command("logs")
@click.argument("name", required=False, default="supervisor", type=LogName(), metavar="[AGENT]")
@click.option("-f", "--follow", "following", is_flag=True, help="Go on with what is added.")
@click.option("-n", "count", default=50, type=click.IntRange(0), help="Lines from the end (50).")
@click.option("--json", "raw", is_flag=True, help="The lines as they are in the file.")
def logs(name: str, following: bool, count: int, raw: bool) -> None:
    """The log of an agent, or of supervisor (the default), coordinator, chat, api or health.

    Needs no running swarm.

    \b
    Examples:
      agentctl swarm logs -f
      agentctl swarm logs builder-003 -n 200
      agentctl swarm logs coordinator --json | jq .kind
    """
    places = here()
    path = places.service_log(name) if name in SERVICES else places.agent_log(name)
    if not path.exists() and not following:
        raise SwarmError(f"{name} has no log yet ({path})", _hint(places, name))
    shape: Callable[[str], str] = (lambda line: line) if raw else pretty
    for line in read_last(path, count):
        say(shape(line))
    if following:
        for line in follow(path, start=_end_of(path)):
            say(shape(line))


@click.command("story")
@click.argument("name", type=AgentName(), metavar="AGENT")
@click.option("--json", "raw", is_flag=True, help="The journal's own lines.")
def story(name: str, raw: bool) -> None:
    """What happened to an agent, from the journal: starts, tasks, crashes, and why.

    Needs no running swarm.
    """
    places = here()
    entries = (entry for line in journal_lines(places) if (entry := _object(line)) is not None)
    told = False
    if raw:
        for entry in entries:
            if entry.get("child") == name:
                told = True
                say(msgspec.json.encode(entry).decode())
    else:
        for line in view.story(entries, name):
            told = True
            say(line)
    if not told:
        raise SwarmError(
            f"the journal in {places.journal} tells nothing of {name}",
            "'agentctl swarm status --all' lists the agents there are",
        )


def journal_lines(places: Places) -> Iterator[str]:
    """Every line of the journal, oldest first: rotated files have the higher numbers."""
    if not places.journal.is_dir():
        return
    files = sorted(places.journal.iterdir(), key=_age_rank)
    for path in files:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                yield line.rstrip("\n")


def _age_rank(path: Path) -> tuple[int, float]:
    suffix = path.suffix.removeprefix(".")
    number = int(suffix) if suffix.isdigit() else 0
    return (-number, path.stat().st_mtime)


def pretty(line: str) -> str:
    """``12:30:01 kind  key=value …`` of a JSON line; anything else as it is.

    Fields with no value are left out.
    """
    entry = _object(line)
    if entry is None:
        return line
    stamp = str(entry.pop("ts", entry.pop("at", "")))
    kind = str(entry.pop("kind", entry.pop("type", "")))
    fields = " ".join(
        f"{key}={_field(value)}" for key, value in entry.items() if value not in (None, "", [], {})
    )
    clock = stamp[:19].replace("T", " ")
    return one_line(f"{clock} {kind}  {fields}".strip())


def _field(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"' if " " in value else value
    return msgspec.json.encode(value).decode()


def _object(line: str) -> dict[str, object] | None:
    try:
        return msgspec.json.decode(line, type=dict[str, object])
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        return None


def read_last(path: Path, count: int) -> list[str]:
    """The last ``count`` lines of a file, of which at most the last 16 MiB are looked at."""
    if not count or not path.exists():
        return []
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - _DROP))
        if size > _DROP:
            file.readline()  # the rest of a line whose beginning is not seen
        last: deque[bytes] = deque(file, maxlen=count)
    return [many_lines(line.decode(errors="replace").rstrip("\n")) for line in last]


def _end_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def follow(path: Path, start: int = 0, until: Callable[[], bool] | None = None) -> Iterator[str]:
    """Lines added to a file from byte ``start`` on, through rotation and truncation.

    Ends when ``until`` says so and everything written by then was given; without it, never.  The
    file may be missing at first.
    """
    file: BinaryIO | None = None
    rest = b""
    try:
        while True:
            last_look = until is not None and until()
            if file is None and (file := _open(path)) is not None:
                file.seek(start)
                start = 0
            if file is not None and (data := file.read(65536)):
                *lines, rest = (rest + data).split(b"\n")
                if len(rest) > LONGEST:
                    lines, rest = [*lines, rest], b""
                yield from (line.decode(errors="replace") for line in lines)
            elif file is not None and _replaced(path, file):
                file.close()
                file, rest = None, b""
            elif last_look:
                if rest:
                    yield rest.decode(errors="replace")
                return
            else:
                time.sleep(FOLLOW_SECONDS)
    finally:
        if file is not None:
            file.close()


def _open(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _replaced(path: Path, file: BinaryIO) -> bool:
    """Whether the name stands for another file by now, or this one was cut short."""
    here_now = os.fstat(file.fileno())
    try:
        there = path.stat()
    except FileNotFoundError:
        return False  # between two renames of a rotation
    return there.st_ino != here_now.st_ino or here_now.st_size < file.tell()


def _hint(places: Places, name: str) -> str:
    if name in SERVICES:
        return "logs begin with the first 'agentctl swarm up'"
    agents = places.logs / "agents"
    known = sorted(p.stem for p in agents.glob("*.log")) if agents.is_dir() else []
    return f"there are logs of {', '.join(known[:20])}" if known else "no agent has one"
