"""One YAML file as plain data that knows where each key stands, or problems with their lines.

Read from parser events rather than by a YAML library's loader, because that loses lines and
duplicate keys, and because a small file may then cost any amount of memory (aliases) or time
(nesting).  What is read is YAML's plain part: one document of mappings, lists and scalars; no
anchors, no tags.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeAlias

import yaml

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 30
MAX_NODES = 20_000

Key: TypeAlias = tuple[str | int, ...]
"""The way from the top to a value: names of keys, places in lists from 0."""

_Loader: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_PLAIN_TAGS = {
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq")
}

_WHY_TABS = "YAML is indented with spaces, and this line has a tab"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with one file."""

    path: str
    """The file, as it was named."""
    line: int
    """From 1; 0 where the file as a whole is meant."""
    key: str
    """Dotted path, ``limits.max_active``; empty where no key is meant."""
    what: str
    """What is wrong and how to mend it, on one line."""

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        return f"{place}: {self.key}: {self.what}" if self.key else f"{place}: {self.what}"


@dataclass(frozen=True, slots=True)
class Document:
    """A file's data, with the line of every key and list item.

    With problems it is what could be read, good for finding more problems and nothing else.
    """

    name: str
    data: dict[str, object]
    lines: dict[Key, int]
    problems: tuple[Problem, ...] = ()

    def problem(self, key: Key, what: str) -> Problem:
        """A problem at ``key``, on its line or that of the nearest key above it."""
        at = key
        while at and at not in self.lines:
            at = at[:-1]
        return Problem(self.name, self.lines.get(at, 0), dotted(key), what)


def dotted(key: Key) -> str:
    """``("agents", 0, "role")`` as people write it: ``agents[0].role``."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            part = part if part.isprintable() and len(part) <= 60 else repr(part[:60])
            text += f".{part}" if text else part
    return text


def read_document(path: Path) -> Document:
    """Read a file; what keeps it from being read is a problem too."""
    name = str(path)
    try:
        data = read_capped(path)
    except OSError as error:
        return _failed(name, 0, f"cannot be read: {error.strerror or error}")
    except ValueError as error:
        return _failed(name, 0, str(error))
    return parse_document(data, name)


def read_capped(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes of a regular file of at most ``max_bytes``; raises ``ValueError`` for others.

    Opened without blocking: a named pipe in its place must not hang a reload.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("is not a regular file; name a text file")
        with open(fd, "rb", closefd=False) as file:
            data = file.read(max_bytes + 1)
    finally:
        os.close(fd)
    if len(data) > max_bytes:
        raise ValueError(f"is larger than {max_bytes // 1024} KiB; it cannot be what is meant")
    return data


def parse_document(
    text: str | bytes,
    name: str,
    *,
    listed: str = "",
    max_bytes: int = MAX_BYTES,
    max_nodes: int = MAX_NODES,
) -> Document:
    """Read a text.  An empty one is an empty mapping.

    With ``listed`` the text may be a list, which is read as if it stood under that key.
    """
    if isinstance(text, bytes):
        raw = text
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = raw[: error.start].count(b"\n") + 1
            return _failed(name, line, "is not UTF-8 text; save it as UTF-8")
    if len(text) > max_bytes:
        return _failed(name, 0, f"is larger than {max_bytes // 1024} KiB")
    reader = None
    try:
        reader = _Reader(text, name, listed, max_nodes)
        return reader.document()
    except _Refused as refused:
        return Document(name, {}, {}, refused.problems)
    except yaml.MarkedYAMLError as error:
        return _failed(name, *_explain(error, text))
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1 if isinstance(error.position, int) else 0
        return _failed(name, line, "holds a character that no text file should; remove it")
    finally:
        if reader is not None:
            reader.close()


def _failed(name: str, line: int, what: str) -> Document:
    return Document(name, {}, {}, (Problem(name, line, "", what),))


def _explain(error: yaml.MarkedYAMLError, text: str) -> tuple[int, str]:
    """The line, and the parser's complaint in words; tabs are what people trip over most."""
    mark = error.problem_mark or error.context_mark
    rows = text.splitlines()
    line = min(mark.line + 1, len(rows)) if mark is not None else 0
    row = rows[line - 1] if 0 < line <= len(rows) else ""
    if "\t" in row[: len(row) - len(row.lstrip())]:
        return line, _WHY_TABS
    said = error.problem or error.context or "it makes no sense"
    return line, f"is not YAML here: {said}"


