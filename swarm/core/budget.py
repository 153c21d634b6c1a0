"""What was spent of a budget: the ledger's totals and what was heard since, never less than either.

The ledger is the authority, but the coordinator writes it, and that one may be busy or down while
sessions go on spending.  So the tally remembers of every session the running total it was told
last and how much of that the ledger had counted when it was last read; the difference is added to
the ledger's totals until the ledger has it.

A *window* is all time or the day in UTC.  What a session uses counts in the window in which it is
heard of; at the window's change everything heard so far belongs to the old one.

Unknown is ``None`` and never zero.  A session whose runtime reports no usage counts as its role's
estimate, from its grant on.  A *running* session's estimate closes the gate, but ends nobody:
nothing says that it was spent already (:meth:`Tally.certain`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias, TypeVar

Number = TypeVar("Number", int, float)

Key: TypeAlias = tuple[str, int]
"""Task and fence: one session."""

DAY_SECONDS = 86_400.0
"""Unix time has no leap seconds: each day in UTC is as long."""
MAX_ENDED = 500
"""Ended sessions minded one by one; those whose end never reaches the ledger must not pile up."""


@dataclass(frozen=True, slots=True)
class Amount:
    """Tokens (input and output) and dollars; ``None`` is unknown, and of a limit it is none."""

    tokens: int | None = None
    usd: float | None = None

    def plus(self, other: Amount) -> Amount:
        """The sum; unknown plus known is the known part."""
        return Amount(_plus(self.tokens, other.tokens), _plus(self.usd, other.usd))

    def or_else(self, other: Amount) -> Amount:
        """Where this is not known, the ``other``."""
        return Amount(
            other.tokens if self.tokens is None else self.tokens,
            other.usd if self.usd is None else self.usd,
        )

    def beyond(self, other: Amount) -> Amount:
        """How much more than the ``other`` this is, nothing when it is less."""
        return Amount(_beyond(self.tokens, other.tokens), _beyond(self.usd, other.usd))

    def only_where_unknown(self, known: Amount) -> Amount:
        """The parts of this that ``known`` does not know."""
        return Amount(
            self.tokens if known.tokens is None else None, self.usd if known.usd is None else None
        )

    @property
    def nothing(self) -> bool:
        """Whether neither part is known."""
        return self.tokens is None and self.usd is None


NOTHING = Amount()
"""Nothing is known, or nothing is limited."""


def total(amounts: Iterable[Amount]) -> Amount:
    """The sum of many."""
    whole = NOTHING
    for amount in amounts:
        whole = whole.plus(amount)
    return whole


# -- limits ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RoleBudget:
    """What a role says of money: what each of its agents may spend, what a session is taken for."""

    limit: Amount = NOTHING
    estimate: Amount = NOTHING


def over(spent: Amount, limit: Amount, what: str = "") -> str:
    """Why a budget is spent, for people; empty while it is not.  Unknown spending spends nothing.

    ``what`` is whose it is, empty for the swarm's.
    """
    of = f" of {what}" if what else ""
    if limit.tokens is not None and (spent.tokens or 0) >= limit.tokens:
        return f"the token budget{of} is spent: {spent.tokens or 0} of {limit.tokens}"
    if limit.usd is not None and (spent.usd or 0.0) >= limit.usd:
        return f"the budget{of} is spent: ${spent.usd or 0.0:.2f} of ${limit.usd:.2f}"
    return ""


def left(limit: Amount, spent: Amount) -> Amount:
    """What may still be spent, 0 at least; ``None`` where there is no limit."""
    tokens = None if limit.tokens is None else max(0, limit.tokens - (spent.tokens or 0))
    usd = None if limit.usd is None else max(0.0, limit.usd - (spent.usd or 0.0))
    return Amount(tokens, usd)


def shares(spent: Amount, limit: Amount) -> dict[str, float]:
    """The spent share of each part that has a limit and is known; a limit of 0 is spent whole."""
    found: dict[str, float] = {}
    if limit.tokens is not None and (spent.tokens is not None or limit.tokens == 0):
        found["tokens"] = (spent.tokens or 0) / limit.tokens if limit.tokens else 1.0
    if limit.usd is not None and (spent.usd is not None or limit.usd == 0):
        found["usd"] = (spent.usd or 0.0) / limit.usd if limit.usd else 1.0
    return found


def until_midnight(now: float) -> float:
    """Seconds from ``now`` (Unix) to the next midnight in UTC, more than 0."""
    return DAY_SECONDS - now % DAY_SECONDS


# -- the tally ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Booked:
    """What the ledger says of one attempt: what was reported, and what it has counted for it."""

    known: Amount = NOTHING
    counted: Amount = NOTHING
    """With the estimate in place of what is not known."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at the ledger."""

    agents: Mapping[str, Amount] = field(default_factory=dict)
    """What each agent spent in the window, estimates included."""
    sessions: Mapping[Key, Booked] = field(default_factory=dict)
    """Of the sessions that were asked for, those it knows."""
    day: int = 0
    """Of which window: days since 1970 in UTC; 0 is all time."""
    resets_in: float | None = None
    """Seconds until a new one begins, where it is the day's."""


