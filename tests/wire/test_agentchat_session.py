"""The client machine: signing in, talking, refusals, keep-alive, hostile servers."""

from __future__ import annotations

import base64
import json

import pytest
from chat_world import START, fake_sign, fake_verify, id_of, pem
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import BadMessage, WireError
from swarm.wire.agentchat import frames, session
from swarm.wire.agentchat.seen import HELD, Seen
from swarm.wire.agentchat.session import (
    CannotAnswer,
    ChatSession,
    Displaced,
    Joined,
    Members,
    PeerSilent,
    Refused,
    Said,
    SignedIn,
)

ME = "swarm-builder-001"


def client(**more) -> ChatSession:
    return ChatSession(ME, pem(ME), fake_sign(ME), "#agents", **more)


def sent(chat: ChatSession) -> list[dict]:
    return [json.loads(text) for text in chat.outgoing()]


def get(chat: ChatSession, now: int = START, **frame: object) -> list[session.ChatEvent]:
    return chat.received(json.dumps(frame), now)


def in_channel(limits: object = None, **more) -> ChatSession:
    chat = client(**more)
    chat.opened(START)
    get(chat, type="CHALLENGE", challenge_id="c", nonce="n")
    get(chat, type="WELCOME", agent_id="@" + id_of(ME), limits=limits)
    get(chat, type="JOINED", channel="#agents", agents=[])
    chat.outgoing()
    return chat


def test_the_way_in():
    chat = client()
    assert not chat.joined
    chat.opened(START)
    assert sent(chat) == [{"type": "IDENTIFY", "name": ME, "pubkey": pem(ME)}]
    get(chat, START + 5, type="CHALLENGE", challenge_id="chal_1", nonce="abc", expires_at=9)
    (proof,) = sent(chat)
    text = f"AGENTCHAT_AUTH|abc|chal_1|{START + 5}".encode()
    assert fake_verify(pem(ME), text, base64.b64decode(proof.pop("signature")))
    assert proof == {
        "type": "VERIFY_IDENTITY", "challenge_id": "chal_1", "timestamp": START + 5
    }  # fmt: skip
    assert get(chat, type="WELCOME", agent_id="@abc123", limits={"messages_per_second": 50}) == [
        SignedIn("abc123", None, None, 50.0)
    ]
    assert sent(chat) == [{"type": "JOIN", "channel": "#agents"}]
    agents = [{"id": "@abc123", "name": ME, "verified": False}, "@old-style"]
    (joined,) = get(chat, type="JOINED", channel="#agents", agents=agents)
    assert joined == Joined("#agents", (frames.Member("@abc123", ME), frames.Member("@old-style")))
    assert chat.joined
    assert chat.agent_id == "abc123"


def test_quiet_is_asked_for_and_lists_are_not_read():
    chat = client(quiet=True)
    chat.opened(START)
    assert sent(chat)[0]["quiet"] is True
    get(chat, type="WELCOME", agent_id="@x")
    assert get(chat, type="JOINED", channel="#agents", agents=[{"id": "@x"}]) == [
        Joined("#agents", ())
    ]


def test_a_nameless_reader_is_not_challenged():
    chat = ChatSession("reader", None, None, "#agents")
    chat.opened(START)
    assert sent(chat) == [{"type": "IDENTIFY", "name": "reader", "pubkey": None}]
    get(chat, type="CHALLENGE", challenge_id="c", nonce="n")
    assert sent(chat) == [], "nothing to sign with"
    (signed,) = get(chat, type="WELCOME", agent_id="@00ff", lurk=True, lurk_reason="no key")
    assert signed == SignedIn("00ff", "no key", None, None)


@pytest.mark.parametrize("limits", [None, 7, "many", [], {"messages_per_second": 0},
                                    {"messages_per_second": "x"}, {"other": 1}])  # fmt: skip
def test_another_servers_limits_are_not_ours(limits: object):
    chat = client()
    chat.opened(START)
    (signed,) = get(chat, type="WELCOME", agent_id="@1", limits=limits)
    assert signed.messages_per_second is None


def test_messages_are_signed_over_compact_json():
    chat = in_channel()
    chat.say('grüße "x"\n\u2028', START + 9)
    (message,) = sent(chat)
    to_sign = {"to": "#agents", "content": 'grüße "x"\n\u2028', "ts": START + 9}
    compact = json.dumps(to_sign, separators=(",", ":"), ensure_ascii=False).encode()
    assert fake_verify(pem(ME), compact, base64.b64decode(message.pop("sig")))
    assert message == {"type": "MSG", **to_sign}


@given(st.text())
def test_what_is_signed_is_what_any_compact_json_is(content: str):
    expected = json.dumps({"to": "#a", "content": content, "ts": 7}, separators=(",", ":"),
                          ensure_ascii=False)  # fmt: skip
    assert frames.message_text("#a", content, 7).decode() == expected


