"""Plain data against a typed section: every problem of it, not only the first.

The types are msgspec structs; what a field may hold is read from its annotation, so the checks,
the messages and the settings can never say different things.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import inspect

from swarm.config.document import Document, Key, Problem

MAX_PROBLEMS = 50
"""Told of one file; nobody reads more at once."""


def check(document: Document, shape: type[msgspec.Struct]) -> list[Problem]:
    """All problems of ``document`` as a ``shape``; none means it converts."""
    return list(_struct(document, document.data, inspect.type_info(shape), ()))


def merged(*groups: Iterable[Problem]) -> tuple[Problem, ...]:
    """Problems in the order of their lines; where two groups name a key, the first is heard."""
    found: list[Problem] = []
    for group in groups:
        known = {problem.key for problem in found if problem.key}
        found += [problem for problem in group if problem.key not in known]
    found.sort(key=lambda problem: problem.line)
    if len(found) > MAX_PROBLEMS:
        more = f"{len(found) - MAX_PROBLEMS} more problems follow; mend these first"
        found[MAX_PROBLEMS:] = [Problem(found[0].path, found[MAX_PROBLEMS].line, "", more)]
    return tuple(found)


def closest(word: str, known: Iterable[str]) -> str:
    """``did you mean …?`` with what ``word`` looks like, or nothing."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {found[0]!r}?" if found else ""


def shown(value: object) -> str:
    """A value in a message: on one line, quoted, not too long."""
    match value:
        case None:
            return "nothing (null)"
        case bool():
            return str(value).lower()
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case str():
            return repr(value if len(value) <= 40 else value[:39] + "…")
        case _:
            text = str(value)
            return text if len(text) <= 40 else text[:39] + "…"


def _struct(
    document: Document, data: Mapping[str, object], shape: Any, key: Key
) -> Iterator[Problem]:
    fields = {field.encode_name: field for field in shape.fields}
    for name, value in data.items():
        field = fields.get(name)
        if field is None:
            known = ", ".join(fields)
            hint = closest(name, fields) or f"known here: {known}"
            yield document.problem((*key, name), f"there is no such key; {hint}")
        else:
            yield from _value(document, value, field.type, (*key, name))
    for name, field in fields.items():
        if field.required and name not in data:
            yield document.problem((*key, name), f"is missing; give {describe(field.type)}")


def _value(document: Document, value: object, shape: Any, key: Key) -> Iterator[Problem]:
    match shape, value:
        case inspect.StructType(), dict():
            yield from _struct(document, value, shape, key)
        case inspect.VarTupleType(item_type=item), list():
            for place, one in enumerate(value):
                yield from _value(document, one, item, (*key, place))
        case inspect.DictType(value_type=item), dict():
            for name, one in value.items():
                yield from _value(document, one, item, (*key, name))
        case inspect.UnionType(types=choices), dict() | list():
            fitting = [c for c in choices if isinstance(c, _CONTAINERS)]
            if fitting:
                yield from _value(document, value, fitting[0], key)
            else:
                yield _mismatch(document, value, shape, key)
        case _:
            if not _fits(value, shape):
                yield _mismatch(document, value, shape, key)


_CONTAINERS = (inspect.StructType, inspect.VarTupleType, inspect.DictType)


def _mismatch(document: Document, value: object, shape: Any, key: Key) -> Problem:
    what = f"must be {describe(shape)}, not {shown(value)}"
    choices = _literals(shape)
    if isinstance(value, str) and (hint := closest(value, choices)):
        what += f"; {hint}"
    elif _wants_text(shape) and isinstance(value, bool | int | float):
        what += "; put it in quotes"
    return document.problem(key, what)


def _fits(value: object, shape: Any) -> bool:
    match shape:
        case inspect.UnionType(types=choices):
            return any(_fits(value, choice) for choice in choices)
        case inspect.NoneType():
            return value is None
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.LiteralType(values=values):
            return not isinstance(value, bool) and value in values
        case inspect.StrType():
            return isinstance(value, str)
        case inspect.IntType():
            whole = isinstance(value, int) and not isinstance(value, bool)
            return whole and _in_range(value, shape)
        case inspect.FloatType():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            return number and _in_range(value, shape)
        case _:
            return False


_LARGEST = 10**15
"""No setting is meant to be larger; keeps every sum of them exact."""


def _in_range(value: Any, shape: Any) -> bool:
    return (
        math.isfinite(value)
        and abs(value) <= _LARGEST
        and (shape.ge is None or value >= shape.ge)
        and (shape.gt is None or value > shape.gt)
        and (shape.le is None or value <= shape.le)
        and (shape.lt is None or value < shape.lt)
    )


def describe(shape: Any) -> str:
    """What a field may hold, for people: ``a whole number, 0 or more, or null``."""
    match shape:
        case inspect.UnionType(types=choices):
            return " or ".join(describe(choice) for choice in choices)
        case inspect.NoneType():
            return "null"
        case inspect.BoolType():
            return "true or false"
        case inspect.LiteralType(values=values):
            words = ", ".join(sorted(str(value) for value in values))
            return f"one of {words}" if len(values) > 1 else words
        case inspect.StrType():
            return "text"
        case inspect.IntType():
            return "a whole number" + _range(shape)
        case inspect.FloatType():
            return "a number" + _range(shape)
        case inspect.VarTupleType():
            return "a list ([…] or lines with '- ')"
        case _:
            return "a mapping ('key: value' lines)"


def _range(shape: Any) -> str:
    if shape.ge is not None and shape.le is not None:
        return f" from {shape.ge} to {shape.le}"
    if shape.ge is not None:
        return f" of {shape.ge} or more"
    return f" above {shape.gt}" if shape.gt is not None else ""


def _literals(shape: Any) -> list[str]:
    match shape:
        case inspect.UnionType(types=choices):
            return [word for choice in choices for word in _literals(choice)]
        case inspect.LiteralType(values=values):
            return [value for value in values if isinstance(value, str)]
        case _:
            return []


def _wants_text(shape: Any) -> bool:
    match shape:
        case inspect.UnionType(types=choices):
            return any(_wants_text(choice) for choice in choices)
        case _:
            return isinstance(shape, inspect.StrType)
