"""Messages between processes: each round-trips, any split of the stream, garbage is an error."""

from __future__ import annotations

import contextlib
import itertools
import json
import typing

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutants import mutant

from swarm.core.model import (
    AgentState,
    Containment,
    Merge,
    NoticeKind,
    Outcome,
    Review,
    TaskKind,
    Usage,
)
from swarm.errors import BadMessage, FrameTooLarge, WireError
from swarm.wire import control, framing, lifeline, spawn
from swarm.wire.framing import LineBuffer

SIMPLE = {
    str: st.text(max_size=30),
    int: st.integers(-(2**40), 2**40),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    Outcome: st.sampled_from(Outcome),
    AgentState: st.sampled_from(AgentState),
    Containment: st.sampled_from(Containment),
    Merge: st.sampled_from(Merge),
    NoticeKind: st.sampled_from(NoticeKind),
    Review: st.sampled_from(Review),
    TaskKind: st.sampled_from(TaskKind),
    type(None): st.none(),
    typing.Any: st.one_of(st.none(), st.integers(-9, 9), st.text(max_size=5)),
    object: st.one_of(st.none(), st.integers(-9, 9), st.text(max_size=5)),
    msgspec.Raw: st.just(msgspec.Raw(b'{"a":1}')),
}


def values(kind: object) -> st.SearchStrategy:
    """Values of a type as the structs are annotated with."""
    if kind in SIMPLE:
        return SIMPLE[kind]
    if kind is Usage:
        count = st.none() | st.integers(0, 10**9)
        return st.builds(Usage, count, count, count, count)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return st.lists(values(args[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(st.text(max_size=5), values(args[1]), max_size=3)
    if args:
        return st.one_of(*(values(arg) for arg in args))
    assert isinstance(kind, type), kind
    assert issubclass(kind, msgspec.Struct), kind
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{name: values(hints[name]) for name in kind.__struct_fields__})


def members(union: object) -> list[type]:
    return list(typing.get_args(union))


CHILD, PARENT = members(lifeline.ChildLine), members(lifeline.ParentLine)
COMMANDS, ANSWERS = members(control.Command), members(control.Answer)


@pytest.mark.parametrize("kind", CHILD, ids=lambda k: k.__name__)
@given(data=st.data())
def test_every_line_of_a_child_round_trips(kind: type, data: st.DataObject):
    message = data.draw(values(kind))
    line = lifeline.encode(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert lifeline.from_child(line[:-1]) == message


@pytest.mark.parametrize("kind", PARENT, ids=lambda k: k.__name__)
@given(data=st.data())
def test_every_line_of_the_supervisor_round_trips(kind: type, data: st.DataObject):
    message = data.draw(values(kind))
    assert lifeline.from_parent(lifeline.encode(message)) == message


@given(st.data())
def test_control_round_trips(data: st.DataObject):
    request = data.draw(values(control.Request))
    assert control.read_request(control.encode(request)) == request
    answer = data.draw(st.sampled_from(ANSWERS).flatmap(values))
    assert control.read_answer(control.encode(answer)) == answer


@given(st.data())
def test_what_the_zygote_hears_and_says_round_trips(data: st.DataObject):
    kinds = [spawn.DaemonSpec, spawn.ServiceSpec, spawn.JanitorSpec, spawn.Forked, spawn.ForkFailed,
             spawn.ZygoteReady, spawn.Fork]  # fmt: skip
    kind = data.draw(st.sampled_from(kinds))
    message = data.draw(values(kind))
    text = msgspec.json.encode(message)
    assert msgspec.json.encode(msgspec.json.decode(text, type=kind)) == text


READERS = [lifeline.from_child, lifeline.from_parent, control.read_request, control.read_answer]


keys = st.sampled_from(["type", "command", "do", "token", "seq", "task"])
json_values = st.recursive(
    st.none() | st.text(max_size=9) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.parametrize("read", READERS, ids=lambda r: r.__name__)
@given(junk=st.binary(max_size=100) | json_values.map(lambda v: json.dumps(v).encode()))
def test_garbage_is_a_message_or_a_documented_error(read, junk: bytes):
    with contextlib.suppress(BadMessage):
        read(junk)


@pytest.mark.parametrize("read", READERS, ids=lambda r: r.__name__)
def test_deep_nesting_is_a_documented_error(read):
    for text in (b"[" * 200_000, b'{"type":"Idle","x":' + b"[" * 200_000, b'{"a":' * 100_000):
        with pytest.raises(BadMessage):
            read(text)


def test_unknown_fields_are_ignored():
    """A newer peer of the same version may say more."""
    line = json.dumps({"type": "Beat", "seq": 3, "mood": ["fine"]}).encode()
    assert lifeline.from_child(line) == lifeline.Beat(seq=3)
    line = json.dumps({"type": "done", "data": {}, "later": 1}).encode()
    assert control.read_answer(line) == control.Done()


def test_tags_are_distinct():
    for union in (CHILD, PARENT, COMMANDS, ANSWERS):
        tags = [kind.__struct_config__.tag for kind in union]
        assert len(set(tags)) == len(tags)


lines_of_bytes = st.lists(st.binary(max_size=40).filter(lambda b: b"\n" not in b), max_size=6)


def split(stream: bytes, cuts: list[int]) -> list[bytes]:
    return [stream[a:b] for a, b in itertools.pairwise([0, *sorted(cuts), len(stream)])]


def lines_in_pieces(kind: type, stream: bytes, cuts: list[int]) -> list[bytes]:
    buffer = kind()
    return [line for piece in split(stream, cuts) for line in buffer.feed(piece)]


@given(lines_of_bytes, st.lists(st.integers(0, 260), max_size=8))
def test_any_split_of_the_stream_gives_the_same_lines(lines: list[bytes], cuts: list[int]):
    stream = b"".join(line + b"\n" for line in lines)
    cuts = [min(cut, len(stream)) for cut in cuts]
    assert lines_in_pieces(LineBuffer, stream, cuts) == lines


def test_every_single_split():
    stream = b"first\n\nthird is longer\n"
    for cut in range(len(stream) + 1):
        assert lines_in_pieces(LineBuffer, stream, [cut]) == [b"first", b"", b"third is longer"]


def test_a_buffer_that_forgets_where_it_searched_is_caught():
    """The planted bug: the search for a newline skips what arrived last."""
    old = "self._searched = len(self._buffer)\n        if"
    with mutant(framing, old, "self._searched = len(self._buffer) + 1\n        if") as planted:
        stream = b"first\n\nthird is longer\n"
        wrong = [
            cut
            for cut in range(len(stream) + 1)
            if lines_in_pieces(planted.LineBuffer, stream, [cut])
            != [b"first", b"", b"third is longer"]
        ]
        assert wrong


@given(st.integers(1, 50), st.integers(0, 3))
def test_a_line_above_the_cap_is_refused_finished_or_not(cap: int, end: int):
    buffer = LineBuffer(cap)
    assert buffer.feed(b"x" * cap) == []
    assert len(buffer.unfinished) == cap
    with pytest.raises(FrameTooLarge):
        buffer.feed(b"y" + b"\n" * end)
    assert issubclass(FrameTooLarge, WireError)


def test_a_line_of_exactly_the_cap_passes():
    assert LineBuffer(4).feed(b"abcd\nef\n") == [b"abcd", b"ef"]