class _Refused(Exception):
    """The file cannot be read to its end."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(*problems)
        self.problems = problems


class _Reader:
    """Builds data from events, one pass, bounded in depth and number."""

    def __init__(self, text: str, name: str, listed: str, max_nodes: int) -> None:
        self._loader = _Loader(text)
        self._name = name
        self._listed = listed
        self._max_nodes = max_nodes
        self._nodes = 0
        self._lines: dict[Key, int] = {}
        self._problems: list[Problem] = []

    def close(self) -> None:
        self._loader.dispose()

    def document(self) -> Document:
        self._next()  # the stream's start
        if isinstance(self._next(), yaml.StreamEndEvent):
            return Document(self._name, {}, {})
        event = self._next()
        if self._listed and isinstance(event, yaml.SequenceStartEvent):
            data: object = {self._listed: self._node(event, (self._listed,))}
        else:
            data = self._node(event, ())
        self._next()  # the document's end
        after = self._next()
        if not isinstance(after, yaml.StreamEndEvent):
            self._refuse(after, (), "holds a second document ('---'); keep one")
        if data is None and not self._problems:
            data = {}
        if not isinstance(data, dict) and not self._problems:
            self._refuse(event, (), "must be a mapping of keys to values ('key: value' lines)")
        data = data if isinstance(data, dict) else {}
        return Document(self._name, data, self._lines, tuple(self._problems))

    def _next(self) -> yaml.Event:
        self._nodes += 1
        event: yaml.Event = self._loader.get_event()
        if self._nodes > self._max_nodes:
            self._refuse(event, (), f"holds more than {self._max_nodes} items; it cannot be meant")
        return event

    def _refuse(self, event: yaml.Event, key: Key, what: str) -> NoReturn:
        raise _Refused(*self._problems, self._problem(event, key, what))

    def _problem(self, event: yaml.Event, key: Key, what: str) -> Problem:
        return Problem(self._name, _line(event), dotted(key), what)

    def _node(self, event: yaml.Event, key: Key) -> object:
        if len(key) > MAX_DEPTH:
            self._refuse(event, (), "is nested too deeply")
        match event:
            case yaml.MappingStartEvent():
                self._check_tag(event, event.tag, key)
                return self._mapping(key)
            case yaml.SequenceStartEvent():
                self._check_tag(event, event.tag, key)
                return self._sequence(key)
            case yaml.ScalarEvent():
                self._check_tag(event, event.tag, key)
                return self._scalar(event, key)
            case _:
                what = "aliases (*name) are not read here; write the value out"
                self._problems.append(self._problem(event, key, what))
                return None

    def _check_tag(self, event: yaml.Event, tag: str | None, key: Key) -> None:
        if tag is not None and tag not in _PLAIN_TAGS:
            what = f"tags are not read here; remove {tag[:60]!r}"
            self._problems.append(self._problem(event, key, what))

    def _mapping(self, key: Key) -> dict[str, object]:
        data: dict[str, object] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self._refuse(event, key, "a key must be a plain word")
            name = str(event.value)
            here = (*key, name)
            if name in data:
                first = self._lines[here]
                what = f"stands here a second time, first on line {first}; keep one"
                self._problems.append(self._problem(event, here, what))
            else:
                self._lines[here] = _line(event)
            data[name] = self._node(self._next(), here)
        return data

    def _sequence(self, key: Key) -> list[object]:
        items: list[object] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            here = (*key, len(items))
            self._lines[here] = _line(event)
            items.append(self._node(event, here))
        return items

    def _scalar(self, event: yaml.ScalarEvent, key: Key) -> object:
        """Text, number, true, false or null; whatever else YAML knows (dates) stays text."""
        tag = event.tag or self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        node = yaml.ScalarNode(tag, event.value)
        try:
            match tag.rpartition(":")[2]:
                case "null":
                    return None
                case "bool":
                    return bool(self._loader.construct_yaml_bool(node))
                case "int":
                    return int(self._loader.construct_yaml_int(node))
                case "float":
                    return float(self._loader.construct_yaml_float(node))
                case _:
                    return str(event.value)
        except (ValueError, OverflowError, LookupError):
            self._problems.append(
                self._problem(event, key, "is not what its tag or its digits say")
            )
            return None


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 0


def join(problems: Sequence[Problem]) -> tuple[str, ...]:
    """Problems as the lines an error carries, in the order of their lines."""
    return tuple(str(p) for p in sorted(problems, key=lambda p: (p.path, p.line)))
