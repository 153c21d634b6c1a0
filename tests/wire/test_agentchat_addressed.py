"""Messages that concern some: who hears them, in which order, and what hostile ``for`` do."""

from __future__ import annotations

import json

import msgspec
import pytest
from chat_world import World, id_of
from hypothesis import given
from hypothesis import strategies as st
from mutants import mutant

from swarm.wire.agentchat import channel as channel_module
from swarm.wire.agentchat import frames
from swarm.wire.agentchat.limits import ServerLimits
from swarm.wire.agentchat.members import Agent
from swarm.wire.agentchat.rooms import read_addressees
from swarm.wire.agentchat.seen import Seen
from swarm.wire.agentchat.session import Said

BOSS, PERSON = "boss", "person"
WORKERS = [f"worker-{n}" for n in range(4)]


def fleet() -> tuple[World, dict[str, int]]:
    """A coordinator and four workers that asked for what concerns them, and a person."""
    world = World(trusted=[id_of(BOSS)])
    conns = {name: world.sign_in(name, quiet=True, addressed=True) for name in (*WORKERS, BOSS)}
    conns[PERSON] = world.sign_in(PERSON)
    world.order.clear()
    return world, conns


def say(world: World, conn: int, named: object, content: str = "x") -> None:
    world.send(conn, {"type": "MSG", "to": "#agents", "content": content, "for": named})


def hearers(world: World, conns: dict[str, int]) -> list[str]:
    """Who heard the last message, in the order of sending."""
    names = {conn: name for name, conn in conns.items()}
    return [names[conn] for conn in world.order[-1]]


def test_it_is_delivered_to_the_addressed_first_and_to_no_other_of_the_fleet():
    world, conns = fleet()
    say(world, conns[BOSS], [id_of("worker-2"), id_of("worker-0")])
    assert hearers(world, conns) == ["worker-2", "worker-0", BOSS, PERSON]
    (echo,) = world.inbox[conns[BOSS]]
    assert "for" not in echo
    assert world.inbox[conns["worker-2"]] == world.inbox[conns[PERSON]] == [echo]
    assert world.inbox[conns["worker-1"]] == []


def test_who_is_named_twice_or_is_the_sender_hears_it_once():
    world, conns = fleet()
    say(world, conns[BOSS], [id_of(BOSS), id_of("worker-1"), "@" + id_of("worker-1")])
    assert hearers(world, conns) == [BOSS, "worker-1", PERSON]


def test_without_addressees_all_hear_it():
    world, conns = fleet()
    for named in ([], None, 7, "worker-1", {"a": 1}, [1, None, "nobody", "A" * 16, ["b" * 16]]):
        say(world, conns[PERSON], named)
        world.now += 1000
        assert sorted(hearers(world, conns)) == sorted(conns), named


def test_addressed_to_one_who_is_not_there_the_fleet_sleeps():
    world, conns = fleet()
    say(world, conns[BOSS], ["0" * 16])
    assert hearers(world, conns) == [BOSS, PERSON]


def test_to_more_than_may_be_named_it_is_for_everybody():
    world, conns = fleet()
    most = [f"{n:016x}" for n in range(frames.MAX_ADDRESSEES)]
    say(world, conns[BOSS], most)
    assert hearers(world, conns) == [BOSS, PERSON]
    say(world, conns[BOSS], [*most, "f" * 16])
    assert sorted(hearers(world, conns)) == sorted(conns)
    say(world, conns[BOSS], [most[0]] * 1000)
    assert sorted(hearers(world, conns)) == sorted(conns), "nor is a long list looked at"


def test_who_left_and_who_came_back():
    world, conns = fleet()
    world.leave(conns["worker-1"])
    say(world, conns[BOSS], [id_of("worker-1")])
    assert hearers(world, conns) == [BOSS, PERSON]
    world.now += 60_000
    conns["worker-1"] = world.sign_in("worker-1", quiet=True, addressed=True)
    say(world, conns[BOSS], [id_of("worker-1")])
    assert hearers(world, conns) == ["worker-1", BOSS, PERSON]
    old = conns["worker-1"]
    world.now += 60_000
    conns["worker-1"] = world.sign_in("worker-1", quiet=True, addressed=True)  # takes it over
    world.leave(old)
    say(world, conns[BOSS], [id_of("worker-1")])
    assert hearers(world, conns) == ["worker-1", BOSS, PERSON]


