"""What of the journal people may want to be told of, on its way to the coordinator's hooks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from swarm.core import journal as j
from swarm.core.model import NoticeKind
from swarm.core.view import tell
from swarm.wire.lifeline import Notice

MAX_KEPT = 100
"""Notices kept while there is no coordinator to take them."""


def notice_of(entry: j.Entry) -> Notice | None:
    """The notice of a journal's entry, if it is one.  The disk's come from the fleet machine."""
    match entry:
        case j.ChildDegraded(child=child):
            return Notice(kind=NoticeKind.DEGRADED, text=f"{child}: {tell(entry)}", agent=child)
        case j.QuotaHit():
            return Notice(kind=NoticeKind.QUOTA, text=tell(entry))
        case j.BudgetNear(child=child) | j.BudgetSpent(child=child):
            whose = f"{child}: " if child else ""
            return Notice(kind=NoticeKind.BUDGET, text=f"{whose}{tell(entry)}", agent=child)
        case _:
            return None


class Herald:
    """Hands notices to the coordinator; keeps the newest while it is away.

    ``send`` says whether there was a coordinator to take it.
    """

    def __init__(self, send: Callable[[Notice], bool]) -> None:
        self._send = send
        self._kept: deque[Notice] = deque(maxlen=MAX_KEPT)

    def entry(self, entry: j.Entry) -> None:
        """An entry was written to the journal."""
        notice = notice_of(entry)
        if notice is not None and not self._send(notice):
            self._kept.append(notice)

    def listens(self) -> None:
        """The coordinator has its settings: it can take notices."""
        while self._kept and self._send(self._kept[0]):
            self._kept.popleft()
