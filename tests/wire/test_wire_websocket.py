"""The client codec against ``websockets``' own sans-I/O server, frame by frame."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN, SERVER
from websockets.server import ServerProtocol

from swarm.errors import BadMessage, FrameTooLarge, WireError
from swarm.wire import websocket
from swarm.wire.websocket import Closed, Opened, Ping, Pong, Text, WebSocketClient, apply_mask

KEY = bytes(range(16))


def masks():
    counter = itertools.count(1)
    return lambda: (next(counter) * 2654435761 % 2**32).to_bytes(4, "big")


def client() -> WebSocketClient:
    return WebSocketClient("example.org:6667", "/chat?x=1", KEY, masks())


def handshake(codec: WebSocketClient) -> tuple[ServerProtocol, list[object], bytes]:
    """A server that has accepted ``codec``, the request it saw, and its answer's bytes."""
    server = ServerProtocol(max_size=None)
    server.receive_data(codec.opening())
    (request,) = server.events_received()
    assert isinstance(request, Request)
    server.send_response(server.accept(request))
    return server, [request], b"".join(server.data_to_send())


def opened() -> tuple[WebSocketClient, ServerProtocol]:
    codec = client()
    server, _, answer = handshake(codec)
    assert codec.receive(answer) == [Opened()]
    assert server.state is OPEN
    return codec, server


def from_server(*frames: tuple[int, bytes, bool]) -> bytes:
    return b"".join(Frame(Opcode(op), data, fin).serialize(mask=False) for op, data, fin in frames)


def heard_by(server: ServerProtocol, codec: WebSocketClient) -> list[Frame]:
    server.receive_data(codec.outgoing())
    return [event for event in server.events_received() if isinstance(event, Frame)]


def test_opening_is_a_request_the_reference_accepts():
    codec = client()
    _, (request,), _ = handshake(codec)
    assert request.path == "/chat?x=1"
    assert request.headers["Host"] == "example.org:6667"
    assert "Sec-WebSocket-Extensions" not in request.headers, "no permessage-deflate"


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70_000])
def test_texts_of_every_length_form_arrive_both_ways(size: int):
    codec, server = opened()
    text = ("ä" * (size // 2) + "x" * (size % 2))[:size]
    assert len(text.encode()) == size
    codec.send_text(text)
    (frame,) = heard_by(server, codec)
    assert (frame.opcode, frame.data.decode(), frame.fin) == (Opcode.TEXT, text, True)
    server.send_text(text.encode())
    assert codec.receive(b"".join(server.data_to_send())) == [Text(text)]


def test_every_frame_gets_a_mask_of_its_own():
    codec, _ = opened()
    codec.send_text("same")
    codec.send_text("same")
    out = codec.outgoing()
    first, second = out[:10], out[10:]
    assert first[2:6] != second[2:6]
    assert apply_mask(first[6:], first[2:6]) == apply_mask(second[6:], second[2:6]) == b"same"


def test_fragments_with_control_frames_in_the_middle():
    codec, server = opened()
    data = from_server(
        (1, "grü".encode()[:3], False),  # split inside a character
        (9, b"are you there", True),
        (0, "grü".encode()[3:], False),
        (10, b"unasked", True),
        (0, b"", False),
        (0, b" end", True),
    )
    assert codec.receive(data) == [
        Ping(b"are you there"),
        Pong(b"unasked"),
        Text("grü end"),
    ]
    (pong,) = heard_by(server, codec)
    assert (pong.opcode, pong.data) == (Opcode.PONG, b"are you there")


def test_a_flood_of_pings_is_answered_once():
    codec, server = opened()
    codec.receive(from_server(*[(9, b"%d" % n, True) for n in range(1000)]))
    assert [frame.data for frame in heard_by(server, codec)] == [b"999"]


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1014, 3000, 4999])
def test_close_is_reported_and_answered(code: int):
    codec, server = opened()
    server.send_close(code, "that is it")
    assert codec.receive(b"".join(server.data_to_send())) == [Closed(code, "that is it")]
    assert not codec.open
    (frame,) = heard_by(server, codec)
    assert frame.opcode is Opcode.CLOSE
    assert server.close_rcvd.code == code
    assert codec.receive(b"anything after it") == []


def test_close_without_a_code():
    codec, _ = opened()
    assert codec.receive(from_server((8, b"", True))) == [Closed(websocket.NO_STATUS, "")]


