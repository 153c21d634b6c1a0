"""When a drop has settled: the pure machine."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.inbox.settling import (
    BLIND_SECONDS,
    BUSY_SECONDS,
    EMPTY_SECONDS,
    FOLDER_SECONDS,
    OPEN_SECONDS,
    Look,
    Seen,
    Settling,
)


def look(mark: int = 1, age: float = 100.0, *, empty: bool = False) -> Look:
    return Look((mark,), age, empty)


def taken(settling: Settling, now: float, seen: Look | None = None) -> list[str]:
    """What is taken in at this moment, when everything that is due looks like this."""
    return [name for name in settling.due(now) if settling.looked(name, seen or look(), now)]


def test_without_a_settle_time_a_closed_file_is_taken_at_once():
    settling = Settling(0)
    settling.saw("a", Seen.CREATED, 10.0)
    assert taken(settling, 10.0) == []
    settling.saw("a", Seen.CLOSED, 10.5)
    assert settling.deadline() == 10.5
    assert taken(settling, 10.5, look(age=0.0)) == ["a"]
    assert len(settling) == 0
    assert settling.deadline() is None


def test_what_was_moved_in_is_whole():
    settling = Settling(0)
    settling.saw("folder", Seen.ARRIVED, 1.0)
    assert taken(settling, 1.0, look(age=0.0)) == ["folder"]


def test_it_must_not_have_changed_for_the_settle_time():
    settling = Settling(2)
    settling.saw("a", Seen.CREATED, 0.0)
    settling.saw("a", Seen.CLOSED, 1.0)
    settling.saw("a", Seen.CHANGED, 2.5)
    assert taken(settling, 3.0) == []
    assert settling.deadline() == 4.5
    assert taken(settling, 4.5, look(age=2.0)) == ["a"]


def test_a_change_the_watch_has_missed_is_seen_by_the_look():
    settling = Settling(2)
    settling.saw("a", Seen.ARRIVED, 0.0)
    assert taken(settling, 2.0, look(age=0.5)) == []
    assert settling.deadline() == 3.5
    assert taken(settling, 3.5, look(age=2.0)) == ["a"]


def test_a_clock_put_back_delays_it_by_one_settle_time_at_most():
    settling = Settling(2)
    settling.saw("a", Seen.ARRIVED, 0.0)
    assert taken(settling, 2.0, look(mark=7, age=-3600.0)) == []
    assert taken(settling, 4.0, look(mark=7, age=-3598.0)) == ["a"]


def test_a_file_that_is_open_for_writing_is_waited_for():
    settling = Settling(0.1)
    settling.saw("a", Seen.CREATED, 0.0)
    assert taken(settling, OPEN_SECONDS - 1) == []
    settling.saw("a", Seen.CLOSED, OPEN_SECONDS)
    assert taken(settling, OPEN_SECONDS + 0.1) == ["a"]


def test_a_writer_that_is_never_seen_to_close_holds_it_up_for_a_while():
    settling = Settling(0)
    settling.saw("a", Seen.CREATED, 0.0)
    assert taken(settling, OPEN_SECONDS, look(age=OPEN_SECONDS)) == ["a"]


def test_a_writer_that_writes_on_is_waited_for_longer():
    settling = Settling(0)
    settling.saw("a", Seen.CREATED, 0.0)
    assert taken(settling, OPEN_SECONDS, look(age=5.0)) == []
    assert settling.deadline() == OPEN_SECONDS + OPEN_SECONDS - 5.0
    settling.saw("a", Seen.CLOSED, OPEN_SECONDS + 1)
    assert settling.deadline() == OPEN_SECONDS + 1


def test_what_somebody_has_open_is_waited_for_though_the_watch_does_not_know():
    settling = Settling(0)
    settling.saw("d", Seen.ARRIVED, 0.0)
    busy = Look((1,), 50.0, busy=True)
    assert taken(settling, 0.0, busy) == []
    assert taken(settling, BUSY_SECONDS, busy) == []
    assert taken(settling, 2 * BUSY_SECONDS) == ["d"]


def test_a_folder_is_waited_for_while_any_file_in_it_is_written():
    settling = Settling(0)
    settling.saw("d", Seen.GROWING, 0.0)
    settling.saw("d", Seen.CREATED, 0.01, "one")
    settling.saw("d", Seen.CREATED, 0.02, "sub/two")
    settling.saw("d", Seen.CLOSED, 0.03, "one")
    assert taken(settling, 1.0) == []
    settling.saw("d", Seen.CLOSED, 1.0, "sub/two")
    assert settling.deadline() == 1.0 + FOLDER_SECONDS
    assert taken(settling, 1.0 + FOLDER_SECONDS) == ["d"]


def test_a_file_that_went_again_holds_its_folder_up_no_more():
    settling = Settling(0)
    settling.saw("d", Seen.GROWING, 0.0)
    settling.saw("d", Seen.CREATED, 0.1, "one")
    settling.saw("d", Seen.GONE, 0.2, "one")
    assert taken(settling, 0.2 + FOLDER_SECONDS) == ["d"]


@pytest.mark.parametrize("found", [True, False])
def test_what_is_not_watched_from_its_beginning_gets_a_second(found):
    settling = Settling(0)
    if found:
        settling.saw("d", Seen.FOUND, 5.0)
    else:
        settling.saw("d", Seen.GROWING, 5.0)
        settling.unwatched("d")
    assert taken(settling, 5.9) == []
    assert taken(settling, 5.0 + BLIND_SECONDS, look(age=3.0)) == ["d"]


def test_an_empty_file_is_given_time_to_be_written_to():
    settling = Settling(0)
    settling.saw("a", Seen.CREATED, 0.0)
    settling.saw("a", Seen.CLOSED, 0.1)
    assert taken(settling, 0.1, look(empty=True)) == []
    assert settling.deadline() == EMPTY_SECONDS
    settling.saw("a", Seen.CLOSED, 3.0)
    assert taken(settling, 3.0) == ["a"]


def test_an_empty_file_is_taken_all_the_same_in_the_end():
    settling = Settling(0)
    settling.saw("a", Seen.ARRIVED, 0.0)
    assert taken(settling, 0.0, look(empty=True)) == []
    assert taken(settling, EMPTY_SECONDS, look(empty=True)) == ["a"]


def test_what_changes_while_it_is_looked_at_is_not_taken():
    settling = Settling(0)
    settling.saw("a", Seen.ARRIVED, 0.0)
    assert settling.due(0.0) == ["a"]
    settling.saw("a", Seen.CHANGED, 0.1)
    assert not settling.looked("a", look(), 0.2)
    assert taken(settling, 1.0) == ["a"]


def test_what_is_gone_is_forgotten():
    settling = Settling(1)
    settling.saw("a", Seen.ARRIVED, 0.0)
    settling.saw("b", Seen.ARRIVED, 0.0)
    settling.saw("a", Seen.GONE, 0.5)
    assert settling.due(1.0) == ["b"]
    assert not settling.looked("b", None, 1.0)
    assert len(settling) == 0


def test_what_failed_is_tried_again_not_before():
    settling = Settling(0)
    settling.saw("a", Seen.ARRIVED, 0.0)
    assert settling.due(0.0) == ["a"]
    settling.again("a", 7.0)
    assert settling.due(6.9) == []
    assert taken(settling, 8.0) == ["a"]


def test_a_new_settle_time_counts_for_what_waits():
    settling = Settling(3600)
    settling.saw("a", Seen.ARRIVED, 0.0)
    settling.waits(1)
    assert settling.deadline() == 1.0


NAMES = st.sampled_from(["a", "b", "c"])
SEEN = st.sampled_from(list(Seen))


@given(
    settle=st.sampled_from([0.0, 0.5, 3.0]),
    events=st.lists(
        st.tuples(NAMES, SEEN, st.sampled_from(["", "x", "y/z"]), st.floats(0, 2)), max_size=40
    ),
)
def test_nothing_is_taken_while_it_changes_and_everything_in_the_end(
    settle: float, events: Sequence[tuple[str, Seen, str, float]]
):
    """Played with a true watch: taken only after the quiet asked for, and never forgotten."""
    settling = Settling(settle)
    now, last, there, took = 0.0, {}, set(), set()
    for name, seen, inside, pause in events:
        end = now + pause
        while (at := settling.deadline()) is not None and at <= end:
            now = max(now, at)
            for one in settling.due(now):
                age = now - last[one]
                if settling.looked(one, look(mark=hash((one, last[one])), age=age), now):
                    assert age >= settle or settle == 0, "taken though it changed just now"
                    took.add(one)
                    there.discard(one)
        now = end
        settling.saw(name, seen, now, inside)
        if seen is Seen.GONE and not inside:
            there.discard(name)
        else:
            there.add(name)
            last[name] = now
    for _ in range(100):
        at = settling.deadline()
        if at is None:
            break
        now = max(now, at)
        for one in settling.due(now):
            if settling.looked(one, look(mark=hash((one, last[one])), age=now - last[one]), now):
                there.discard(one)
    assert not there, "a drop is forgotten"
    assert len(settling) == 0


@given(st.lists(st.floats(0, 10), min_size=1, max_size=60))
def test_a_drop_that_changes_often_is_planned_once(moments: list[float]):
    settling = Settling(1)
    for at in sorted(moments):
        settling.saw("a", Seen.CHANGED, at)
    assert len(settling._order) == 1
    assert settling.deadline() == max(moments) + 1