def test_our_server_needs_no_signature_and_is_told_whom_it_concerns():
    one, two = id_of("one"), id_of("two")
    chat = in_channel(limits={"messages_per_second": 50})
    chat.say("x", START, (one, two))
    chat.say("y", START)
    chat.say("z", START, (one,) * (frames.MAX_ADDRESSEES + 1))
    assert sent(chat) == [
        {"type": "MSG", "to": "#agents", "content": "x", "for": [one, two]},
        {"type": "MSG", "to": "#agents", "content": "y"},
        {"type": "MSG", "to": "#agents", "content": "z"},
    ]


@pytest.mark.parametrize("limits", [None, 7, {"messages_per_second": 0}, {"other": 1}])
def test_another_server_gets_signed_messages_and_nothing_it_does_not_know(limits: object):
    chat = in_channel(limits=limits)
    chat.say("x", START, (id_of("one"),))
    (message,) = sent(chat)
    assert set(message) == {"type", "to", "content", "ts", "sig"}


def test_addressed_is_asked_for():
    chat = client(quiet=True, addressed=True)
    chat.opened(START)
    assert sent(chat)[0].items() >= {"quiet": True, "addressed": True}.items()


def test_surrogates_cannot_stop_a_message():
    chat = in_channel()
    chat.say("a\ud800", START)
    assert sent(chat)[0]["content"] == "a?"


def test_speaking_before_joining_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="not in the channel"):
        client().say("x", START)


def said(content: str, msg_id: str, **more: object) -> dict:
    return {"type": "MSG", "from": "@0123456789abcdef", "from_name": "Ann", "to": "#agents",
            "content": content, "msg_id": msg_id, "ts": 5, **more}  # fmt: skip


def test_messages_of_the_channel_and_no_other():
    chat = in_channel()
    assert get(chat, **said("hi", "1-a")) == [
        Said("0123456789abcdef", "Ann", "hi", "1-a", 5, False)
    ]
    assert get(chat, **{**said("hi", "1-b"), "to": "#general"}) == []


def test_replay_repeats_nothing_over_reconnects():
    seen = Seen()
    first = in_channel(seen=seen)
    assert get(first, **said("one", "1-a"))
    again = in_channel(seen=seen)
    assert get(again, **said("one", "1-a", replay=True)) == []
    (new,) = get(again, **said("missed", "1-b", replay=True))
    assert new.replay
    assert get(again, **said("missed", "1-b", replay=True)) == []


def test_seen_is_bounded_and_keeps_the_latest():
    seen = Seen()
    for n in range(3 * HELD):
        seen.note(f"m-{n}")
    kept = [n for n in range(3 * HELD) if f"m-{n}" in seen]
    assert kept == list(range(2 * HELD, 3 * HELD))


@pytest.mark.parametrize("code", ["VERIFICATION_FAILED", "VERIFICATION_EXPIRED", "BANNED",
                                  "NOT_ALLOWED", "INVALID_NAME", "SOMETHING_NEW"])  # fmt: skip
def test_a_refusal_while_signing_in_ends_it(code: str):
    chat = client()
    chat.opened(START)
    assert get(chat, type="ERROR", code=code, message="no\nway") == [Refused(code, "no way")]
    assert chat.over
    assert chat.deadline() is None
    assert get(chat, type="WELCOME", agent_id="@1") == []


def test_an_unknown_channel_ends_it():
    chat = client()
    chat.opened(START)
    get(chat, type="WELCOME", agent_id="@1")
    assert get(chat, type="ERROR", code="CHANNEL_NOT_FOUND", message="x") == [
        Refused("CHANNEL_NOT_FOUND", "x")
    ]
    assert chat.over


@pytest.mark.parametrize("code", ["RATE_LIMITED", "LURK_MODE", "INVALID_MSG", "NEW_ONE"])
def test_a_refusal_in_the_channel_is_told_and_it_goes_on(code: str):
    chat = in_channel()
    assert get(chat, type="ERROR", code=code, message="m") == [Refused(code, "m")]
    assert chat.joined


def test_the_other_ends():
    chat = in_channel()
    assert get(chat, type="SESSION_DISPLACED", reason="elsewhere") == [Displaced("elsewhere")]
    assert chat.over
    chat = client()
    chat.opened(START)
    asked = get(chat, type="CAPTCHA_CHALLENGE", captcha_id="1", question="2+2?", hint="4")
    assert asked == [CannotAnswer("2+2?")]
    assert chat.over
    chat = in_channel()
    assert get(chat, type="KICKED", reason="rude") == [Refused("KICKED", "rude")]
    assert chat.over


def test_lurking_is_told_with_its_end():
    chat = client()
    chat.opened(START)
    reason = "New identities must wait 1 hour before sending messages."
    (signed,) = get(chat, type="WELCOME", agent_id="@1", lurk=True, lurk_until=START + 3_600_000,
                    lurk_reason=reason)  # fmt: skip
    assert signed == SignedIn("1", reason, START + 3_600_000, None)


