"""Values on their way from one supervisor to the next: all of them come back, or an error."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given
from mutants import mutant

from swarm.errors import BadMessage
from swarm.supervisor import handover_codec
from swarm.supervisor.handover_codec import Codec, classes_of, name_of


class Colour(Enum):
    RED = "red"
    PAIR = (1, 2)


@dataclass(frozen=True)
class Point:
    x: float
    tags: frozenset[str] = frozenset()


@dataclass
class Box:
    point: Point
    old: int = 7


class Line(msgspec.Struct, frozen=True):
    points: tuple[Point, ...] = ()
    raw: bytes = b""


CLASSES = (Colour, Point, Box, Line)

numbers = st.floats(allow_nan=False) | st.integers(-(2**60), 2**60)
hashable = st.none() | st.booleans() | numbers | st.text() | st.sampled_from(Colour)
hashable |= st.tuples(hashable, hashable) | st.frozensets(st.text(max_size=3), max_size=1)
points = st.builds(Point, numbers, st.frozensets(st.text(max_size=3), max_size=1))
leaves = hashable | points | st.binary() | st.builds(Path, st.sampled_from(["a/b", "/", "."]))
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.sets(hashable, max_size=1)
        | st.dictionaries(hashable, inner, max_size=3)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3).map(OrderedDict)
        | st.builds(Line, st.tuples(points), st.binary())
        | st.builds(Box, points, st.integers(0, 9))
    ),
    max_leaves=12,
)


def there_and_back(value: object, module: Any = handover_codec) -> object:
    """By way of real bytes."""
    codec = module.Codec(CLASSES)
    return codec.decode(msgspec.json.decode(msgspec.json.encode(codec.encode(value))))


def same(one: object, other: object) -> bool:
    """Equal, and of the same kinds and in the same order all the way down."""
    return one == other and repr(one) == repr(other)


@given(values)
def test_every_value_comes_back(value: object) -> None:
    assert same(there_and_back(value), value)


@pytest.mark.parametrize(
    ("old", "new", "value"),
    [
        ("return tuple(self.decode(one) for one in value)", "return list(value)", (1, 2)),
        ('_tagged("float", str(value))', "None", float("inf")),
        ("return cls(self.decode(value))", "return self.decode(value)", Colour.RED),
        ('"odict" if isinstance(value, OrderedDict) else "dict"', '"dict"', OrderedDict(a=1)),
        ("base64.b64encode(value).decode()", '""', b"abc"),
        ("[[self.encode(key),", "[[str(key),", {1: 2}),
    ],
)
def test_a_planted_bug_is_found(old: str, new: str, value: object) -> None:
    with mutant(handover_codec, old, new) as planted:
        try:
            assert not same(there_and_back(value, planted), value)
        except (BadMessage, TypeError):
            return


def test_versions_may_differ_a_little() -> None:
    codec = Codec(CLASSES)
    box = codec.encode(Box(Point(1.0), 9))
    fields = box["v"]
    del fields["old"]
    fields["new"] = {"$": "a.class.nobody.knows", "v": {}}
    assert codec.decode(box) == Box(Point(1.0), 7)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"$": "os.system", "v": {"command": "true"}}, "os.system"),
        ({"$": name_of(Box), "v": {}}, "point"),
        ({"$": name_of(Colour), "v": "blue"}, "blue"),
        ({"$": "bytes", "v": "!"}, "bytes"),
        ({"$": "float", "v": "much"}, "much"),
        ({"$": "dict", "v": [1]}, "dict"),
        ({"v": 1}, "kind"),
    ],
)
def test_what_makes_no_sense_is_an_error(data: object, says: str) -> None:
    with pytest.raises(BadMessage, match=says):
        Codec(CLASSES).decode(data)


def test_what_nobody_could_read_is_not_written() -> None:
    with pytest.raises(TypeError, match="registry"):
        Codec(()).encode(Point(1.0))
    with pytest.raises(TypeError, match="registry"):
        Codec(CLASSES).encode(lambda: None)


def test_the_registry_holds_what_its_modules_define() -> None:
    from swarm.core import life, restart
    from swarm.wire import lifeline

    found = classes_of(life, lifeline)
    assert {life.Running, life.Then, lifeline.Work} <= set(found)
    assert restart.History not in found
