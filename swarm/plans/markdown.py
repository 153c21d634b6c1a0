"""``tasks.md``: a plan as people write it, read into the same data as the YAML form.

The grammar (``docs/plans.md`` tells it to people)::

    # Title of the plan
    role: builder                       defaults, directly below the title

    Notes for people, up to the first task.

    - [ ] parser: Split the parser      a task: its key, and its text
      role: builder                     what is said of it, directly below
      after: lexer, ids

      More of its text, indented.

or, where any second-level heading reads ``## key: title``, each such heading is a task and all
below it, up to the next, is its text.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field

from swarm.config.document import Document, Key, Problem
from swarm.plans.shape import LISTS

_TITLE = re.compile(r"#[ \t]+(?P<text>\S.*?)[ \t#]*\Z")
_HEADING = re.compile(r"##[ \t]+(?P<text>\S.*?)[ \t#]*\Z")
_ITEM = re.compile(r"[-*+][ \t]+\[(?P<done>[ xX])\][ \t]+(?P<text>\S.*)\Z")
_KEYED = re.compile(r"`?(?P<key>[A-Za-z0-9][A-Za-z0-9._-]{0,63})`?:[ \t]+(?P<text>\S.*)\Z")
_SAID = re.compile(r"(?:[-*+][ \t]+)?(?P<name>[a-z_]+):(?:[ \t]+(?P<value>.*))?\Z")
_FENCE = re.compile(r"[ \t]*(?P<mark>```+|~~~+)")
_GROUPS = re.compile(r"(?:#{1,6}[ \t]|-{3,}[ \t]*\Z|\*{3,}[ \t]*\Z|<!--)")
_NUMBER = re.compile(r"-?[0-9]{1,15}\Z")


@dataclass(slots=True)
class _Item:
    """A task while it is read."""

    line: int
    head: str
    done: bool = False
    body: list[tuple[int, str]] = field(default_factory=list)
    """What stands below it: line numbers and lines."""


def parse_markdown(text: str, name: str) -> Document:
    """The data of a Markdown plan, with the line of everything in it."""
    rows = list(enumerate(text.splitlines(), 1))
    keyed = any(_keyed_heading(row) for _, row in _outside_fences(rows))
    found = _Found(name)
    items = _headings(rows, found) if keyed else _items(rows, found)
    title, said = _top(rows)
    if title is not None:
        found.put(("title",), title[1], title[0])
    for number, key, value in said:
        found.put(("defaults", key), value, number)
    for place, item in enumerate(one for one in items if not one.done):
        _task(found, place, item, keyed=keyed)
    gone = {key for item in items if item.done and (key := _split(item.head)[0])}
    found.forget(gone)
    return found.document()


class _Found:
    """Data as it comes together."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._data: dict[str, object] = {"tasks": []}
        self._lines: dict[Key, int] = {("tasks",): 1}
        self._problems: list[Problem] = []

    def put(self, key: Key, value: object, line: int) -> None:
        """Set one value; a second one for the same key is a problem."""
        target: object = self._data
        for part, below in itertools.pairwise(key):
            if isinstance(target, list):
                assert isinstance(part, int)
                while len(target) <= part:
                    target.append({})
                target = target[part]
            elif isinstance(target, dict):
                target = target.setdefault(part, [] if isinstance(below, int) else {})
        assert isinstance(target, dict)
        if key in self._lines:
            what = f"stands here a second time, first on line {self._lines[key]}; keep one"
            self.problem(line, what, str(key[-1]))
            return
        self._lines[key] = line
        target[key[-1]] = value

    def at(self, key: Key, line: int) -> None:
        """Where something stands that has no value of its own."""
        self._lines.setdefault(key, line)

    def problem(self, line: int, what: str, key: str = "") -> None:
        self._problems.append(Problem(self._name, line, key, what))

    def forget(self, gone: set[str]) -> None:
        """Nothing waits for what is ticked off: it is done."""
        tasks = self._data["tasks"]
        for task in tasks if isinstance(tasks, list) else ():
            after = task.get("after")
            if gone and isinstance(after, list):
                task["after"] = [key for key in after if key not in gone]

    def document(self) -> Document:
        return Document(self._name, self._data, self._lines, tuple(self._problems))