def test_welcome_is_waited_for_long_enough_and_not_for_ever():
    """A rapid take-over holds WELCOME back up to 60 s (protocol): 75 s is the least."""
    chat = client()
    chat.opened(START)
    assert chat.deadline() == START + 75_000
    assert chat.tick(START + 74_999) == []
    assert chat.tick(START + 75_000) == [Refused("TIMEOUT", "no WELCOME came in time")]
    assert chat.over


def test_joined_is_not_waited_for_for_ever():
    chat = client()
    chat.opened(START)
    get(chat, START, type="WELCOME", agent_id="@1")
    assert chat.tick(START + session.JOIN_MS) == [Refused("TIMEOUT", "no JOINED came in time")]


def test_keep_alive_after_four_minutes_of_silence():
    chat = in_channel()
    assert chat.deadline() == START + 240_000
    chat.say("hello", START + 100_000)
    chat.outgoing()
    assert chat.tick(START + 240_000) == []
    assert sent(chat) == [], "it spoke meanwhile"
    assert chat.deadline() == START + 340_000
    chat.tick(START + 340_000)
    assert sent(chat) == [{"type": "PING"}]
    get(chat, START + 340_010, type="PONG")
    assert chat.deadline() == START + 580_000
    assert chat.joined


def test_a_silent_peer_is_given_up():
    chat = in_channel()
    chat.tick(START + 240_000)
    assert chat.tick(START + 299_999) == []
    assert chat.tick(START + 300_000) == [PeerSilent()]
    assert chat.over


def test_who_is_there():
    chat = in_channel()
    chat.ask_who(START)
    assert sent(chat) == [{"type": "LIST_AGENTS", "channel": "#agents"}]
    listed = [{"id": "@1", "name": "a", "presence": "busy", "status_text": "x", "verified": True}]
    assert get(chat, type="AGENTS", channel="#agents", list=listed) == [
        Members("#agents", (frames.Member("@1", "a", "busy", "x", True),))
    ]
    assert get(chat, type="AGENTS", channel="#agents", list={"not": "a list"}) == [
        Members("#agents", ())
    ]


def test_a_second_challenge_is_not_signed():
    """A server cannot have us sign for it as often as it likes."""
    chat = client()
    chat.opened(START)
    for _ in range(5):
        get(chat, type="CHALLENGE", challenge_id="c", nonce="n")
    assert len(sent(chat)) == 2  # IDENTIFY and one proof
    chat = in_channel()
    get(chat, type="CHALLENGE", challenge_id="c", nonce="n")
    assert sent(chat) == []


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{}", '{"type":7}', '{"type":"MSG"}', '{"type":"MSG","from":1}', "not json",
     '{"type":"ERROR"}', "[" * 100_000, '{"type":"PONG","x":' + "[" * 100_000, "\x00", "\ud800",
     '{"type":"WELCOME","agent_id":null}', '{"type":"PONG","ts":"' + "x" * 2**21 + '"}',
     '{"type":"CHALLENGE","challenge_id":"c","nonce":5}',
     '{"type":"PONG","ts":' + "9" * 9999 + "}"],
)  # fmt: skip
def test_what_is_no_frame_is_a_bad_message_and_changes_nothing(text: str):
    chat = in_channel()
    before = chat.phase
    with pytest.raises(BadMessage):
        chat.received(text, START)
    assert chat.phase == before
    assert chat.outgoing() == []


def test_unknown_types_and_fields_are_ignored():
    chat = in_channel()
    assert get(chat, type="TYPING", channel=[{"deep": {}}]) == []
    assert get(chat, **said("hi", "1", mood={"a": [1]}, verified=True, sig="s"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
TYPES = ["CHALLENGE", "WELCOME", "MSG", "JOINED", "AGENTS", "ERROR", "PONG", "SESSION_DISPLACED",
         "CAPTCHA_CHALLENGE", "AGENT_JOINED", "AGENT_LEFT", "KICKED", "BANNED", "NEW"]  # fmt: skip
FIELDS = ["challenge_id", "nonce", "agent_id", "lurk", "lurk_until", "limits", "from", "from_name",
          "to", "content", "msg_id", "replay", "ts", "channel", "agents", "list", "code", "message",
          "reason", "question", "agent", "name"]  # fmt: skip
hostile = st.one_of(
    st.text(max_size=60),
    st.builds(
        lambda kind, rest: json.dumps({"type": kind, **rest}),
        st.sampled_from(TYPES),
        st.dictionaries(
            st.sampled_from(FIELDS),
            json_values | st.sampled_from(["#agents", "@0123456789abcdef"]),
            max_size=6,
        ),
    ),
)


@given(st.lists(hostile, max_size=8))
def test_a_hostile_server_gets_events_or_a_wire_error(texts: list[str]):
    chat = client()
    chat.opened(START)
    for step, text in enumerate(texts):
        try:
            events = chat.received(text, START + step)
        except WireError:
            continue
        for event in events:
            if isinstance(event, Refused):
                assert event.message.isprintable()
                assert len(event.message) <= 512
    chat.outgoing()
    chat.tick(START + 10**7)
