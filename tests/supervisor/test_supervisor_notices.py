"""What the supervisor has people told of."""

from __future__ import annotations

import pytest

from swarm.core import journal as j
from swarm.core.model import NoticeKind
from swarm.supervisor.notices import MAX_KEPT, Herald, notice_of
from swarm.wire.lifeline import Notice


@pytest.mark.parametrize(
    ("entry", "kind", "text"),
    [
        (j.ChildDegraded("swarm-qa-001", "5 crashes"), NoticeKind.DEGRADED, "swarm-qa-001: degra"),
        (j.QuotaHit("claude", "limit reached"), NoticeKind.QUOTA, "claude"),
        (j.BudgetNear("80 % of the budget is spent"), NoticeKind.BUDGET, "80 %"),
        (j.BudgetSpent("all is spent", "swarm-qa-001"), NoticeKind.BUDGET, "swarm-qa-001: "),
    ],
)
def test_what_is_told(entry: j.Entry, kind: NoticeKind, text: str) -> None:
    notice = notice_of(entry)
    assert notice is not None
    assert notice.kind is kind
    assert text in notice.text


@pytest.mark.parametrize("entry", [j.ChildReady("a", 1), j.Paused(), j.DiskLow("x")])
def test_what_is_not(entry: j.Entry) -> None:
    """The disk's notices come from the fleet machine itself."""
    assert notice_of(entry) is None


def test_notices_wait_for_a_coordinator() -> None:
    heard: list[Notice] = []
    away = True

    def send(notice: Notice) -> bool:
        if not away:
            heard.append(notice)
        return not away

    herald = Herald(send)
    for number in range(MAX_KEPT + 5):
        herald.entry(j.QuotaHit(f"r{number}"))
    herald.listens()
    assert heard == []
    away = False
    herald.listens()
    assert len(heard) == MAX_KEPT
    assert "r5" in heard[0].text
    herald.entry(j.QuotaHit("now"))
    herald.listens()
    assert len(heard) == MAX_KEPT + 1
