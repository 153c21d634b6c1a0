"""One channel of the server: its members, its replay, and presence notices that do not pile up."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from msgspec import Raw

from swarm.wire.agentchat.limits import ServerLimits
from swarm.wire.agentchat.members import Agent

SECOND = 1000


@dataclass(frozen=True, slots=True)
class Kept:
    """One message of the replay."""

    text: str
    """Its frame, marked as replay."""
    concerns: frozenset[str]
    """Its addressees and its sender, as bare ids; empty when it is for everybody."""
    chatter: bool = False
    """The fleet's own agents need not hear it."""


class Channel:
    """A channel and who is in it, by connection number."""

    __slots__ = ("_by_id", "_bytes", "_limits", "_open", "_others", "_replay", "_tally", "loud",
                 "members", "name", "verified_only")  # fmt: skip

    def __init__(self, name: str, limits: ServerLimits, *, verified_only: bool = False) -> None:
        self.name = name
        self.verified_only = verified_only
        self.members: dict[int, Agent] = {}
        self.loud: dict[int, Agent] = {}
        """Members that did not ask for quiet: only they are told who comes and goes."""
        self._open: dict[int, Agent] = {}
        """Members that hear what is addressed to others too."""
        self._others: dict[int, Agent] = {}
        """Members that are not of the fleet: they hear chatter."""
        self._by_id: dict[str, int] = {}
        self._limits = limits
        self._replay: deque[Kept] = deque()
        self._bytes = 0
        self._tally = Tally(limits.notices_per_second)

    def add(self, agent: Agent) -> None:
        """Make ``agent`` a member."""
        self.members[agent.conn] = agent
        self._by_id[agent.agent_id] = agent.conn
        if not agent.addressed:
            self._open[agent.conn] = agent
        if not agent.fleet:
            self._others[agent.conn] = agent
        if not agent.quiet:
            self.loud[agent.conn] = agent

    def remove(self, agent: Agent) -> None:
        """``agent`` is a member no more."""
        self.members.pop(agent.conn, None)
        self._open.pop(agent.conn, None)
        self._others.pop(agent.conn, None)
        self.loud.pop(agent.conn, None)
        if self._by_id.get(agent.agent_id) == agent.conn:
            del self._by_id[agent.agent_id]

    def hearers(
        self, sender: Agent, addressees: tuple[str, ...], *, chatter: bool = False
    ) -> tuple[int, ...]:
        """Who hears a message, in this order: its addressees, its sender, all who hear it too.

        Without addressees that is every member.  ``chatter`` is for nobody of the fleet but its
        sender, whomever it is addressed to: no stranger can wake a waiting daemon.
        """
        if not addressees:
            if chatter:
                return tuple(dict.fromkeys((sender.conn, *self._others)))
            return tuple(self.members)
        named = [conn for one in addressees if (conn := self._by_id.get(one)) is not None]
        found = dict.fromkeys((*named, sender.conn, *self._open))
        if chatter:
            return tuple(conn for conn in found if conn in self._others or conn == sender.conn)
        return tuple(found)

    def listeners(self, but: Agent) -> tuple[int, ...]:
        """Who is told about ``but``: the other members that did not ask for quiet."""
        return tuple(conn for conn in self.loud if conn != but.conn)

    def listing_for(self, agent: Agent) -> Raw:
        """The list of members in ``agent``'s JOINED; a quiet agent finds only itself."""
        shown = (agent,) if agent.quiet else tuple(self.members.values())
        return Raw(b"[" + b",".join(member.entry for member in shown) + b"]")

    def keep(
        self, text: str, sender: Agent, addressees: tuple[str, ...], *, chatter: bool = False
    ) -> None:
        """Put an encoded message, already marked as replay, at the end of the replay."""
        concerns = frozenset((*addressees, sender.agent_id)) if addressees else frozenset[str]()
        self._replay.append(Kept(text, concerns, chatter))
        self._bytes += len(text)
        limits = self._limits
        while self._replay and (
            len(self._replay) > limits.replay or self._bytes > limits.replay_bytes
        ):
            self._bytes -= len(self._replay.popleft().text)

    def replay_for(self, agent: Agent) -> tuple[str, ...]:
        """The last messages ``agent`` would have heard, oldest first."""
        return tuple(
            kept.text
            for kept in self._replay
            if not (kept.chatter and agent.fleet)
            and (not (agent.addressed and kept.concerns) or agent.agent_id in kept.concerns)
        )

    @property
    def tally(self) -> Tally:
        """Counts the presence notices."""
        return self._tally


class Tally:
    """Lets so many notices a second through and sums up the others.

    A thousand agents that join a channel with a thousand listeners would else cost a million
    notices.
    """

    __slots__ = ("_began", "_budget", "_count", "came", "went")

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._began = -(2**62)
        self._count = 0
        self.came = 0
        self.went = 0

    def admit(self, now: int, *, came: bool) -> bool:
        """Whether this notice is told by itself; if not it is counted for :meth:`sum_up`."""
        if now - self._began >= SECOND and not self.owing:
            self._began = now
            self._count = 0
        self._count += 1
        if self._count <= self._budget:
            return True
        if came:
            self.came += 1
        else:
            self.went += 1
        return False

    @property
    def owing(self) -> bool:
        """Whether there is something to sum up."""
        return bool(self.came or self.went)

    @property
    def deadline(self) -> int | None:
        """When it should be summed up."""
        return self._began + SECOND if self.owing else None

    def sum_up(self, now: int) -> str:
        """One line for all that was not told by itself; the count starts again."""
        parts = []
        if self.came:
            parts.append(f"{self.came} agents came")
        if self.went:
            parts.append(f"{self.went} agents left")
        self.came = self.went = 0
        self._began = now
        self._count = 0
        return ", ".join(parts)
