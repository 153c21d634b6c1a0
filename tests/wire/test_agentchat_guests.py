"""Who is a guest of the fleet's server, and how little of it a guest can have."""

from __future__ import annotations

import json
from dataclasses import fields

import msgspec
import pytest
from chat_world import World, id_of, pem
from hypothesis import given
from hypothesis import strategies as st
from mutants import mutant

from swarm.errors import BadMessage
from swarm.wire import work
from swarm.wire.agentchat import channel as channel_module
from swarm.wire.agentchat import frames
from swarm.wire.agentchat.rooms import Admit
from swarm.wire.agentchat.seen import Seen
from swarm.wire.agentchat.session import MAX_LURK_MS, MAX_RATE, MIN_RATE, ChatSession, SignedIn

BADGE = "of-the-fleet"
BOSS = "coordinator"


def fleet(**limits: object) -> World:
    """A server as a swarm runs it; it knows its coordinator and its badge."""
    limits = {"messages_per_second": 10, **limits}
    world = World(trusted=(id_of(BOSS),), badge=BADGE, **limits)
    world.server.rules([id_of(BOSS)], [id_of("announcer")])
    return world


def say(world: World, conn: int, content: str, **more: object) -> list[dict]:
    return world.send(conn, {"type": "MSG", "to": "#agents", "content": content, **more})


def heard(world: World, conn: int) -> list[str]:
    said = (f for f in world.inbox[conn] if f["type"] == "MSG" and f["from"] != "@server")
    return [f["content"] for f in said]


# -- who is one -----------------------------------------------------------------------------------


def test_rates_differ_for_guests_the_fleet_and_the_trusted() -> None:
    world = fleet(messages_per_second=2, fleet_messages_per_second=7)
    rates = {}
    for name, badge in (("guest", ""), ("daemon", BADGE), ("liar", "x"), ("announcer", ""),
                        (BOSS, "")):  # fmt: skip
        conn = world.connect()
        welcome = world.prove(conn, name, badge=badge)[0]
        rates[name] = welcome["limits"]["messages_per_second"]
    assert rates == {"guest": 2, "daemon": 7, "liar": 2, "announcer": 7, BOSS: 1000}


def test_the_badge_needs_a_key_too() -> None:
    world = fleet()
    conn = world.connect()
    identify = {"type": "IDENTIFY", "name": "x", "pubkey": None, "badge": BADGE}
    assert world.send(conn, identify)[0]["lurk"] is True
    assert world.server._guests == {conn: True}


def test_without_a_badge_of_its_own_a_server_takes_none() -> None:
    world = World()
    for shown in ("x", "", BADGE):
        conn = world.connect()
        world.prove(conn, f"a{shown}", badge=shown)
    assert len(world.server._guests) == 3


def test_guests_fill_their_part_of_the_house_and_no_more() -> None:
    world = fleet(guests=3, readers=2)
    for n in range(4):
        conn = world.connect()
        world.send(conn, {"type": "IDENTIFY", "name": f"r{n}", "pubkey": None})
    assert len(world.dropped) == 2, "two readers"
    world.sign_in("guest-1")
    conn = world.connect()
    assert world.prove(conn, "guest-2") == []
    assert world.dropped[conn] == (1008, "the server has as many guests as it takes")
    world.sign_in("daemon", badge=BADGE)
    world.sign_in(BOSS)
    world.sign_in("announcer")


def test_who_was_turned_away_may_try_again_and_leaves_nothing() -> None:
    world = fleet(guests=1)
    first = world.sign_in("one")
    for _ in range(3):
        conn = world.connect()
        world.prove(conn, "two")
        assert conn in world.dropped
    world.leave(first)
    world.sign_in("two")
    assert world.server.connections == 1
    assert world.server.agents == 1


def test_the_shell_is_told_who_is_no_guest() -> None:
    world = fleet()
    told: list[Admit] = []
    perform = world.perform
    world.perform = lambda effects: (  # type: ignore[method-assign]
        told.extend(e for e in effects if isinstance(e, Admit)), perform(effects))[1]  # fmt: skip
    world.sign_in("guest")
    world.sign_in("daemon", badge=BADGE)
    assert [one.guest for one in told] == [True, False]


# -- what they can say ----------------------------------------------------------------------------


