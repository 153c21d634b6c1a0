"""What the journal is told when a child's life goes one step on."""

from __future__ import annotations

from collections.abc import Iterator

from swarm.core import journal, life


def story_of(
    before: life.Life, after: life.Life, event: life.Event, now: float
) -> Iterator[journal.Entry]:
    """Entries for one step of a life: what happened to its process, then the phase it is in now."""
    name, phase = before.name, after.phase
    match event:
        case life.Spawned(pid=pid):
            yield journal.ChildSpawned(name, pid)
        case life.Exited(status=status) if before.pid is not None:
            asked = not _crashed(before)
            yield journal.ChildExited(
                name, before.pid, status, "" if asked else after.reason, asked
            )
        case life.Forgiven(shared=shared) if after.history != before.history:
            yield journal.ChildForgiven(name, shared.reason)
        case _:
            pass
    if type(phase) is type(before.phase):
        return
    match phase:
        case life.Running(pid=pid):
            yield journal.ChildReady(name, pid)
        case life.Stopping(then=life.Then.CRASH, reason=reason):
            yield journal.ChildUnresponsive(name, reason)
        case life.Backoff(until=until):
            yield journal.ChildBackoff(name, after.reason, round(until - now, 3))
        case life.Spawning() if isinstance(event, life.Exited) and _crashed(before):
            yield journal.ChildBackoff(name, after.last_crash, 0.0)
        case life.Degraded():
            yield journal.ChildDegraded(name, after.reason)
        case life.Stopped():
            yield journal.ChildStopped(name, after.reason)
        case _:
            pass


def _crashed(before: life.Life) -> bool:
    """Whether an exit now is one that nobody asked for."""
    was = before.phase
    return not isinstance(was, life.Stopping) or was.then is life.Then.CRASH
