"""Values as plain JSON data and back, for a supervisor that hands itself over to a newer one.

No pickle: only classes of a registry come back, each by its name, and its fields by theirs.  What
a version does not know it leaves out, what the other did not write takes its default; so two
versions may differ a little and still understand each other.  A class or an enum member that is
not there any more, or a field without a default, is an error: nothing is guessed.

JSON has neither tuples, sets, bytes, infinities nor keys that are no text; each is written as
``{"$": <what it is>, "v": …}``, and so is a mapping, which keeps its order.
"""

from __future__ import annotations

import base64
import dataclasses
import importlib
import math
import pkgutil
from collections import OrderedDict
from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from swarm.errors import BadMessage

_TAG, _VALUE = "$", "v"

_PLAIN: dict[str, Callable[[Any], object]] = {
    "float": float,
    "bytes": partial(base64.b64decode, validate=True),
    "path": Path,
}
"""Values written as one text."""


class Codec:
    """Writes and reads values made of builtins and of the ``classes`` it was given."""

    def __init__(self, classes: Iterable[type]) -> None:
        self._classes = {name_of(cls): cls for cls in classes}

    # -- writing ----------------------------------------------------------------------------------

    def encode(self, value: object) -> object:
        """``value`` as JSON data.  Raises ``TypeError`` for what no reader could make again."""
        if value is None or type(value) in (bool, int, str):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else _tagged("float", str(value))
        if type(value) is list:
            return [self.encode(one) for one in value]
        if isinstance(value, (dict, OrderedDict)):
            pairs = [[self.encode(key), self.encode(one)] for key, one in value.items()]
            return _tagged("odict" if isinstance(value, OrderedDict) else "dict", pairs)
        return self._encode_rare(value)

    def _encode_rare(self, value: object) -> object:
        match value:
            case Enum():
                self._known(type(value))
                return _tagged(name_of(type(value)), self.encode(value.value))
            case tuple() | set() | frozenset():
                return _tagged(type(value).__name__, [self.encode(one) for one in value])
            case bytes() | bytearray():
                return _tagged("bytes", base64.b64encode(value).decode())
            case Path():
                return _tagged("path", str(value))
            case _:
                self._known(type(value))
                fields = {name: self.encode(getattr(value, name)) for name in _fields(type(value))}
                return _tagged(name_of(type(value)), fields)

    def _known(self, cls: type) -> None:
        if self._classes.get(name_of(cls)) is not cls:
            raise TypeError(f"{cls!r} is not in the registry: nobody could read it")

    # -- reading ----------------------------------------------------------------------------------

    def decode(self, data: object) -> Any:
        """The value ``data`` was written from.  Raises :class:`~swarm.errors.BadMessage`."""
        if isinstance(data, list):
            return [self.decode(one) for one in data]
        if not isinstance(data, dict):
            return data
        try:
            tag, value = data[_TAG], data[_VALUE]
        except KeyError:
            raise BadMessage("a value without its kind") from None
        try:
            return self._decode_tagged(tag, value)
        except (TypeError, ValueError) as error:
            raise BadMessage(f"no {tag}: {error}") from None

    def _decode_tagged(self, tag: str, value: Any) -> object:
        match tag:
            case "dict":
                return {self.decode(key): self.decode(one) for key, one in value}
            case "odict":
                return OrderedDict((self.decode(key), self.decode(one)) for key, one in value)
            case "tuple":
                return tuple(self.decode(one) for one in value)
            case "set":
                return {self.decode(one) for one in value}
            case "frozenset":
                return frozenset(self.decode(one) for one in value)
            case _:
                if (plain := _PLAIN.get(tag)) is not None:
                    return plain(value)
                return self._decode_own(tag, value)

    def _decode_own(self, tag: str, value: Any) -> object:
        cls = self._classes.get(tag)
        if cls is None:
            raise BadMessage(f"it speaks of {tag!r}, which this version does not know")
        if issubclass(cls, Enum):
            return cls(self.decode(value))
        # Only what this version has is decoded: an unknown field may hold unknown classes.
        known = {name: self.decode(value[name]) for name in _fields(cls) if name in value}
        return cls(**known)


def classes_of(*packages: ModuleType) -> list[type]:
    """Every dataclass, struct and enum defined in these modules, or in the packages' modules."""
    found: list[type] = []
    for package in packages:
        for module in (package, *_modules(package)):
            for one in vars(module).values():
                own = isinstance(one, type) and one.__module__ == module.__name__
                if own and (
                    dataclasses.is_dataclass(one) or issubclass(one, (msgspec.Struct, Enum))
                ):
                    found.append(one)
    return found


def name_of(cls: type) -> str:
    """How a class is called in the document: ``core.life.Running``."""
    return f"{cls.__module__}.{cls.__qualname__}".removeprefix("swarm.")


def _modules(package: ModuleType) -> list[ModuleType]:
    path = getattr(package, "__path__", None)
    if path is None:
        return []
    names = sorted(module.name for module in pkgutil.iter_modules(path))
    return [importlib.import_module(f"{package.__name__}.{name}") for name in names]


def _fields(cls: type) -> tuple[str, ...]:
    if issubclass(cls, msgspec.Struct):
        return cls.__struct_fields__
    if dataclasses.is_dataclass(cls):
        return tuple(field.name for field in dataclasses.fields(cls) if field.init)
    raise TypeError(f"{cls!r} has no fields")


def _tagged(tag: str, value: object) -> dict[str, object]:
    return {_TAG: tag, _VALUE: value}