def _top(
    rows: list[tuple[int, str]],
) -> tuple[tuple[int, str] | None, list[tuple[int, str, object]]]:
    """The title, and the defaults directly below it."""
    for place, (number, row) in enumerate(rows):
        if found := _TITLE.match(row):
            return (number, found["text"]), _said(rows[place + 1 :])[0]
        if row.strip() and not row.lstrip().startswith("<!--"):
            break
    return None, []


def _items(rows: list[tuple[int, str]], found: _Found) -> list[_Item]:
    """Tasks as a check list: what is indented below an item is its own."""
    items: list[_Item] = []
    for number, row in rows:
        if box := _ITEM.match(row):
            items.append(_Item(number, box["text"].rstrip(), box["done"] != " "))
        elif not row.strip() or row[:1] in " \t":
            if items:
                items[-1].body.append((number, row))
        elif items and not _GROUPS.match(row):
            what = "belongs to no task: indent it below its task's line, or begin it with '- [ ] '"
            found.problem(number, what)
    for item in items:
        item.body = _dedented(item.body)
    return items


def _headings(rows: list[tuple[int, str]], found: _Found) -> list[_Item]:
    """Tasks as second-level headings: all below one, up to the next, is its own."""
    items: list[_Item] = []
    outside = {number for number, _ in _outside_fences(rows)}
    for number, row in rows:
        heading = _HEADING.match(row) if number in outside else None
        if heading is None:
            if items:
                items[-1].body.append((number, row))
        elif _keyed_heading(row):
            items.append(_Item(number, heading["text"]))
        else:
            what = "is no task: write '## key: title', or use a deeper heading inside a task"
            found.problem(number, what)
    return items


def _task(found: _Found, place: int, item: _Item, *, keyed: bool) -> None:
    key, head = _split(item.head)
    at: Key = ("tasks", place)
    found.at(at, item.line)
    said, rest = _said(item.body)
    lines = [row for _, row in rest]
    body = "\n".join(lines).strip("\n").rstrip()
    if key:
        found.put((*at, "key"), key, item.line)
    if keyed:
        found.put((*at, "title"), head, item.line)
    found.put((*at, "text"), f"{head}\n\n{body}" if body else head, item.line)
    for number, name, value in said:
        found.put((*at, name), value, number)


def _split(head: str) -> tuple[str, str]:
    """``key: text`` in its two parts; an empty key where there is none."""
    found = _KEYED.match(head)
    return (found["key"], found["text"]) if found else ("", head)


def _said(
    rows: list[tuple[int, str]],
) -> tuple[list[tuple[int, str, object]], list[tuple[int, str]]]:
    """The ``name: value`` lines a block begins with, and the rest of it."""
    said: list[tuple[int, str, object]] = []
    begin = next((place for place, (_, row) in enumerate(rows) if row.strip()), len(rows))
    rows = rows[begin:]
    for place, (number, row) in enumerate(rows):
        found = _SAID.match(row.strip())
        if found is None:
            return said, rows[place:]
        said.append((number, found["name"], _value(found["name"], (found["value"] or "").strip())))
    return said, []


def _value(name: str, text: str) -> object:
    """A value as YAML would have it."""
    if name in LISTS:
        parts = text.removeprefix("[").removesuffix("]").split(",")
        return [part.strip().strip("`") for part in parts if part.strip()]
    if name == "labels":
        pairs = (part.partition("=") for part in text.split(",") if part.strip())
        return {label.strip(): value.strip() for label, _, value in pairs}
    if _NUMBER.match(text):
        return int(text)
    if name == "usd_budget":
        try:
            return float(text.removeprefix("$"))
        except ValueError:
            return text
    return text


def _keyed_heading(row: str) -> bool:
    found = _HEADING.match(row)
    return bool(found and _KEYED.match(found["text"]))


def _outside_fences(rows: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """The rows that lie in no block of code."""
    kept, fence = [], ""
    for number, row in rows:
        mark = _FENCE.match(row)
        if fence:
            if mark and mark["mark"].startswith(fence):
                fence = ""
        elif mark:
            fence = mark["mark"]
        else:
            kept.append((number, row))
    return kept


def _dedented(rows: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Without the indentation all lines share, and without empty lines at the end."""
    rows = [(number, row.expandtabs(4)) for number, row in rows]
    depths = [len(row) - len(row.lstrip()) for _, row in rows if row.strip()]
    depth = min(depths, default=0)
    while rows and not rows[-1][1].strip():
        rows.pop()
    return [(number, row[depth:]) for number, row in rows]
