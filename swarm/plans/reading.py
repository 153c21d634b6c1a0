"""A plan file to a plan, or to every problem of it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import msgspec

from swarm.config.check import check, closest, merged, shown
from swarm.config.document import Document, Key, Problem, parse_document, read_capped
from swarm.core.budget import Amount
from swarm.core.model import Merge, OnFailed, Review, is_component
from swarm.errors import UsageError
from swarm.ledger.intake import checked
from swarm.ledger.records import NewTask
from swarm.plans.markdown import parse_markdown
from swarm.plans.model import (
    MAX_BYTES,
    MAX_FILES,
    MAX_MADE,
    MAX_PATH,
    MAX_TASKS,
    PlanFile,
    PlanTask,
    Read,
)
from swarm.plans.order import circles
from swarm.plans.references import is_outside
from swarm.plans.shape import PERSONS, Defaults, Entry, Shape

MAX_NODES = 400_000
"""Keys, values and ends of a YAML plan: 10,000 tasks with some dozen keys each."""
_UNITS = {"k": 1000, "m": 1_000_000}


def read_plan_file(path: Path, roles: Collection[str] | None = None) -> Read:
    """Read a file; what keeps it from being read is a problem too."""
    name = str(path)
    try:
        data = read_capped(path, MAX_BYTES)
    except OSError as error:
        return _failed(name, f"cannot be read: {error.strerror or error}")
    except ValueError as error:
        return _failed(name, str(error))
    return read_plan(data, name, roles)


def read_plan(
    text: str | bytes, name: str, roles: Collection[str] | None = None, *, made: bool = False
) -> Read:
    """Read a text that ``name`` says the form of: Markdown where it ends so, else YAML.

    ``roles`` are the roles there are, ``None`` where nobody knows.  ``made``: a session wrote it,
    so it may not say what is a person's to say.
    """
    if isinstance(text, bytes):
        raw = text
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = raw[: error.start].count(b"\n") + 1
            return _failed(name, "is not UTF-8 text; save it as UTF-8", line)
    if len(text) > MAX_BYTES:
        return _failed(name, f"is larger than {MAX_BYTES // 1024} KiB")
    if made and len(text) > MAX_MADE:
        return _failed(name, f"is longer than {MAX_MADE:,} characters, so its end is missing")
    if PurePosixPath(name).suffix.lower() in (".md", ".markdown"):
        document = parse_markdown(text, name)
    else:
        document = parse_document(
            text, name, listed="tasks", max_bytes=MAX_BYTES, max_nodes=MAX_NODES
        )
    return _read(document, text, roles, made=made)


def _failed(name: str, what: str, line: int = 0) -> Read:
    return Read(None, (Problem(name, line, "", what),))


def _read(document: Document, text: str, roles: Collection[str] | None, *, made: bool) -> Read:
    problems = [*document.problems, *check(document, Shape)]
    shape = msgspec.convert(without_bad(document, problems), Shape)
    if not shape.tasks and problems:
        return Read(None, merged(problems))
    if not shape.tasks:
        return _failed(document.name, "holds no task: a task is '- {key: …, text: …}' under "
                       "'tasks:', in Markdown '- [ ] key: text' or '## key: title'")  # fmt: skip
    if len(shape.tasks) > MAX_TASKS:
        return _failed(document.name, f"holds {len(shape.tasks)} tasks; give at most {MAX_TASKS}")
    entries = [Entry(text=one) if isinstance(one, str) else one for one in shape.tasks]
    reader = _Tasks(document, shape, entries, roles, made=made)
    found = list(reader.problems())
    if problems or found:
        return Read(None, merged(problems, found))
    tasks = tuple(reader.tasks)
    return Read(PlanFile(document.name, shape.title or "", tasks, text))


_BAD = re.compile(r"(?:tasks\[(?P<place>[0-9]+)\]|defaults)\.?(?P<name>[^.\[]*)")


def without_bad(document: Document, problems: Sequence[Problem]) -> dict[str, object]:
    """The data without the values that have problems, so that the rest may show more of them."""
    data = {key: value for key, value in document.data.items() if key in Shape.__struct_fields__}
    for name in {"title", "defaults", "tasks"}.intersection(one.key for one in problems):
        data.pop(name, None)
    given, defaults = data.get("tasks"), data.get("defaults")
    tasks = [_known(one, Entry) for one in given] if isinstance(given, list) else []
    defaults = _known(defaults, Defaults) if isinstance(defaults, dict) else {}
    for found in filter(None, (_BAD.match(one.key) for one in problems)):
        place, name = found["place"], found["name"]
        entry = defaults if place is None else tasks[int(place)]
        if place is not None and not (name and isinstance(entry, dict)):
            tasks[int(place)] = {"text": "?"}  # told of as a whole
        elif isinstance(entry, dict) and entry.pop(name, None) is not None:
            entry.update({"text": "?"} if name in ("text", "prompt") else {})
    return {**data, "tasks": tasks, "defaults": defaults}


def _known(value: object, shape: type[msgspec.Struct]) -> object:
    """A mapping without keys that its shape does not have; anything else as it is."""
    if not isinstance(value, dict):
        return value
    return {key: one for key, one in value.items() if key in shape.__struct_fields__}


class _Tasks:
    """The tasks of one file while they are checked."""

    def __init__(
        self,
        document: Document,
        shape: Shape,
        entries: list[Entry],
        roles: Collection[str] | None,
        *,
        made: bool,
    ) -> None:
        self._document = document
        self._shape = shape
        self._entries = entries
        self._roles = roles
        self._made = made
        self._keys = _keys(entries)
        self.tasks: list[PlanTask] = []

    def problems(self) -> Iterator[Problem]:
        """Everything that is wrong; :attr:`tasks` are whole when nothing is."""
        yield from self._twice()
        yield from self._defaults()
        known = set(self._keys)
        for place, entry in enumerate(self._entries):
            yield from self._task(place, entry, known)
        yield from self._circles()

    def _defaults(self) -> Iterator[Problem]:
        for name in PERSONS if self._made else ():
            if getattr(self._shape.defaults, name) is not None:
                yield self._problem(("defaults", name), _NOT_YOURS)
        role = self._shape.defaults.role
        if role is not None and (why := self._bad_role(role)):
            yield self._problem(("defaults", "role"), why)

    def _twice(self) -> Iterator[Problem]:
        first: dict[str, int] = {}
        for place, (key, entry) in enumerate(zip(self._keys, self._entries, strict=True)):
            at = self._at(place, "key" if entry.id is None else "id")
            if entry.key is not None and entry.id is not None:
                yield self._problem(at, "stands beside key; give one of them")
            if not is_component(key):
                what = "use 1 to 64 letters, digits, dots, dashes or underscores"
                yield self._problem(at, f"{shown(key)} cannot be a task's key: {what}")
            if key in first:
                line = self._line(first[key])
                yield self._problem(at, f"{shown(key)} is the key of the task on line {line} too")
            first.setdefault(key, place)

    def _task(self, place: int, entry: Entry, known: set[str]) -> Iterator[Problem]:
        """One task: added when nothing is wrong with it."""
        found = [
            *self._said(place, entry),
            *self._references(place, entry, known),
            *self._files(place, entry),
        ]
        if not found:
            task = self._made_of(place, entry, known)
            try:
                checked(as_new(task))
            except UsageError as error:
                found = [self._problem(("tasks", place), str(error))]
            else:
                self.tasks.append(task)
        yield from found

    def _said(self, place: int, entry: Entry) -> Iterator[Problem]:
        text, prompt = entry.text, entry.prompt
        if text is not None and prompt is not None:
            yield self._problem(self._at(place, "prompt"), "stands beside text; give one of them")
        elif not (text or prompt or "").strip():
            yield self._problem(
                ("tasks", place), "has no text: say what is to be done, with 'text:'"
            )
        if entry.role is not None and (why := self._bad_role(entry.role)):
            yield self._problem(self._at(place, "role"), why)
        if _tokens(entry.token_budget) == 0:
            what = f"{shown(entry.token_budget)} is no number of tokens; give it as in 50000, 50k"
            yield self._problem(self._at(place, "token_budget"), what)
        for name in PERSONS if self._made else ():
            if getattr(entry, name) is not None:
                yield self._problem(self._at(place, name), _NOT_YOURS)

    def _references(self, place: int, entry: Entry, known: set[str]) -> Iterator[Problem]:
        for number, ref in enumerate(_after(entry)):
            at = self._at(place, "after", number)
            if ref == self._keys[place]:
                yield self._problem(at, f"{shown(ref)} is after itself")
            elif ref in known or (is_outside(ref) and not self._made):
                continue
            elif is_outside(ref):
                yield self._problem(at, f"{shown(ref)} is no task of this plan; remove it")
            else:
                hint = closest(ref, known) or "name another task's key"
                yield self._problem(at, f"no task of this plan is called {shown(ref)}; {hint}")

    def _files(self, place: int, entry: Entry) -> Iterator[Problem]:
        files = _files(entry)
        if len(files) > MAX_FILES:
            yield self._problem(self._at(place, "files"), f"names more than {MAX_FILES} files")
        for number, path in enumerate(files):
            parts = PurePosixPath(path).parts
            if not path.strip() or not path.isprintable() or len(path) > MAX_PATH:
                what = f"{shown(path)} cannot be a file's name"
            elif path.startswith(("/", "~")) or ".." in parts or parts[:1] == (".git",):
                what = f"{shown(path)} must be a path inside the repository"
            else:
                continue
            yield self._problem(self._at(place, "files", number), what)

    def _circles(self) -> Iterator[Problem]:
        pairs = zip(self._keys, self._entries, strict=True)
        # One that is after itself is told of where it says so.
        after = {key: [ref for ref in _after(entry) if ref != key] for key, entry in pairs}
        place = {key: number for number, key in enumerate(self._keys)}
        for circle in circles(after):
            path = " → ".join([*circle[:8], "…", circle[-1]] if len(circle) > 10 else circle)
            what = f"waits for itself: {path}; break the circle"
            yield self._problem(self._at(place[circle[0]], "after"), what)

    def _made_of(self, place: int, entry: Entry, known: set[str]) -> PlanTask:
        other = self._shape.defaults
        refs = list(dict.fromkeys(_after(entry)))
        budget = Amount(
            _tokens(entry.token_budget) or _tokens(other.token_budget),
            other.usd_budget if entry.usd_budget is None else entry.usd_budget,
        )
        priority = other.priority if entry.priority is None else entry.priority
        review, merge = entry.review or other.review, entry.merge or other.merge
        lane = other.lane if entry.lane is None else entry.lane
        labels = {**(other.labels or {}), **(entry.labels or {})}
        return PlanTask(
            key=self._keys[place],
            text=(entry.text or entry.prompt or "").strip(),
            line=self._line(place),
            title=entry.title or "",
            role=entry.role or other.role or "builder",
            component=entry.component or other.component or "",
            priority=priority or 0,
            after=tuple(ref for ref in refs if ref in known),
            outside=tuple(
                (ref, self._document.problem(self._at(place, "after"), "").line)
                for ref in refs
                if ref not in known
            ),
            files=tuple(dict.fromkeys(_files(entry))),
            on_failed=OnFailed(entry.on_failed or other.on_failed or OnFailed.HOLD),
            review=None if review is None else Review(review),
            merge=None if merge is None else Merge(merge),
            lane=lane or "",
            labels={key: str(value) for key, value in labels.items()},
            thread=entry.thread or other.thread or "",
            budget=budget,
        )

    def _bad_role(self, role: str) -> str:
        if self._roles is None or role in self._roles:
            return ""
        known = ", ".join(sorted(self._roles)[:20])
        return (
            f"there is no role {shown(role)}; {closest(role, self._roles) or f'there are {known}'}"
        )

    def _problem(self, key: Key, what: str) -> Problem:
        return self._document.problem(key, what)

    def _line(self, place: int) -> int:
        return self._document.lines.get(("tasks", place), 0)

    def _at(self, place: int, *rest: str | int) -> Key:
        return ("tasks", place, *rest)


_NOT_YOURS = "is for a person to say, not for a plan that a session wrote; remove it"


def as_new(task: PlanTask, after: tuple[str, ...] = ()) -> NewTask:
    """The task as the ledger takes it in; ``after`` are ids of tasks outside of its plan."""
    return NewTask(
        prompt=task.prompt,
        role=task.role,
        component=task.component,
        title=task.title,
        priority=task.priority,
        after=after,
        budget=task.budget,
        lane=task.lane,
        labels=task.labels,
        review=task.review,
        merge=task.merge,
        on_failed=task.on_failed,
        thread=task.thread,
    )


def _keys(entries: list[Entry]) -> list[str]:
    """Every task's key; one without is called by its place, ``task-3``."""
    given = [one.key if one.key is not None else one.id for one in entries]
    taken = {str(key) for key in given if key is not None}
    keys = []
    for number, key in enumerate(given, 1):
        name = f"task-{number}"
        while name in taken:
            name += "x"
        keys.append(name if key is None else str(key))
    return keys


def _after(entry: Entry) -> list[str]:
    match entry.after:
        case None:
            return []
        case tuple():
            return [str(one) for one in entry.after]
        case _:
            return [one.strip() for one in str(entry.after).split(",") if one.strip()]


def _files(entry: Entry) -> tuple[str, ...]:
    if entry.files is None:
        return ()
    return (entry.files,) if isinstance(entry.files, str) else entry.files


def _tokens(given: int | str | None) -> int | None:
    """A number of tokens; 0 for what is none, ``None`` for nothing."""
    if given is None or isinstance(given, int):
        return given
    text = given.strip().replace("_", "")
    unit = _UNITS.get(text[-1:].lower(), 1)
    digits = text[:-1] if unit > 1 else text
    return int(digits) * unit if digits.isascii() and digits.isdigit() and len(digits) < 16 else 0


def resolved(plan: PlanFile, known: Mapping[str, str]) -> tuple[Problem, ...]:
    """Problems of references to other plans' tasks that ``known`` (reference → id) lacks."""
    return tuple(
        Problem(plan.name, line, task.key, f"there is no task {shown(ref)} to be after")
        for task in plan.tasks
        for ref, line in task.outside
        if ref not in known
    )