@dataclass(frozen=True, slots=True)
class Session:
    """One session, from its grant until the ledger has all of it."""

    agent: str
    estimate: Amount = NOTHING
    heard: Amount = NOTHING
    """Its running total, as last told."""
    booked: Amount = NOTHING
    """How much of it the ledger's totals hold, or an earlier window."""
    own: Amount = NOTHING
    """What its task may still spend, where that is limited."""
    ended: bool = False

    @property
    def counted(self) -> Amount:
        """What it counts for."""
        return self.heard.or_else(self.estimate)

    @property
    def pending(self) -> Amount:
        """What the ledger's totals do not hold yet."""
        return self.counted.beyond(self.booked)

    @property
    def guessed(self) -> Amount:
        """The part that is an estimate of a session still running."""
        return NOTHING if self.ended else self.estimate.only_where_unknown(self.heard)


@dataclass(frozen=True, slots=True)
class Tally:
    """What the swarm and each of its agents have spent in the window."""

    booked: Mapping[str, Amount] = field(default_factory=dict)
    """By agent: the ledger's totals, as last read."""
    sessions: Mapping[Key, Session] = field(default_factory=dict)
    adrift: Mapping[str, Amount] = field(default_factory=dict)
    """By agent: what sessions spent whose end the ledger does not know after long."""
    settled: Amount = NOTHING
    """The sum of both, kept because a fleet may be a thousand agents."""
    day: int = 0
    """The window, as of :class:`Reading`."""

    # -- what happens

    def opened(self, key: Key, agent: str, estimate: Amount, own: Amount) -> Tally:
        """A session was granted."""
        return self._with(key, Session(agent, estimate, own=own))

    def heard(self, key: Key, agent: str, amount: Amount) -> Tally:
        """It told its running total."""
        session = self.sessions.get(key, Session(agent))
        return self._with(key, replace(session, heard=amount.or_else(session.heard)))

    def ended(self, key: Key, agent: str, amount: Amount) -> Tally:
        """It is over; ``amount`` is its report's, unknown when there is none."""
        session = self.sessions.get(key, Session(agent))
        last = amount.or_else(session.heard)
        return _bounded(self._with(key, replace(session, heard=last, ended=True)))

    def forgotten(self, key: Key) -> Tally:
        """It was granted and never began."""
        return replace(self, sessions={k: s for k, s in self.sessions.items() if k != key})

    def read(self, reading: Reading) -> Tally:
        """The ledger was looked at; an ended session it has counted in full is minded no more."""
        tally = self.begun_anew(reading.day) if reading.day > self.day else self
        sessions = {}
        for key, session in tally.sessions.items():
            found = reading.sessions.get(key)
            if found is not None:
                heard = session.heard.or_else(found.known)
                session = replace(session, heard=heard, booked=found.counted)
            if not (session.ended and found is not None and _settled(session)):
                sessions[key] = session
        settled = total([*reading.agents.values(), *tally.adrift.values()])
        booked = dict(reading.agents)
        return replace(tally, booked=booked, sessions=sessions, settled=settled, day=reading.day)

    def begun_anew(self, day: int) -> Tally:
        """A new window: all that was heard of belongs to the old one."""
        running = {
            key: replace(session, booked=session.counted, estimate=NOTHING)
            for key, session in self.sessions.items()
            if not session.ended
        }
        return Tally(sessions=running, day=day)

    # -- what was spent

    def spent(self, agent: str | None = None) -> Amount:
        """All of it, or one agent's; estimates of running sessions included."""
        held = self.settled
        if agent is not None:
            held = self.booked.get(agent, NOTHING).plus(self.adrift.get(agent, NOTHING))
        return total([held, *(one.pending for one in self._of(agent))])

    def certain(self, agent: str | None = None) -> Amount:
        """The same without what is only guessed of sessions that still run."""
        guessed = total(one.guessed for one in self._of(agent))
        spent = self.spent(agent)
        return Amount(
            None if spent.tokens is None else max(0, spent.tokens - (guessed.tokens or 0)),
            None if spent.usd is None else max(0.0, spent.usd - (guessed.usd or 0.0)),
        )

    def running(self) -> dict[Key, Session]:
        """The sessions that have not ended."""
        return {key: one for key, one in self.sessions.items() if not one.ended}

    def _of(self, agent: str | None) -> Iterable[Session]:
        every = self.sessions.values()
        return every if agent is None else [one for one in every if one.agent == agent]

    def _with(self, key: Key, session: Session) -> Tally:
        return replace(self, sessions={**self.sessions, key: session})


def _bounded(tally: Tally) -> Tally:
    """With the oldest ended session's share kept as a sum only, when there are too many."""
    ended = [key for key, session in tally.sessions.items() if session.ended]
    if len(ended) <= MAX_ENDED:
        return tally
    gone = tally.sessions[ended[0]]
    drift = tally.adrift.get(gone.agent, NOTHING).plus(gone.pending)
    return replace(
        tally.forgotten(ended[0]),
        adrift={**tally.adrift, gone.agent: drift},
        settled=tally.settled.plus(gone.pending),
    )


def _settled(session: Session) -> bool:
    pending = session.pending
    return not pending.tokens and not pending.usd


def _plus(a: Number | None, b: Number | None) -> Number | None:
    if a is None:
        return b
    return a if b is None else a + b


def _beyond(a: Number | None, b: Number | None) -> Number | None:
    if a is None or b is None:
        return a
    return a - b if a > b else a - a
