"""What a ledger keeps for telling people: notices on their way to hooks, and what waits for them.

Part of :class:`~swarm.ledger.interface.Ledger`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from swarm.ledger.records import Event, Task


@dataclass(frozen=True, slots=True)
class NewNotice:
    """One thing to tell by one hook."""

    hook: str
    """Which hook, by a name that is the same over restarts."""
    kind: str
    task: str
    """Empty where it is about no task."""
    body: str
    """What is told, JSON."""


@dataclass(frozen=True, slots=True)
class DueNotice:
    """One that waits to be told."""

    seq: int
    hook: str
    kind: str
    task: str
    body: str
    tries: int
    """How often that has failed."""


@dataclass(frozen=True, slots=True)
class Attention:
    """A task that waits for a person."""

    task: str
    kind: str
    """``needs_human`` or ``review``."""
    text: str
    """The question, or the commit that waits for approval."""
    since: float
    """Unix seconds."""


class NoticesCalls(Protocol):
    """Part of the ledger's interface."""

    def notice_cursor(self) -> int | None:
        """Number of the last event that hooks were told of; ``None`` where there are no hooks."""

    def keep_notices(self, new: Sequence[NewNotice], cursor: int | None) -> int:
        """Keep these until they are told, and move the cursor, at once.

        Returns how many of the oldest were dropped, as there were too many.
        """

    def add_notices(self, new: Sequence[NewNotice]) -> int:
        """Keep these, which come from no event; returns as :meth:`keep_notices`."""

    def forget_notices(self, hooks: Collection[str]) -> int:
        """Drop what waits for other hooks than these: they are configured no more."""

    def due_notices(self, limit: int, without: Collection[str] = ()) -> list[DueNotice]:
        """Those whose time has come, the longest due first; ``without`` these hooks'."""

    def next_notice(self, without: Collection[str] = ()) -> float | None:
        """When the next one's time comes, past or not (Unix seconds); ``without`` these hooks'."""

    def notice_told(self, seq: int) -> None:
        """It was told, or is given up: it waits no more."""

    def notice_failed(self, seq: int, again_at: float) -> None:
        """It could not be told; not again before that time."""

    def events_of(self, kinds: Collection[str], after: int, upto: int) -> list[Event]:
        """Changes of these kinds, numbered above ``after`` and at most ``upto``."""

    def attention(self, limit: int) -> tuple[list[Attention], int]:
        """What waits for a person, the oldest first, at most so many; and how many there are."""

    def foldered(self, since: float) -> list[Task]:
        """Tasks with a folder of their own that have ended after ``since`` (Unix seconds)."""