def test_our_close_is_answered_by_the_reference():
    codec, server = opened()
    codec.close(1001, "leaving")
    codec.close(1001, "again is nothing")
    heard_by(server, codec)
    assert (server.close_rcvd.code, server.close_rcvd.reason) == (1001, "leaving")
    assert codec.receive(b"".join(server.data_to_send())) == [Closed(1001, "leaving")]
    assert codec.outgoing() == b""
    with pytest.raises(ValueError, match="not open"):
        codec.send_text("too late")


def feed(codec: WebSocketClient, pieces: list[bytes]) -> None:
    for piece in pieces:
        codec.receive(piece)


BREACHES = {
    "reserved bit 1": (b"\xc1\x00", 1002),
    "reserved bit 2": (b"\xa1\x00", 1002),
    "reserved bit 3": (b"\x91\x00", 1002),
    "masked": (b"\x81\x80abcd", 1002),
    "reserved data kind": (b"\x83\x00", 1002),
    "reserved control kind": (b"\x8b\x00", 1002),
    "fragmented control": (b"\x09\x00", 1002),
    "long control": (b"\x89\x7e\x00\x7e" + b"x" * 126, 1002),
    "continuation of nothing": (b"\x80\x00", 1002),
    "text inside a message": (b"\x01\x01a\x81\x01b", 1002),
    "binary": (b"\x82\x01a", 1003),
    "close of one byte": (b"\x88\x01\x03", 1002),
    "close with 1005": (b"\x88\x02\x03\xed", 1002),
    "close with 999": (b"\x88\x02\x03\xe7", 1002),
    "close reason not UTF-8": (b"\x88\x03\x03\xe8\xff", 1007),
    "text not UTF-8": (b"\x81\x01\xff", 1007),
    "text half a character": (b"\x81\x01\xc3", 1007),
    "fragments not UTF-8": (b"\x01\x01\xc3\x80\x01a", 1007),
    "surrogate": (b"\x81\x03\xed\xa0\x80", 1007),
    "more than the cap": (b"\x81\x7f" + (2**21 + 1).to_bytes(8, "big"), 1009),
    "the longest length": (b"\x81\x7f" + b"\xff" * 8, 1009),
}


@pytest.mark.parametrize("name", BREACHES)
@pytest.mark.parametrize("bytewise", [False, True])
def test_breaches_are_wire_errors_and_closed_with_the_right_code(name: str, bytewise: bool):
    data, code = BREACHES[name]
    codec, server = opened()
    pieces = [bytes([b]) for b in data] if bytewise else [data]
    with pytest.raises(WireError):
        feed(codec, pieces)
    assert codec.receive(b"\x81\x01a") == [], "it is over"
    heard_by(server, codec)
    assert server.close_rcvd.code == code


def test_the_reference_agrees_what_a_breach_is():
    """The reference closes with the same code.

    Binary it takes, and text is decoded by its shells, not by the part that is compared here.
    """
    from websockets.client import ClientProtocol
    from websockets.protocol import State
    from websockets.uri import parse_uri

    for name, (data, code) in BREACHES.items():
        reference = ClientProtocol(parse_uri("ws://h/"), max_size=2**21, state=State.OPEN)
        reference.receive_data(data)
        if name != "binary" and (code != 1007 or "close" in name):
            assert reference.close_sent is not None, name
            assert reference.close_sent.code == code, name


def test_fragments_together_may_not_pass_the_cap():
    codec, _ = opened()
    half = b"x" * (2**20)
    codec.receive(from_server((1, half, False), (0, half, False)))
    with pytest.raises(FrameTooLarge):
        codec.receive(from_server((0, b"y", True)))


def test_exactly_the_cap_passes():
    codec, _ = opened()
    whole = "x" * 2**21
    assert codec.receive(from_server((1, whole.encode(), True))) == [Text(whole)]
    codec.send_text(whole)
    with pytest.raises(ValueError, match="cap"):
        codec.send_text(whole + "x")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "HTTP 503 Service Unavailable"),
        (b"HTTP/1.1 301 Moved\r\nLocation: http://elsewhere\r\n\r\n", "HTTP 301"),
        (b"HTTP/1.0 101 Switching\r\n\r\n", "not an HTTP answer"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "not an HTTP answer"),
        (b"\x16\x03\x01 garbage\r\n\r\n", "not an HTTP answer"),
        (b"HTTP/1.1 101 x\r\nno colon\r\n\r\n", "not an HTTP header"),
        (b"HTTP/1.1 101 x\r\n folded: y\r\n\r\n", "not an HTTP header"),
        (b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n", "Connection"),
        (b"HTTP/1.1 101 x\r\nConnection: Upgrade\r\n\r\n", "does not upgrade"),
        (
            b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: a\r\n\r\n",  # noqa: E501
            "prove",
        ),
    ],
)
def test_bad_handshakes_say_what_is_wrong(answer: bytes, says: str):
    with pytest.raises(BadMessage, match=says):
        client().receive(answer)