def test_no_stranger_is_heard_by_a_waiting_daemon() -> None:
    world = fleet()
    daemon = world.sign_in("daemon", quiet=True, addressed=True, badge=BADGE)
    boss = world.sign_in(BOSS, quiet=True, addressed=True)
    person = world.sign_in("person")
    stranger = world.sign_in("stranger")
    say(world, stranger, "to all")
    say(world, stranger, "to you", **{"for": [id_of("daemon"), id_of(BOSS)]})
    assert heard(world, daemon) == []
    assert heard(world, boss) == ["to all", "to you"]
    assert heard(world, person) == ["to all", "to you"]
    assert heard(world, stranger) == ["to all", "to you"], "the echo is the acknowledgement"
    say(world, boss, "order")
    assert heard(world, daemon) == ["order"]
    assert heard(world, person)[-1] == "order"


def test_a_coordinator_that_the_settings_name_is_heard_from_then_on() -> None:
    world = fleet()
    daemon = world.sign_in("daemon", quiet=True, addressed=True, badge=BADGE)
    other = world.sign_in("other-coordinator")
    say(world, other, "not yet")
    world.server.rules([id_of(BOSS), id_of("other-coordinator")], [])
    say(world, other, "now")
    assert heard(world, daemon) == ["now"]


def test_what_the_fleet_did_not_hear_is_not_replayed_to_it() -> None:
    world = fleet()
    stranger, boss = world.sign_in("stranger"), world.sign_in(BOSS)
    say(world, stranger, "chatter")
    say(world, boss, "order")
    daemon = world.sign_in("daemon", quiet=True, addressed=True, badge=BADGE, join=None)
    world.send(daemon, {"type": "JOIN", "channel": "#agents"})
    assert heard(world, daemon) == ["order"]
    person = world.sign_in("person", join=None)
    world.send(person, {"type": "JOIN", "channel": "#agents"})
    assert heard(world, person) == ["chatter", "order"]


def test_before_it_knows_who_is_who_everybody_hears_everybody() -> None:
    world = World(badge=BADGE)
    daemon = world.sign_in("daemon", quiet=True, addressed=True, badge=BADGE)
    say(world, world.sign_in("somebody"), "hello")
    assert heard(world, daemon) == ["hello"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(sender.conn, *self._others)", "(sender.conn, *self.members)"),
        ("if conn in self._others or conn == sender.conn", "if True"),
        ("not (kept.chatter and agent.fleet)", "not False"),
    ],
    ids=["hears all", "hears what names it", "replayed"],
)
def test_planted_bugs_are_caught(old: str, new: str) -> None:
    with mutant(channel_module, old, new) as planted, pytest.MonkeyPatch.context() as patch:
        patch.setattr("swarm.wire.agentchat.rooms.Channel", planted.Channel)
        with pytest.raises(AssertionError):
            _no_daemon_hears_a_stranger()


def _no_daemon_hears_a_stranger() -> None:
    test_no_stranger_is_heard_by_a_waiting_daemon()
    test_what_the_fleet_did_not_hear_is_not_replayed_to_it()


def test_all_guests_together_have_a_rate_and_the_fleet_is_not_counted() -> None:
    world = fleet(messages_per_second=100, guests_messages_per_second=10)
    guests = [world.sign_in(f"g{n}") for n in range(5)]
    daemon = world.sign_in("daemon", badge=BADGE)
    answers = [say(world, guest, "x")[-1]["type"] for guest in guests for _ in range(4)]
    assert answers.count("MSG") == 10
    assert answers.count("ERROR") == 10
    assert say(world, daemon, "y")[-1]["type"] == "MSG"
    world.advance(1000)
    assert say(world, guests[0], "x")[-1]["type"] == "MSG"


def test_a_message_too_long_is_refused_and_nobody_hears_it() -> None:
    world = fleet(content_bytes=1000)
    guest, person = world.sign_in("guest"), world.sign_in("person")
    assert say(world, guest, "ü" * 501)[-1]["code"] == "INVALID_MSG"
    assert heard(world, person) == []
    world.advance(2000)
    assert say(world, guest, "ü" * 500)[-1]["type"] == "MSG"


# -- numbers and nests ----------------------------------------------------------------------------


HUGE = ["9" * 30, "9" * 400, "-" + "9" * 30, "1e400", "9" * 5000]