@pytest.mark.parametrize(
    ("name", "addressed", "hears"),
    [
        ("worker-9", True, ["all", "mine"]),
        (BOSS, True, ["all", "mine", "other"]),
        ("passer-by", False, ["all", "mine", "other"]),
    ],
)
def test_the_replay_leaves_out_what_is_addressed_to_others(
    name: str, addressed: bool, hears: list[str]
):
    """The sender's own are in it: they are the echoes it may have missed."""
    world, conns = fleet()
    say(world, conns[BOSS], [], "all")
    say(world, conns[BOSS], [id_of("worker-9")], "mine")
    say(world, conns[BOSS], [id_of("worker-1")], "other")
    world.leave(conns[BOSS])
    conn = world.sign_in(name, quiet=True, addressed=addressed, join=None)
    _, *replay = world.send(conn, {"type": "JOIN", "channel": "#agents"})
    assert [message["content"] for message in replay] == hears
    assert all(message["replay"] is True for message in replay)


def test_two_sessions_talk_past_a_third_and_a_person():
    """Client and server machines together: the echo comes, others are not woken, people hear."""
    world = World(trusted=[id_of(BOSS)])
    boss, worker, other = (
        world.session(name, addressed=True, seen=Seen()) for name in (BOSS, "w", "o")
    )
    person = world.session("p")
    world.say(boss, "to w", (id_of("w"),))
    world.say(boss, "to all")

    def heard(conn: int) -> list[str]:
        return [event.content for event in world.events[conn] if isinstance(event, Said)]

    assert heard(boss) == heard(worker) == heard(person) == ["to w", "to all"]
    assert heard(other) == ["to all"]


# -- whatever comes -----------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
    | st.text("0123456789abcdef@", min_size=15, max_size=18),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=30,
)  # fmt: skip


@given(json_values)
def test_any_for_is_read_as_few_ids_or_as_everybody(value: object):
    found = read_addressees(msgspec.Raw(json.dumps(value).encode()))
    assert len(found) == len(set(found)) <= frames.MAX_ADDRESSEES
    named = value if isinstance(value, list) else []
    for one in found:
        assert len(one) == 16
        assert one in named or f"@{one}" in named


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "[" + "9" * 5000 + "]", '["\ud800"]', '["a"', "[]" + " " * 2000],
    ids=["deep", "long number", "surrogate", "cut off", "blank"],
)
def test_a_hostile_for_harms_nobody(text: str):
    world, conns = fleet()
    frame = '{"type":"MSG","to":"#agents","content":"x","for":' + text + "}"
    assert len(world.send(conns[BOSS], frame)) == 1
    assert BOSS not in world.dropped
    say(world, conns[BOSS], [id_of("worker-1")])
    assert hearers(world, conns) == ["worker-1", BOSS, PERSON]


def audience(module, senders: int, names: set[int], addressed: set[int]) -> bool:
    """Whether one channel of ``module`` delivers to exactly those it must."""
    room = module.Channel("#agents", ServerLimits())
    members = [
        Agent(f"{n:016x}", f"m{n}", n, verified=False, lurking=False, quiet=True,
              addressed=n in addressed)
        for n in range(6)
    ]  # fmt: skip
    for member in members:
        room.add(member)
    named = tuple(members[n].agent_id for n in sorted(names))
    got = room.hearers(members[senders], named)
    room.keep("text", members[senders], named)
    want = set(range(6)) if not names else {*names, senders, *(set(range(6)) - addressed)}
    first = set(got[: len(names)]) == names
    replayed = all(bool(room.replay_for(m)) == (m.conn in want) for m in members)
    return set(got) == want and len(got) == len(want) and first and replayed


cases = (st.integers(0, 5), st.sets(st.integers(0, 5)), st.sets(st.integers(0, 5)))


@given(*cases)
def test_exactly_those_it_must_reach_are_reached(senders: int, names: set[int], asked: set[int]):
    assert audience(channel_module, senders, names, asked)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("*named, sender.conn, *self._open", "*named, *self._open"),
        ("*named, sender.conn, *self._open", "sender.conn, *self._open, *named"),
        ("*named, sender.conn, *self._open", "*named, sender.conn, *self.members"),
        ("*named, sender.conn, *self._open", "*named, sender.conn"),
        ("(*addressees, sender.agent_id)", "addressees"),
        ("(not (agent.addressed and kept.concerns) or", "(not kept.concerns or"),
    ],
    ids=["no echo", "not first", "wakes all", "people miss it", "no echo replayed",
         "no replay for people"],
)  # fmt: skip
def test_planted_bugs_are_caught(old: str, new: str):
    with mutant(channel_module, old, new) as planted:
        assert not (
            audience(planted, 0, {3}, {0, 1, 2, 3})
            and audience(planted, 0, {1}, {0, 1, 2, 3, 4, 5})
            and audience(planted, 5, {1, 2}, set())
        )
