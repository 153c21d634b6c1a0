"""Work-channel messages: JSON and the short text forms people type."""

from __future__ import annotations

import json
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.core.model import Usage
from swarm.errors import BadMessage
from swarm.wire import work
from swarm.wire.work import (
    Announced,
    Assign,
    Claim,
    TaskAvailable,
    TaskDone,
    TaskFail,
    TaskRef,
    Unclaim,
)

short = st.text(max_size=20)
task = st.builds(TaskRef, id=short, component=short, role=short, title=short, prompt=short,
                 priority=st.integers(-9, 9))  # fmt: skip
maybe = st.none() | st.integers(0, 10**9)
FIELDS = {
    "agentId": short, "task": task, "offer": st.lists(short, max_size=3).map(tuple),
    "idle": st.integers(0, 1000), "slot_ms": st.integers(0, 1000), "fence": st.integers(0, 10**6),
    "lease_seconds": st.floats(0, 1e6), "reason": short, "retry_after": st.floats(0, 1e6),
    "outcome": short, "result": short, "exit_status": st.none() | st.integers(-64, 255),
    "session_id": st.none() | short, "usage": st.builds(Usage, maybe, maybe, maybe, maybe),
    "cost_usd": st.none() | st.floats(0, 1e6), "branch": st.none() | short,
    "commit": st.none() | short, "commits": st.integers(0, 99),
    "retry_at": st.none() | st.floats(0, 1e10), "needs_human": st.booleans(),
    "swarm_budget": st.booleans(), "stale": st.booleans(), "phase": short, "text": short,
    "start": st.none() | short, "review": short, "final": st.booleans(),
    "unresolved": st.lists(short, max_size=3).map(tuple), "aside": st.none() | short,
}  # fmt: skip
KINDS = typing.get_args(work.WorkMessage)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
@given(data=st.data())
def test_every_message_round_trips(kind: type, data: st.DataObject):
    fields = {name: data.draw(FIELDS[name], label=name) for name in kind.__struct_fields__}
    message = kind(**fields)
    assert work.decode(work.encode(message)) == message
    assert json.loads(work.encode(message))["type"] == kind.__struct_config__.tag


def test_the_types_are_those_of_the_contract():
    tags = {kind.__struct_config__.tag for kind in KINDS} - {"TASK"}
    assert tags == {"TASK_AVAILABLE", "CLAIM", "ASSIGN", "REJECTED", "UNCLAIM", "TASK_DONE",
                    "TASK_FAIL", "BLOCKED", "SETTLED", "HEARTBEAT", "STATUS",
                    "APPROVE", "REJECT", "ANSWER", "NEEDS_HUMAN", "REVIEW", "LANDED"}  # fmt: skip


def test_unknown_fields_and_types_are_ignored():
    text = '{"type":"CLAIM","task":{"id":"t-1","colour":"red"},"mood":[1,{"a":2}]}'
    assert work.decode(text) == Claim(task=TaskRef(id="t-1"))
    assert work.decode('{"type":"DANCE","task":{}}') is None
    assert work.decode('{"no":"type"}') is None


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("CLAIM billing-api", Claim(task=TaskRef(component="billing-api"))),
        ("  CLAIM   billing-api  ", Claim(task=TaskRef(component="billing-api"))),
        ("UNCLAIM billing-api", Unclaim(task=TaskRef(component="billing-api"))),
        (
            "ASSIGN billing-api @0123456789abcdef",
            Assign(agentId="0123456789abcdef", task=TaskRef(component="billing-api")),
        ),
        (
            "ASSIGN billing-api 0123456789abcdef",
            Assign(agentId="0123456789abcdef", task=TaskRef(component="billing-api")),
        ),
        (
            "TASK builder: fix it: now",
            Announced(task=TaskRef(role="builder", prompt="fix it: now")),
        ),
        (
            "TASK builder billing-api: fix\nboth lines",
            Announced(
                task=TaskRef(role="builder", component="billing-api", prompt="fix\nboth lines")
            ),
        ),
        (
            "DONE t-1 all of it",
            TaskDone(task=TaskRef(id="t-1"), outcome="succeeded", result="all of it"),
        ),
        ("DONE t-1", TaskDone(task=TaskRef(id="t-1"), outcome="succeeded")),
        (
            "FAIL t-1 no key at all",
            TaskFail(task=TaskRef(id="t-1"), outcome="failed", reason="no key at all"),
        ),
    ],
)
def test_short_forms(text: str, means: work.WorkMessage):
    assert work.decode(text) == means


@pytest.mark.parametrize(
    "text",
    [
        "", "hello everyone", "CLAIM", "CLAIM ../../etc", "CLAIM a b", "claim billing-api",
        "ASSIGN billing-api", "ASSIGN billing-api somebody", "ASSIGN x @0123456789abcdeF",
        "TASK builder", "TASK : nothing", "TASK BAD!: x", "TASK builder: ", "FAIL t-1", "DONE",
        "UNCLAIM", "TASK a b c: too many words", "{", "{not json", '{"type":', "[]", "null", "7",
    ],
)  # fmt: skip
def test_talk_is_none_of_ours(text: str):
    assert work.decode(text) is None


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"CLAIM"}',
        '{"type":"CLAIM","task":"t-1"}',
        '{"type":"ASSIGN","task":{},"fence":"seven"}',
        '{"type":"TASK_AVAILABLE","task":{},"offer":"everyone"}',
        '{"type":"TASK_DONE","task":{},"usage":{"input_tokens":"many"}}',
    ],
)
def test_a_message_of_ours_that_does_not_fit_is_told(text: str):
    with pytest.raises(BadMessage, match="does not fit"):
        work.decode(text)


@given(st.one_of(
    st.text(max_size=80),
    st.tuples(st.sampled_from(["CLAIM", "ASSIGN", "TASK", "DONE", "FAIL", "UNCLAIM"]),
              st.text(max_size=30)).map(" ".join),
    st.dictionaries(st.sampled_from(["type", "task", "fence", "offer", "agentId"]),
                    st.one_of(st.sampled_from(["CLAIM", "ASSIGN", "SETTLED"]), st.none(),
                              st.integers(), st.dictionaries(st.text(max_size=3), st.none())),
                    max_size=5).map(json.dumps),
))  # fmt: skip
def test_any_text_is_a_message_or_none_or_a_documented_error(text: str):
    try:
        found = work.decode(text)
    except BadMessage:
        return
    assert found is None or isinstance(found, KINDS)


def test_deep_nesting_and_length_are_survived():
    assert work.decode('{"type":"DANCE","x":' + "[" * 100_000) is None
    assert work.decode("{" * 200_000) is None
    assert work.decode('{"type":"CLAIM","task":{"id":"' + "x" * work.MAX_CONTENT + '"}}') is None


def test_offers_and_idle_travel():
    text = work.encode(TaskAvailable(task=TaskRef(id="t"), offer=("swarm-qa-001",), idle=9))
    assert json.loads(text) == {
        "type": "TASK_AVAILABLE", "task": {"id": "t"}, "offer": ["swarm-qa-001"], "idle": 9
    }  # fmt: skip
