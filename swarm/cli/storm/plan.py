"""Which disturbances a storm brings, and when: a pure function of seed and length."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from random import Random

PACE = 1.0
"""Seconds between two disturbances, on average."""
FIRST = 0.5
"""Seconds the fleet works undisturbed."""
APART = 6.0
"""Seconds between two deaths of the supervisor: a fleet that is never up shows nothing."""


class Kind(StrEnum):
    """What is done to the fleet."""

    KILL = "kill"
    STOP = "stop"
    DISCONNECT = "disconnect"
    FILL = "fill"
    SLOW = "slow"
    PEOPLE = "people"


class Target(StrEnum):
    """Who it is done to; which daemon or session, :attr:`Disturbance.pick` says."""

    DAEMON = "daemon"
    SESSION = "session"
    KEEPER = "keeper"
    CHAT = "chat"
    COORDINATOR = "coordinator"
    ZYGOTE = "zygote"
    HELPER = "helper"
    """What a daemon or a service has started that is no session: git, mostly."""
    LANDER = "lander"
    """The process that lands what the hub's tasks have made."""
    CHECK = "check"
    """What runs as a check of what is to land."""
    PUSH = "push"
    """Git at the source, while landed work is published to it."""
    LANDING = "coordinator amid a landing"
    API = "api"
    HOOK = "hook"
    """What runs one of the programs that people are told by."""
    SUPERVISOR = "supervisor"
    FLEET = "fleet"
    """All of it: killed, every daemon and service at once, but not the supervisor."""


class Way(StrEnum):
    """How, where a kind has several ways."""

    PLAIN = ""
    DISK = "disk"
    """Nothing more can be written to any file."""
    FILES = "files"
    """No more file, socket or pipe can be opened."""
    RELOAD = "reload"
    SCALE = "scale"
    PAUSE = "pause"
    UPGRADE = "upgrade"
    CANCEL = "cancel"
    RESTART = "restart"
    END_SESSION = "kill-session"
    COMMIT = "commit"
    """A person commits on the source's target."""
    CLEAN = "clean"
    """Everything is removed that may go."""
    HOLD = "hold the target"
    """Somebody else's git holds the hub's target."""


@dataclass(frozen=True, slots=True)
class Action:
    """One thing a storm can do; it lasts between ``shortest`` and ``longest`` seconds."""

    kind: Kind
    target: Target
    way: Way = Way.PLAIN
    weight: int = 1
    shortest: float = 0.0
    longest: float = 0.0

    def __str__(self) -> str:
        if self.kind is Kind.PEOPLE:
            return f"{self.kind}: {self.way}"
        return " ".join(word for word in (self.kind, self.way, self.target) if word)