@pytest.mark.parametrize("header", ["Sec-WebSocket-Extensions: permessage-deflate",
                                    "Sec-WebSocket-Protocol: chat"])  # fmt: skip
def test_what_nobody_offered_is_refused(header: str):
    codec = client()
    _, _, answer = handshake(codec)
    with pytest.raises(BadMessage, match="nobody offered"):
        codec.receive(answer[:-2] + header.encode() + b"\r\n\r\n")


def test_an_endless_handshake_is_cut_off():
    codec = client()
    codec.receive(b"HTTP/1.1 101 x\r\n")
    with pytest.raises(FrameTooLarge):
        feed(codec, [b"X-Filler: " + b"y" * 500 + b"\r\n"] * 40)
    assert codec.receive(b"\r\n\r\n") == []


def test_a_key_and_a_place_are_checked():
    with pytest.raises(ValueError, match="16 bytes"):
        WebSocketClient("h", "/", b"short", masks())
    for host, path in (("h\r\nX: y", "/"), ("h", "/ HTTP/1.1\r\n"), ("", "/"), ("h", "/ü")):
        with pytest.raises(ValueError, match="not usable"):
            WebSocketClient(host, path, KEY, masks())


def test_lone_surrogates_are_sent_as_question_marks():
    codec, server = opened()
    codec.send_text("a\ud800b")
    assert heard_by(server, codec)[0].data == b"a?b"


frames_from_server = st.lists(
    st.one_of(
        st.tuples(st.just(1), st.text(max_size=200).map(str.encode), st.just(True)),
        st.tuples(st.sampled_from([9, 10]), st.binary(max_size=125), st.just(True)),
        st.tuples(st.just(1), st.binary(min_size=300, max_size=300).map(lambda b: b.hex().encode()),
                  st.just(True)),
    ),
    max_size=6,
)  # fmt: skip


@given(frames_from_server, st.data())
def test_any_split_of_the_stream_gives_the_same_events(frames, data):
    """Handshake and frames, cut anywhere, are the same events as in one piece."""
    whole = client()
    server, _, answer = handshake(whole)
    assert server.side is SERVER
    stream = answer + from_server(*frames)
    expected = whole.receive(stream)
    assert len(expected) == len(frames) + 1
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    codec = client()
    got = []
    for a, b in itertools.pairwise([0, *cuts, len(stream)]):
        got += codec.receive(stream[a:b])
    assert got == expected


def test_every_single_split_of_one_stream():
    """Cut in two at each byte, as exhaustive as it can be."""
    stream = handshake(client())[2] + from_server(
        (1, b"a" * 130, True), (9, b"p", True), (1, "ü".encode()[:1], False), (0, b"\xbc", True)
    )
    expected = client().receive(stream)
    for cut in range(len(stream)):
        codec = client()
        assert codec.receive(stream[:cut]) + codec.receive(stream[cut:]) == expected


@given(st.binary(max_size=400), st.booleans())
def test_garbage_is_events_or_a_wire_error(junk: bytes, after_handshake: bool):
    codec = opened()[0] if after_handshake else client()
    try:
        codec.receive(junk)
        codec.receive(junk)
    except WireError:
        assert codec.receive(junk) == []
    codec.outgoing()


def test_a_codec_that_forgets_the_mask_is_caught(monkeypatch: pytest.MonkeyPatch):
    """The check against the reference has teeth: an unmasked client is closed with 1002."""
    codec, server = opened()
    monkeypatch.setattr(websocket, "apply_mask", lambda payload, mask: payload)
    codec.send_text("plain")
    try:
        heard = [f.data for f in heard_by(server, codec)]
    except UnicodeDecodeError:
        heard = []
    assert heard != [b"plain"]
