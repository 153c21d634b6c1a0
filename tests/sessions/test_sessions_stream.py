"""The parser takes any bytes in any pieces."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.sessions.model import (
    MAX_TEXT,
    Note,
    Parser,
    Problem,
    ProblemKind,
    SessionEvent,
    Summary,
    Text,
)
from swarm.sessions.registry import ADAPTERS, adapter
from swarm.sessions.stream import LineCutter, LineParser, Reader

TRANSCRIPTS = sorted((Path(__file__).parents[1] / "transcripts").glob("*.jsonl"))

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
KEYS = (
    st.sampled_from(["type", "subtype", "message", "content", "usage", "id", "name", "input"])
    | st.sampled_from(["error", "item", "part", "tokens", "cache", "cost", "state", "text"])
    | st.sampled_from(["session_id", "thread_id", "sessionID", "result", "is_error", "reason"])
    | st.sampled_from(["permission_denials", "status", "attempt", "data", "rate_limit_info"])
    | st.sampled_from(["api_error_status", "retry_delay_ms", "total_cost_usd"])
)
TYPES = (
    st.sampled_from(["system", "init", "api_retry", "assistant", "result", "rate_limit_event"])
    | st.sampled_from(["thread.started", "item.started", "item.completed", "turn.completed"])
    | st.sampled_from(["turn.failed", "error", "step_finish", "text", "tool_use", "tool"])
    | st.sampled_from(["agent_message", "command_execution"])
)
records = st.dictionaries(
    KEYS, TYPES | values | st.dictionaries(KEYS, TYPES | values, max_size=4), max_size=6
)


def whole(parser: Parser, data: bytes) -> list[SessionEvent]:
    return parser.feed(data) + parser.finish()


class Echo(Reader):
    """Tells each record as text."""

    def read(self, record: dict[str, object]) -> list[SessionEvent]:
        return [Text(json.dumps(record))]


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda p: p.stem)
def test_a_byte_at_a_time_reads_the_same(path: Path) -> None:
    name = path.stem.partition("-")[0]
    data = path.read_bytes()
    expected = whole(adapter(name).parser(), data)
    parser = adapter(name).parser()
    found = [event for n in range(len(data)) for event in parser.feed(data[n : n + 1])]
    assert found + parser.finish() == expected
    assert len(expected) > 2


def split_anyhow(parser_of: type[LineParser], data: bytes, cuts: list[int]) -> bool:
    """Whether ``data`` in pieces reads as ``data`` whole."""
    parser = parser_of(Echo(), max_line=16)
    found: list[SessionEvent] = []
    edges = [0, *sorted(c % (len(data) + 1) for c in cuts), len(data)]
    for start, end in pairwise(edges):
        found += parser.feed(data[start:end])
    return found + parser.finish() == whole(parser_of(Echo(), max_line=16), data)


lines = st.lists(
    st.sampled_from([b'{"a": 1}', b"plain", b"", b"x" * 17, b"\xff\xfe", b'{"a": ', b"\r"]),
    max_size=6,
).map(b"\n".join)


@given(lines, st.lists(st.integers(0, 200), max_size=5))
def test_any_split_reads_the_same(data: bytes, cuts: list[int]) -> None:
    assert split_anyhow(LineParser, data, cuts)


def test_the_split_property_catches_a_parser_that_forgets_parts() -> None:
    class Forgetful(LineParser):
        def feed(self, data: bytes) -> list[SessionEvent]:
            self._output = LineCutter(16)  # the planted bug: each piece begins anew
            return super().feed(data)

    assert not split_anyhow(Forgetful, b'{"a": 1}\nplain', [4])


@given(st.sampled_from(ADAPTERS), st.lists(records | values, max_size=4), st.binary(max_size=60))
def test_whatever_comes_never_raises(name: str, given: list[object], junk: bytes) -> None:
    parser = adapter(name).parser()
    data = b"\n".join([json.dumps(one).encode() for one in given] + [junk])
    summary = Summary()
    for event in parser.feed(data) + parser.feed_stderr(data) + parser.finish():
        summary = summary.heard(event)
    assert summary.cost_usd is None or summary.cost_usd >= 0


@pytest.mark.parametrize("name", ADAPTERS)
def test_deep_nesting_is_text(name: str) -> None:
    bomb = b'{"type":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    (event,) = whole(adapter(name).parser(), bomb)
    assert isinstance(event, Text)
    assert event.raw
    assert len(event.text) <= MAX_TEXT


def test_a_line_over_the_cap_is_left_out_and_told() -> None:
    parser = LineParser(Echo(), max_line=100)
    events = parser.feed(b"y" * 5000 + b"\nafter\n")
    assert isinstance(events[0], Problem)
    assert events[0].kind is ProblemKind.OTHER
    assert events[1:] == [Text("after", raw=True)]


def test_an_endless_line_is_not_kept() -> None:
    cutter = LineCutter(1000)
    for _ in range(50):
        assert cutter.cut(b"z" * 999) == []
    assert len(cutter._part) <= 1000
    assert cutter.rest() == [None]


def test_lines_that_are_no_json_are_text_as_they_came() -> None:
    events = whole(LineParser(Echo()), b"hello\n[1, 2]\n{broken\n\n\xff!\n")
    assert events == [
        Text("hello", raw=True),
        Text("[1, 2]", raw=True),
        Text("{broken", raw=True),
        Text("�!", raw=True),
    ]


def test_standard_error_is_noted_and_long_lines_of_it_dropped() -> None:
    parser = LineParser(Echo())
    assert parser.feed_stderr(b"warn") == []
    assert parser.feed_stderr(b"ing\n" + b"x" * 100_000 + b"\n") == [Note("warning")]
    assert parser.feed_stderr(b"last") == []
    assert parser.finish() == [Note("last")]
