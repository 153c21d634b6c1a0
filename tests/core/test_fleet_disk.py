"""The disk runs low: promotions pause first, then people hear of it and room is made."""

from __future__ import annotations

from typing import Any

import pytest
from fleet_plays import A, Play

from swarm.core import fleet_effects as fx
from swarm.core import fleet_events as e
from swarm.core import journal
from swarm.core.model import NoticeKind

LOW = "900 MB of disk are free, limits.min_free_disk_mb is 1000"


def fleet(**settings: Any) -> Play:
    return Play(min_free_disk_mb=1000, min_free_memory_mb=0, **settings).up()


def disk(play: Play, free: float | None, later: float = 1.0) -> list[fx.Effect]:
    return play.do(e.MemoryIs(1e6, free_disk_mb=free), later)


def test_first_nothing_starts_then_room_is_made() -> None:
    play = fleet()
    assert not play.of(fx.CleanUp, disk(play, 5000.0))
    said = [x for x in disk(play, 900.9) if not isinstance(x, fx.Note)]
    assert said == [
        fx.TellSlots(0, LOW),
        fx.TellNotice(NoticeKind.DISK, f"no session starts: {LOW}"),
        fx.CleanUp(),
    ]
    assert play.notes(journal.DiskLow) == [journal.DiskLow(LOW)]
    play.assign(A, "t-1")
    play.ask(A, "t-1")
    assert play.of(fx.Deny)[-1].reason == LOW
    assert play.of(fx.TellSlots, disk(play, 1000.0)) == [fx.TellSlots(5, "")]


def test_a_promotion_looks_at_the_disk_itself() -> None:
    play = fleet()
    play.assign(A, "t-1")
    play.do(e.PromotionAsked(A, "t-1", 1, play.fleet.coordinator_id, free_disk_mb=900.0))
    assert play.of(fx.Deny)[-1].reason == LOW


def test_room_is_made_once_in_ten_minutes() -> None:
    play = fleet()
    disk(play, 900.0)
    assert not disk(play, 800.0, 700.0) or not play.of(fx.CleanUp)[1:], "the first is at it still"
    said = play.do(e.CleanedUp(12, ("refs/x",), "", 850.0))
    (notice,) = play.of(fx.TellNotice, said)
    assert "12 MB were removed, and still 850 MB of disk are free" in notice.text
    assert play.notes(journal.CleanedUp) == [journal.CleanedUp(12, ("refs/x",))]
    assert play.of(fx.CleanUp, said), "the ten minutes were over long ago"
    said = play.do(e.CleanedUp(0, (), "it broke", 850.0))
    assert "it broke" in play.of(fx.TellNotice, said)[0].text
    told = len(play.of(fx.TellNotice))
    for _ in range(59):
        disk(play, 900.0, 10.0)
    assert len(play.of(fx.CleanUp)) == 2
    assert len(play.of(fx.TellNotice)) == told
    disk(play, 900.0, 10.0)
    assert len(play.of(fx.CleanUp)) == 3
    assert not play.of(fx.TellNotice, play.do(e.CleanedUp(999, free_disk_mb=4000.0)))


@pytest.mark.parametrize(("least", "free"), [(0, 0.0), (1000, None)])
def test_who_asks_nothing_or_knows_nothing_makes_no_room(least: int, free: float | None) -> None:
    play = Play(min_free_disk_mb=least, min_free_memory_mb=0).up()
    disk(play, free)
    assert not play.of(fx.CleanUp)
    assert play.of(fx.TellSlots)[-1].free > 0


def test_nothing_is_cleaned_up_before_every_agent_is_known() -> None:
    """Workspaces that were taken over have no agent yet, and are not left behind for that."""
    play = Play(min_free_disk_mb=1000, min_free_memory_mb=0)
    play.do(e.Up())
    disk(play, 900.0)
    assert not play.fleet.agents
    assert not play.of(fx.CleanUp)
    for name in ("chat", "coordinator"):
        play.born(name)
    assert play.fleet.agents
    assert play.of(fx.CleanUp)
    assert play.of(fx.TellNotice), "people hear of it once there is somebody to tell them"


@pytest.mark.parametrize("persist", [True, False])
def test_a_stop_ends_the_clean_up_before_its_own_janitor_comes(persist: bool) -> None:
    play = fleet(persist=persist)
    disk(play, 900.0)
    play.do(e.StopAsked(0, now=True))
    assert play.of(fx.EndCleanUp) == [fx.EndCleanUp()]
    for name in (*play.fleet.agents, "coordinator", "chat"):
        play.do(e.Exited(name, 0))
    assert not play.of(fx.Tidy)
    assert not play.fleet.ended
    play.do(e.CleanedUp())
    if not persist:
        assert play.of(fx.Tidy)[0].rest
        play.do(e.Tidied(()))
    assert play.fleet.ended
