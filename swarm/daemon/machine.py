"""The daemon as a pure function: ``step(daemon, event, now) -> (daemon, effects)``.

Everything a daemon does is decided here; :mod:`swarm.daemon.loop` only carries it out.  What the
chat says is judged in :mod:`swarm.daemon.orders`, a session's life in
:mod:`swarm.daemon.attempt`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias, assert_never

from swarm.daemon import attempt, between, claims, orders, probing
from swarm.daemon.between import RESEND_CAP_SECONDS, RESEND_SECONDS, Step
from swarm.daemon.outbox import Entry
from swarm.daemon.reporting import message_of
from swarm.daemon.state import (
    Active,
    ChatClosed,
    ChatDown,
    ChatFailing,
    ChatRefuses,
    ChatUp,
    Claiming,
    CloneFailed,
    CloneMade,
    Daemon,
    Effect,
    Ending,
    Event,
    Exit,
    Failing,
    Gone,
    Heard,
    Idle,
    Kill,
    LaunchFailed,
    Launching,
    Leaving,
    LifelineLost,
    Me,
    Note,
    Preparing,
    Probing,
    Promoting,
    Recorded,
    RecordFailed,
    Recording,
    Recovered,
    Say,
    Secured,
    Securing,
    SessionBegan,
    SessionOver,
    SessionOverLimit,
    SessionPrinted,
    SessionSpent,
    SessionSpoke,
    SessionStuck,
    Starting,
    Tell,
    Tick,
    Told,
)
from swarm.wire.lifeline import (
    Beat,
    ChatState,
    Denied,
    EndSession,
    Granted,
    Leave,
    ParentLine,
    Prepare,
    Probe,
    Ready,
    Trouble,
    Tuning,
)

FAILING_ATTEMPTS = 5
"""So many failed connections in a row are told to the supervisor (product, "Chat lost")."""

_Effects: TypeAlias = tuple[Effect, ...]


def begin(
    me: Me,
    tuning: Tuning,
    *,
    fences: dict[str, int],
    unsettled: tuple[Entry, ...],
    hub: str,
    recovering: bool,
    now: float,
) -> Daemon:
    """A daemon at birth, with what its workspace remembers; it beats at once."""
    return Daemon(
        me=me,
        tuning=tuning,
        phase=Starting(recovering),
        beat_at=now,
        hub=hub,
        fences=fences,
        unsettled=unsettled,
    )


def step(daemon: Daemon, event: Event, now: float) -> Step:
    """One event; what follows from it."""
    if isinstance(daemon.phase, Gone):
        return daemon, ()
    daemon, effects = _decide(daemon, event, now)
    if isinstance(daemon.phase, Idle) and daemon.held:
        daemon, more = claims.claim_due(daemon, now)
        effects += more
    return daemon, effects


def _decide(daemon: Daemon, event: Event, now: float) -> Step:
    match event:
        case Tick():
            return _tick(daemon, now)
        case Heard():
            return orders.heard(daemon, event, now)
        case Told(line):
            return _told(daemon, line, now)
        case LifelineLost():
            return replace(daemon, phase=Gone(0)), (Kill(), Exit(0))
        case ChatUp() | ChatDown() | ChatFailing() | ChatRefuses() | ChatClosed():
            return _chat(daemon, event, now)
        case Recovered(trouble):
            return _recovered(daemon, trouble, now)
        case CloneMade() | CloneFailed():
            return attempt.cloned(daemon, event, now)
        case Recorded() | RecordFailed():
            return attempt.recorded(daemon, event, now)
        case SessionPrinted():
            return attempt.printed(daemon, now), ()
        case (
            SessionBegan()
            | LaunchFailed()
            | SessionSpoke()
            | SessionSpent()
            | SessionStuck()
            | SessionOverLimit()
            | SessionOver()
            | Secured()
        ):
            if isinstance(daemon.phase, Probing):
                return probing.news(daemon, daemon.phase, event, now)
            return attempt.session(daemon, event, now)
        case _:
            assert_never(event)


def deadline(daemon: Daemon) -> float | None:
    """When to look again although nothing happened; ``None``: never."""
    if isinstance(daemon.phase, Gone):
        return None
    times = [daemon.beat_at]
    at = _phase_deadline(daemon)
    if at is not None:
        times.append(at)
    if daemon.joined and daemon.resend_at is not None:
        times.append(daemon.resend_at)
    if daemon.clone_at is not None and isinstance(daemon.phase, Idle):
        times.append(daemon.clone_at)
    for held in daemon.held:
        able = isinstance(daemon.phase, Idle) and daemon.joined and daemon.leave is None
        times.append(held.at if able else held.until)
    return min(times)


def _phase_deadline(daemon: Daemon) -> float | None:
    match daemon.phase:
        case Claiming(until=at) | Promoting(until=at) | Ending(kill_at=at) | Leaving(until=at):
            return at
        case Recording(retry_at=at):
            return at
        case Active() as active:
            return attempt.active_deadline(daemon, active)
        case Probing() as probe:
            return probing.deadline(probe)
        case Starting() | Idle() | Preparing() | Launching() | Failing() | Securing() | Gone():
            return None
        case _:
            assert_never(daemon.phase)


# -- time ----------------------------------------------------------------------------------------


def _tick(daemon: Daemon, now: float) -> Step:
    effects: _Effects = ()
    if now >= daemon.beat_at:
        daemon, effects = _beat(daemon, now)
    if daemon.joined and daemon.resend_at is not None and now >= daemon.resend_at:
        wait = min(daemon.resend_wait * 2, RESEND_CAP_SECONDS)
        daemon = replace(daemon, resend_at=now + wait, resend_wait=wait)
        effects += _say_unsettled(daemon)
    if daemon.clone_at is not None and now >= daemon.clone_at and isinstance(daemon.phase, Idle):
        daemon, more = between.clone_wanted(replace(daemon, clone_at=None))
        effects += more
    daemon, more = _expire(daemon, now)
    daemon, claimed = claims.claim_due(daemon, now)
    return daemon, effects + more + claimed


def _beat(daemon: Daemon, now: float) -> Step:
    """One heartbeat; a daemon that was held up does not beat twice to catch up."""
    task, fence = between.holding(daemon.phase)
    every = daemon.tuning.heartbeat_seconds
    beat_at = daemon.beat_at + every
    daemon = replace(
        daemon, beats=daemon.beats + 1, beat_at=beat_at if beat_at > now else now + every
    )
    quiet = round(attempt.quiet(daemon, now), 3)
    return daemon, (Tell(Beat(seq=daemon.beats, task=task, fence=fence, quiet=quiet)),)


def _expire(daemon: Daemon, now: float) -> Step:
    at = _phase_deadline(daemon)
    if at is None or now < at:
        return daemon, ()
    match daemon.phase:
        case Claiming():
            return replace(daemon, phase=Idle(now)), ()
        case Promoting(task=task, fence=fence):
            return between.give_back(daemon, task.id, fence, "the supervisor did not answer", now)
        case Leaving(closing=True):
            return replace(daemon, phase=Gone(0)), (Exit(0),)
        case Leaving():
            return between.close(daemon, now)
        case Probing() as probe:
            return probing.expire(daemon, probe, now)
        case _:
            return attempt.expire(daemon, now)


# -- the supervisor ------------------------------------------------------------------------------


def _told(daemon: Daemon, line: ParentLine, now: float) -> Step:
    match line:
        case Tuning():
            beat_at = min(daemon.beat_at, now + line.heartbeat_seconds)
            return replace(daemon, tuning=line, beat_at=beat_at), ()
        case Prepare():
            daemon = replace(daemon, wanted=line)
            return (
                between.clone_wanted(daemon)
                if isinstance(daemon.phase, Idle | Claiming)
                else (daemon, ())
            )
        case Granted():
            return attempt.granted(daemon, line, now)
        case Denied(task=task, fence=fence, reason=reason, retry_after=retry_after):
            match daemon.phase:
                case Promoting(task=held, fence=mine) if (held.id, mine) == (task, fence):
                    return between.give_back(daemon, task, fence, reason, now, retry_after)
                case _:
                    return daemon, ()
        case EndSession():
            return attempt.end_session(daemon, line, now)
        case Probe():
            return probing.asked(daemon, line, now)
        case Leave():
            if isinstance(daemon.phase, Probing):
                return probing.leave(daemon, daemon.phase, line, now)
            return attempt.leave(daemon, line, now)
        case _:
            return daemon, (Note("unexpected", f"the supervisor said {type(line).__name__}"),)


def _recovered(daemon: Daemon, trouble: str, now: float) -> Step:
    if daemon.phase != Starting(recovering=True):
        return daemon, ()
    daemon = replace(daemon, phase=Starting(recovering=False))
    effects: _Effects = (Tell(Trouble(text=trouble)),) if trouble else ()
    if daemon.joined or daemon.leave is not None:
        daemon, more = between.rest(daemon, now)
        effects += more
    return daemon, effects


# -- the chat ------------------------------------------------------------------------------------


def _chat(
    daemon: Daemon, event: ChatUp | ChatDown | ChatFailing | ChatRefuses | ChatClosed, now: float
) -> Step:
    match event:
        case ChatUp():
            return _joined(daemon, now)
        case ChatDown(reason):
            was = daemon.joined
            daemon = replace(daemon, joined=False, resend_at=None)
            if isinstance(daemon.phase, Leaving) and not daemon.phase.closing:
                return between.close(daemon, now)
            if isinstance(daemon.phase, Claiming):
                daemon = replace(daemon, phase=Idle(now))
            return daemon, (
                (Tell(ChatState(connected=False, reason=reason)), Note("chat_lost", reason))
                if was
                else ()
            )
        case ChatFailing(attempts, reason):
            note = Note("chat_failing", f"{attempts} attempts: {reason}")
            if attempts % FAILING_ATTEMPTS:
                return daemon, (note,)
            told = ChatState(connected=False, attempts=attempts, reason=reason)
            return daemon, (Tell(told), note)
        case ChatRefuses(reason):
            return daemon, (Tell(Trouble(text=reason)), Note("chat_refuses", reason))
        case ChatClosed():
            if isinstance(daemon.phase, Leaving) and daemon.phase.closing:
                return replace(daemon, phase=Gone(0)), (Exit(0),)
            return daemon, ()
        case _:
            assert_never(event)


def _joined(daemon: Daemon, now: float) -> Step:
    """In the channel: ready the first time, and what is unsettled is said again, in order."""
    effects: _Effects = (Tell(ChatState(connected=True)), Note("chat_joined", ""))
    if not daemon.greeted:
        effects = (Tell(Ready(agent_id=daemon.me.agent_id)), *effects)
    daemon = replace(daemon, joined=True, greeted=True)
    if daemon.unsettled:
        daemon = replace(daemon, resend_at=now + RESEND_SECONDS, resend_wait=RESEND_SECONDS)
        effects += _say_unsettled(daemon)
    if daemon.phase == Starting(recovering=False):
        daemon, more = between.rest(daemon, now)
        effects += more
    return daemon, effects


def _say_unsettled(daemon: Daemon) -> _Effects:
    return tuple(Say(message_of(entry, daemon.me.agent_id)) for entry in daemon.unsettled)