ACTIONS = (
    Action(Kind.KILL, Target.DAEMON, weight=3),
    Action(Kind.KILL, Target.SESSION, weight=2),
    Action(Kind.KILL, Target.KEEPER),
    Action(Kind.KILL, Target.CHAT),
    Action(Kind.KILL, Target.COORDINATOR),
    Action(Kind.KILL, Target.ZYGOTE),
    Action(Kind.KILL, Target.HELPER, weight=2),
    Action(Kind.KILL, Target.LANDER, weight=2),
    Action(Kind.KILL, Target.CHECK),
    Action(Kind.KILL, Target.PUSH),
    Action(Kind.KILL, Target.LANDING, weight=2),
    Action(Kind.KILL, Target.API, weight=2),
    Action(Kind.KILL, Target.HOOK),
    Action(Kind.KILL, Target.SUPERVISOR),
    Action(Kind.KILL, Target.FLEET),
    Action(Kind.STOP, Target.DAEMON, weight=2, shortest=0.3, longest=6.0),
    Action(Kind.STOP, Target.SESSION, shortest=0.3, longest=4.0),
    Action(Kind.STOP, Target.CHAT, shortest=0.3, longest=5.0),
    Action(Kind.STOP, Target.COORDINATOR, shortest=0.3, longest=5.0),
    Action(Kind.STOP, Target.API, shortest=0.3, longest=5.0),
    Action(Kind.STOP, Target.ZYGOTE, shortest=0.3, longest=6.0),
    Action(Kind.STOP, Target.LANDER, shortest=0.3, longest=6.0),
    Action(Kind.STOP, Target.SUPERVISOR, shortest=0.3, longest=3.0),
    Action(Kind.DISCONNECT, Target.DAEMON, weight=3),
    Action(Kind.DISCONNECT, Target.COORDINATOR),
    Action(Kind.FILL, Target.DAEMON, Way.DISK, shortest=0.5, longest=4.0),
    Action(Kind.FILL, Target.COORDINATOR, Way.DISK, shortest=0.5, longest=3.0),
    Action(Kind.FILL, Target.API, Way.DISK, shortest=0.5, longest=3.0),
    Action(Kind.FILL, Target.SUPERVISOR, Way.DISK, shortest=0.5, longest=3.0),
    Action(Kind.FILL, Target.LANDER, Way.DISK, shortest=0.5, longest=3.0),
    Action(Kind.FILL, Target.DAEMON, Way.FILES, shortest=0.5, longest=3.0),
    Action(Kind.FILL, Target.COORDINATOR, Way.FILES, shortest=0.5, longest=3.0),
    Action(Kind.FILL, Target.CHAT, Way.FILES, shortest=0.5, longest=3.0),
    Action(Kind.FILL, Target.API, Way.FILES, shortest=0.5, longest=3.0),
    Action(Kind.FILL, Target.SUPERVISOR, Way.FILES, shortest=0.5, longest=3.0),
    Action(Kind.SLOW, Target.DAEMON, shortest=1.0, longest=4.0),
    Action(Kind.SLOW, Target.CHAT, shortest=1.0, longest=4.0),
    Action(Kind.SLOW, Target.COORDINATOR, shortest=1.0, longest=4.0),
    Action(Kind.SLOW, Target.API, shortest=1.0, longest=4.0),
    Action(Kind.SLOW, Target.LANDER, shortest=1.0, longest=4.0),
    Action(Kind.SLOW, Target.SUPERVISOR, shortest=1.0, longest=4.0),
    Action(Kind.PEOPLE, Target.FLEET, Way.RELOAD),
    Action(Kind.PEOPLE, Target.FLEET, Way.SCALE, weight=2),
    Action(Kind.PEOPLE, Target.FLEET, Way.PAUSE, shortest=0.5, longest=3.0),
    Action(Kind.PEOPLE, Target.FLEET, Way.UPGRADE, weight=2),
    Action(Kind.PEOPLE, Target.FLEET, Way.CANCEL),
    Action(Kind.PEOPLE, Target.DAEMON, Way.RESTART),
    Action(Kind.PEOPLE, Target.SESSION, Way.END_SESSION),
    Action(Kind.PEOPLE, Target.FLEET, Way.COMMIT, weight=2),
    Action(Kind.PEOPLE, Target.FLEET, Way.CLEAN),
    Action(Kind.PEOPLE, Target.LANDER, Way.HOLD, shortest=0.5, longest=7.0),
)
"""All of them.  ``weight`` is how often one is in a deck."""


@dataclass(frozen=True, slots=True)
class Disturbance:
    """One action at its time, both in seconds from the storm's beginning."""

    at: float
    action: Action
    seconds: float
    """How long it lasts; 0 for what is done at once."""
    pick: float
    """From 0 to 1: which one of the possible victims, or how much."""


def plan(
    seed: int,
    seconds: float,
    only: Collection[Kind] = tuple(Kind),
    without: Collection[Way] = (),
    pace: float = PACE,
) -> tuple[Disturbance, ...]:
    """The storm of ``seed``, in the order of time; all of it is over after ``seconds``.

    Each kind of ``only`` comes among the first few, each action once a deck; ``pace`` is the
    average number of seconds from one to the next.
    """
    random = Random(f"storm {seed}")  # noqa: S311 - a storm is to be repeated, not to be secret
    actions = [a for a in ACTIONS if a.kind in only and a.way not in without]
    found: list[Disturbance] = []
    deck = _opening(random, actions)
    at, last_death = FIRST, -APART
    while actions and at < seconds:
        if not deck:
            deck = _deck(random, actions)
        action = deck.pop()
        lasts = random.uniform(action.shortest, action.longest)
        pick = random.random()
        if not (_kills_all(action) and at - last_death < APART):
            last_death = at if _kills_all(action) else last_death
            found.append(Disturbance(at, action, min(lasts, seconds - at), pick))
        at += random.uniform(0.5, 1.5) * pace
    return tuple(found)


def _opening(random: Random, actions: list[Action]) -> list[Action]:
    """One action of each kind."""
    kinds = sorted({action.kind for action in actions})
    chosen = [random.choice([a for a in actions if a.kind is kind]) for kind in kinds]
    random.shuffle(chosen)
    return chosen


def _deck(random: Random, actions: list[Action]) -> list[Action]:
    deck = [action for action in actions for _ in range(action.weight)]
    random.shuffle(deck)
    return deck


def _kills_all(action: Action) -> bool:
    return action.kind is Kind.KILL and action.target is Target.SUPERVISOR
