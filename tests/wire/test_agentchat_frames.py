"""Agentchat frames: each round-trips and has the shape of the recording of a real server."""

from __future__ import annotations

import ast
import json
import typing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import BadMessage
from swarm.wire.agentchat import frames

RECORDING = [
    json.loads(line)
    for line in (Path(__file__).parent / "agentchat_recording.jsonl").read_text().splitlines()
]
CLIENT = typing.get_args(frames.ClientFrame)
SERVER = typing.get_args(frames.ServerFrame)

text, number, flag = st.text(max_size=20), st.integers(0, 2**53), st.booleans()
unset = st.just(msgspec.UNSET)
member_list = st.lists(st.builds(dict, id=text, name=text, verified=flag), max_size=3).map(
    lambda found: msgspec.Raw(msgspec.json.encode(found))
)
KINDS: dict[str, st.SearchStrategy] = {
    "str": text, "int": number, "Moment": number, "bool": flag, "str | None": st.none() | text,
    "bool | UnsetType": unset | flag, "str | UnsetType": unset | text,
    "Moment | UnsetType": unset | number, "msgspec.Raw": member_list,
    "msgspec.Raw | UnsetType": unset | member_list,
    "tuple[ChannelInfo, ...]": st.lists(
        st.builds(frames.ChannelInfo, text, number, unset | flag), max_size=3
    ).map(tuple),
}  # fmt: skip


def built(kind: type) -> st.SearchStrategy:
    fields = msgspec.structs.fields(kind)
    names = {field.name: kind.__annotations__[field.name] for field in fields}
    assert all(ast.parse(text) for text in names.values())
    return st.builds(kind, **{name: KINDS[hint] for name, hint in names.items()})


def same(a: object, b: object) -> bool:
    """Equal, raw parts by their bytes."""
    values = zip(
        msgspec.structs.asdict(a).values(), msgspec.structs.asdict(b).values(), strict=True
    )
    return type(a) is type(b) and all(
        bytes(x) == bytes(y) if isinstance(x, msgspec.Raw) else x == y for x, y in values
    )


@pytest.mark.parametrize("kind", CLIENT, ids=lambda k: k.__name__)
@given(data=st.data())
def test_every_client_frame_round_trips(kind: type, data: st.DataObject):
    frame = data.draw(built(kind))
    again = frames.read_client_frame(frames.encode(frame))
    assert again is not None
    assert same(again, frame)


@pytest.mark.parametrize("kind", SERVER, ids=lambda k: k.__name__)
@given(data=st.data())
def test_every_server_frame_round_trips(kind: type, data: st.DataObject):
    frame = data.draw(built(kind))
    again = frames.read_server_frame(frames.encode(frame))
    assert again is not None
    assert same(again, frame)


def test_the_known_types_are_those_of_the_structs():
    """The two lists of names beside the unions cannot drift from them."""
    assert {k.__struct_config__.tag for k in CLIENT} == frames._CLIENT_TYPES
    assert {k.__struct_config__.tag for k in SERVER} == frames._SERVER_TYPES


@pytest.mark.parametrize("at", range(len(RECORDING)))
def test_every_recorded_frame_is_understood_and_said_alike(at: int):
    entry = RECORDING[at]
    frame = entry["frame"]
    read = frames.read_client_frame if entry["dir"] == "client" else frames.read_server_frame
    if frame == "not json":
        with pytest.raises(frames.NotJson):
            read(frame)
        return
    found = read(json.dumps(frame))
    assert found is not None
    assert json.loads(frames.encode(found)) == frame


def test_surrogates_are_replaced_when_encoding():
    out = frames.encode(frames.Error(code="X", message="a\ud800"))
    assert json.loads(out)["message"] == "a?"


def test_a_frame_above_the_cap_is_refused_unread():
    with pytest.raises(BadMessage, match="more than"):
        frames.read_client_frame(" " * (frames.MAX_FRAME + 1))


@pytest.mark.parametrize(
    ("name", "good"),
    [("a", True), ("A_b-9", True), ("x" * 32, True), ("x" * 33, False), ("", False), ("ä", False),
     ("a b", False), ("a\n", False), ("@a", False)],
)  # fmt: skip
def test_names(name: str, good: bool):
    assert frames.is_name(name) is good
