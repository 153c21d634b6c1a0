"""One small session without a task, to see whether a runtime's quota is back.

It runs as any session does: same program, same sandbox, same adapter; but in a folder of its own,
without a repository, and what it used counts for nothing.  Meanwhile the daemon takes no task.
"""

from __future__ import annotations

from dataclasses import replace

from swarm.core.model import PROBE_TASK, Outcome
from swarm.daemon.attempt import KILL_AGAIN_SECONDS, STUCK_SECONDS, SessionNews
from swarm.daemon.between import Step, rest
from swarm.daemon.reporting import MAX_REASON
from swarm.daemon.state import (
    Daemon,
    Effect,
    Idle,
    Job,
    Kill,
    Launch,
    LaunchFailed,
    Note,
    Probing,
    Secure,
    Secured,
    SessionOver,
    SessionOverLimit,
    SessionSpoke,
    SessionStuck,
    Tell,
    Terminate,
)
from swarm.wire.lifeline import Leave, Probe, Probed, Work

PROBE_SECONDS = 120.0
"""Wall clock of one probe."""
PROMPT = "Reply with the single word ok."


def asked(daemon: Daemon, line: Probe, now: float) -> Step:
    """The supervisor wants one; only a daemon that waits for work runs it."""
    if not isinstance(daemon.phase, Idle) or daemon.leave is not None or daemon.me.refuses:
        why = daemon.me.refuses or "this agent is busy"
        return daemon, (Tell(Probed(id=line.id, outcome=Outcome.CANCELLED, reason=why)),)
    work = Work(task=f"{PROBE_TASK}{line.id}", attempt=1, prompt=PROMPT, role=daemon.me.role)
    job = Job(work, line.id, coordinator="", probe=True)
    phase = Probing(job, now + PROBE_SECONDS)
    return replace(daemon, phase=phase, held=()), (Launch(job), Note("probe", "started"))


def news(daemon: Daemon, phase: Probing, event: SessionNews, now: float) -> Step:
    """Something came from its session, or it is over."""
    match event:
        case LaunchFailed(reason):
            return replace(daemon, phase=replace(phase, failed=reason)), (Terminate(),)
        case SessionSpoke():
            return replace(daemon, phase=replace(phase, stuck_at=None)), ()
        case SessionStuck() if phase.stuck_at is None:
            return replace(daemon, phase=replace(phase, stuck_at=now + STUCK_SECONDS)), ()
        case SessionOverLimit(reason):
            until = now + KILL_AGAIN_SECONDS
            phase = replace(phase, ending=Outcome.FAILED, reason=reason, until=until)
            return replace(daemon, phase=phase), (Kill(),)
        case SessionOver() if phase.failed:
            return _done(daemon, phase, phase.ending or Outcome.FAILED, phase.failed, None, now)
        case SessionOver():
            return daemon, (Secure(phase.job, phase.ending, phase.reason),)
        case Secured(finished):
            used = finished.usage
            note = Note("probe", f"used {used.input_tokens} tokens in, {used.output_tokens} out")
            outcome, reason = finished.outcome, finished.reason
            daemon, effects = _done(daemon, phase, outcome, reason, finished.retry_at, now)
            return daemon, (note, *effects)
        case _:
            return daemon, ()


def deadline(phase: Probing) -> float:
    """When :func:`expire` has something to do."""
    waits = phase.stuck_at is not None and phase.ending is None
    return min(phase.until, phase.stuck_at) if waits and phase.stuck_at else phase.until


def expire(daemon: Daemon, phase: Probing, now: float) -> Step:
    """It is over its time, or waits for its quota for ever; then killed, and killed again."""
    if phase.ending is not None:
        return replace(daemon, phase=replace(phase, until=now + KILL_AGAIN_SECONDS)), (Kill(),)
    stuck = phase.stuck_at is not None and phase.stuck_at <= now
    ending = Outcome.QUOTA if stuck else Outcome.TIMED_OUT
    words = "the provider's quota is used up" if stuck else "it took too long"
    until = now + max(KILL_AGAIN_SECONDS, daemon.tuning.grace_seconds)
    phase = replace(phase, ending=ending, reason=words, until=until)
    return replace(daemon, phase=phase), (Terminate(),)


def leave(daemon: Daemon, phase: Probing, line: Leave, now: float) -> Step:
    """Nobody's work is lost with it: it is killed at once, and then the daemon goes."""
    phase = replace(phase, ending=Outcome.CANCELLED, until=now + KILL_AGAIN_SECONDS)
    return replace(daemon, leave=line, phase=phase), (Kill(),)


def _done(
    daemon: Daemon,
    phase: Probing,
    outcome: Outcome,
    reason: str,
    retry_at: float | None,
    now: float,
) -> Step:
    reason = reason[:MAX_REASON]
    said = Tell(Probed(id=phase.job.fence, outcome=outcome, reason=reason, retry_at=retry_at))
    told: tuple[Effect, ...] = (said, Note("probe", f"{outcome}: {reason}" if reason else outcome))
    daemon, effects = rest(daemon, now)
    return daemon, (*told, *effects)