@pytest.mark.parametrize("number", HUGE, ids=lambda text: f"{text[:6]}({len(text)})")
def test_numbers_that_no_clock_and_no_ledger_can_hold_are_refused(number: str) -> None:
    said = f'{{"type":"MSG","from":"@a","to":"#agents","content":"x","ts":{number}}}'
    with pytest.raises(BadMessage):
        frames.read_server_frame(said)
    for text in (
        f'{{"type":"TASK_DONE","task":{{"id":"t"}},"fence":{number}}}',
        f'{{"type":"TASK_DONE","task":{{"id":"t","priority":{number}}}}}',
        f'{{"type":"TASK_FAIL","task":{{"id":"t"}},"exit_status":{number}}}',
        f'{{"type":"BLOCKED","task":{{"id":"t"}},"commits":{number}}}',
        f'{{"type":"TASK_DONE","task":{{"id":"t"}},"usage":{{"output_tokens":{number}}}}}',
        f'{{"type":"TASK_DONE","task":{{"id":"t"}},"retry_at":{number}}}',
        f'{{"type":"UNCLAIM","task":{{"id":"t"}},"retry_after":{number}}}',
        f'{{"type":"ASSIGN","task":{{"id":"t"}},"lease_seconds":{number}}}',
        f'{{"type":"TASK_AVAILABLE","task":{{"id":"t"}},"idle":{number}}}',
    ):
        with pytest.raises(BadMessage):
            work.decode(text)


def test_nobody_has_used_less_than_nothing() -> None:
    """A report that gave money back would buy a swarm more than its budget."""
    for part in ('"cost_usd":-1.0', '"usage":{"input_tokens":-1}'):
        with pytest.raises(BadMessage):
            work.decode(f'{{"type":"TASK_DONE","task":{{"id":"t"}},{part}}}')


def test_json_nested_without_end_is_no_frame() -> None:
    world = fleet()
    guest = world.sign_in("guest")
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        deep = opening * 100_000 + closing * 100_000
        for text in (deep, f'{{"type":"MSG","to":"#agents","content":"x","for":{deep}}}'):
            assert world.send(guest, text)[-1]["type"] in ("ERROR", "MSG")
        assert work.decode(deep) is None
        with pytest.raises(BadMessage):
            frames.read_server_frame(f'{{"type":"JOINED","channel":"#agents","agents":{deep}')
        world.advance(11_000)


# -- what a server tells its clients --------------------------------------------------------------


def client() -> ChatSession:
    session = ChatSession("me", pem("me"), lambda data: b"x" * 64, "#agents", seen=Seen())
    session.opened(0)
    return session


@pytest.mark.parametrize("rate", [5e-324, 1e-9, 1.0, 1e9, 1e308])
def test_a_rate_is_believed_within_reason(rate: float) -> None:
    welcome = {"type": "WELCOME", "agent_id": "@a", "limits": {"messages_per_second": rate}}
    (event,) = client().received(json.dumps(welcome), 0)
    assert isinstance(event, SignedIn)
    assert event.messages_per_second is not None
    assert MIN_RATE <= event.messages_per_second <= MAX_RATE


def test_a_mute_is_believed_for_a_day() -> None:
    welcome = {"type": "WELCOME", "agent_id": "@a", "lurk": True, "lurk_until": 2**53}
    (event,) = client().received(json.dumps(welcome), 1000)
    assert isinstance(event, SignedIn)
    assert event.lurk_until == 1000 + MAX_LURK_MS


numbers = st.integers() | st.floats(allow_nan=False) | st.sampled_from([2**53, -(2**63), 10**40])
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=8) | st.just("#agents"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
KINDS = ["MSG", "WELCOME", "JOINED", "CHALLENGE", "ERROR", "KICKED", "AGENTS", "PONG", "YIELD", "X",
         "SESSION_DISPLACED", "CAPTCHA_CHALLENGE", "AGENT_JOINED"]  # fmt: skip
FIELDS = sorted({f.name for kind in (frames.Message, frames.Welcome, frames.Joined,
                                     frames.Challenge, frames.Error)
                 for f in msgspec.structs.fields(kind)} | {"from"})  # fmt: skip
hostile_frames = st.builds(
    lambda kind, more: {**more, "type": kind},
    st.sampled_from(KINDS),
    st.dictionaries(st.sampled_from(FIELDS), values, max_size=5),
)


@given(said=st.lists(hostile_frames | st.text(max_size=20), max_size=12))
def test_whatever_a_server_says_a_client_goes_on(said: list[object]) -> None:
    """Events or a documented error; and its next deadline is a moment one can wait for."""
    session = client()
    for n, one in enumerate(said):
        text = one if isinstance(one, str) else json.dumps(one)
        try:
            events = session.received(text, n)
        except BadMessage:
            continue
        for event in events:
            for field in fields(event):
                value = getattr(event, field.name)
                assert not isinstance(value, int) or abs(value) <= 2**53 + MAX_LURK_MS
        deadline = session.deadline()
        assert deadline is None or 0 <= deadline < 2**40
        session.outgoing()
