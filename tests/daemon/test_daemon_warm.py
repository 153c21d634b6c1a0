"""The rehearsal before the fork: it ends, leaves nothing open, and what it does is what is done."""

from __future__ import annotations

import gc

import pytest

from swarm.daemon import warm
from swarm.daemon.doze import Doze


def test_a_rehearsal_goes_through_a_whole_doze(monkeypatch: pytest.MonkeyPatch) -> None:
    """From its arrival to the offer that wakes it; descriptors are checked for every test."""
    run = Doze.run
    ended: list[Doze] = []

    def watched(doze: Doze) -> bool:
        woken = run(doze)
        ended.append(doze)
        return woken

    monkeypatch.setattr(Doze, "run", watched)
    warm.rehearse(rounds=2)
    assert len(ended) == 2
    for doze in ended:
        assert doze.greeted
        assert doze.beats >= 1
        assert b"swarm-rehearsal-001" in doze.pending, "it looked at all that came before"


def test_the_holes_are_filled_within_bounds() -> None:
    gc.collect()
    filling = warm.fill_holes()
    assert filling
    assert sum(len(one) + 33 for one in filling if isinstance(one, bytes)) <= warm.MAX_FILLING
