"""One attempt at a task, from the supervisor's grant to the report on disk."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias, assert_never

import msgspec

from swarm.core.model import Outcome
from swarm.daemon.between import CLONE_RETRY_SECONDS, Step, give_back, owe, rest
from swarm.daemon.between import go as go_away
from swarm.daemon.outbox import Reported
from swarm.daemon.reporting import MAX_REASON, report, status
from swarm.daemon.state import (
    Active,
    Claiming,
    CloneFailed,
    CloneMade,
    Daemon,
    Effect,
    Ending,
    Failing,
    Idle,
    Job,
    Kill,
    Launch,
    LaunchFailed,
    Launching,
    MakeClone,
    Note,
    Preparing,
    Promoting,
    Record,
    Recorded,
    RecordFailed,
    Recording,
    Say,
    Secure,
    Secured,
    Securing,
    SessionBegan,
    SessionOver,
    SessionOverLimit,
    SessionSpent,
    SessionSpoke,
    SessionStuck,
    Starting,
    Tell,
    Terminate,
)
from swarm.wire.lifeline import (
    Ended,
    EndSession,
    Finished,
    Granted,
    Leave,
    RepoWork,
    Spent,
    Started,
    Trouble,
    Work,
)
from swarm.wire.lifeline import Idle as IdleLine
from swarm.wire.work import Heartbeat, TaskRef

STATUS_SECONDS = 5.0
"""The channel hears of progress at most so often."""
SPENT_SECONDS = 2.0
"""The supervisor hears of usage at most so often, and of the last of it that late at most."""
BEATS_A_LEASE = 3
"""A foreign coordinator hears so often of a lease: one lost message ends nothing."""
MIN_RENEW_SECONDS = 1.0
STUCK_SECONDS = 3.0
"""A CLI that waits for its quota for ever is ended after this long; one that gives up by itself
has the time to say so properly (rules, "Outcomes")."""
KILL_AGAIN_SECONDS = 1.0
RETRY_DISK_SECONDS = 5.0
LEAVING_REASON = "its agent was stopped"

SessionNews: TypeAlias = (
    SessionBegan | LaunchFailed | SessionSpoke | SessionSpent | SessionStuck | SessionOverLimit
    | SessionOver | Secured
)  # fmt: skip


# -- before the session ----------------------------------------------------------------------------


def granted(daemon: Daemon, line: Granted, now: float) -> Step:
    """The supervisor allows it: clone if need be, then launch."""
    match daemon.phase:
        case Promoting(task, fence, by, _, lease) if (task.id, fence) == (line.task, line.fence):
            work = _work(daemon, line.work, task, fence)
            foreign = line.work is None or not line.work.prompt
        case _:
            return daemon, (Note("late", f"a grant of {line.task} fence {line.fence}"),)
    if not work.prompt:
        return give_back(daemon, task.id, fence, "no prompt came with the assignment", now)
    renew = max(lease / BEATS_A_LEASE, MIN_RENEW_SECONDS) if foreign and lease > 0 else 0.0
    return _prepare(daemon, Job(work, fence, by, renew), again=False)


def _work(daemon: Daemon, given: Work | None, task: TaskRef, fence: int) -> Work:
    """What is to be done: the supervisor's word, completed by what the channel said of it.

    A foreign coordinator's task comes by chat alone, and its attempts are counted by its fence.
    """
    told = task.prompt or task.title
    if not told and task.component:
        told = f"Work on the component {task.component}."
    if given is None:
        return Work(
            task=task.id,
            attempt=fence,
            prompt=told,
            role=task.role or daemon.me.role,
            component=task.component,
            title=task.title,
        )
    return given if given.prompt else msgspec.structs.replace(given, prompt=told)


def _prepare(daemon: Daemon, job: Job, *, again: bool) -> Step:
    """Launch, or clone first; a clone under way, whosever, is waited for."""
    repo = job.work.repo
    if daemon.cloning:
        return replace(daemon, phase=Preparing(job, again)), ()
    job = replace(job, merged=None)
    complete = repo is None or (repo.clone == "shared" and not repo.merge)
    if repo is None or (daemon.hub == repo.hub and complete and not again):
        return replace(daemon, phase=Launching(job, again)), (Launch(job),)
    return _clone(replace(daemon, phase=Preparing(job, again)), repo, fresh=again)


def _clone(daemon: Daemon, repo: RepoWork, *, fresh: bool) -> Step:
    daemon = replace(daemon, cloning=repo.hub)
    merge = repo if repo.merge else None
    return daemon, (MakeClone(repo.hub, repo.clone, fresh, repo.start, merge),)


def _enough(repo: RepoWork, event: CloneMade | CloneFailed) -> bool:
    """Whether this clone's end is the one the job waits for, not one begun before it came."""
    if repo.hub != event.hub:
        return False
    if repo.merge:
        return isinstance(event, CloneFailed) or event.merged is not None
    return repo.clone == "shared" or event.start == repo.start


def cloned(daemon: Daemon, event: CloneMade | CloneFailed, now: float) -> Step:
    """A clone ended, wanted by a promotion or in advance."""
    made = isinstance(event, CloneMade)
    daemon = replace(daemon, cloning="", hub=event.hub if made else "")
    match daemon.phase:
        case Preparing(job=job, again=again):
            repo = job.work.repo
            if repo is not None and not _enough(repo, event):
                return _clone(daemon, repo, fresh=again)
            if repo is not None and isinstance(event, CloneFailed):
                reason = f"no clone could be made: {event.error}"
                return give_back(daemon, job.work.task, job.fence, reason, now, CLONE_RETRY_SECONDS)
            if isinstance(event, CloneMade):
                job = replace(job, merged=event.merged)
            return replace(daemon, phase=Launching(job, again)), (Launch(job),)
        case Idle() | Claiming() | Promoting():
            if isinstance(event, CloneFailed):
                trouble = Tell(Trouble(text=f"no clone could be made: {event.error}"))
                daemon = replace(daemon, clone_at=now + CLONE_RETRY_SECONDS, clone_failed=True)
                return daemon, (trouble, Note("clone_failed", event.error))
            effects: tuple[Effect, ...] = (Tell(Trouble(text="")),) if daemon.clone_failed else ()
            if not isinstance(daemon.phase, Promoting):
                effects += (Tell(IdleLine(warm=True)),)
            return replace(daemon, clone_failed=False), effects
        case _:
            return daemon, ()


# -- while it runs ---------------------------------------------------------------------------------


def session(daemon: Daemon, event: SessionNews, now: float) -> Step:
    """Something came from the session, or it is over."""
    match event:
        case SessionBegan():
            return _began(daemon, event, now)
        case LaunchFailed(reason, unprepared, ours):
            match daemon.phase:
                case Launching(job=job, again=again):
                    retry = unprepared and not again and job.work.repo is not None
                    return replace(daemon, phase=Failing(job, reason, retry, ours)), (Terminate(),)
                case _:
                    return daemon, ()
        case SessionSpoke() | SessionSpent() | SessionStuck():
            match daemon.phase:
                case Active() as active:
                    return _news(daemon, active, event, now)
                case _:
                    return daemon, ()
        case SessionOverLimit(reason):
            match daemon.phase:
                case Launching(job=job) | Active(job=job):
                    began = isinstance(daemon.phase, Active)
                    return _end(
                        daemon, job, Outcome.FAILED, reason, now, began=began, grace=0.0
                    )  # at once: it may be eating up what others need
                case _:
                    return daemon, ()
        case SessionOver():
            return _over(daemon, now)
        case Secured(finished):
            match daemon.phase:
                case Securing(job=job, swarm_budget=swarms):
                    if swarms and finished.outcome is Outcome.OVER_BUDGET:
                        finished = msgspec.structs.replace(finished, swarm_budget=True)
                    return _record(daemon, finished, job.work.title)
                case _:
                    return daemon, ()
        case _:
            assert_never(event)


def _began(daemon: Daemon, event: SessionBegan, now: float) -> Step:
    match daemon.phase:
        case Launching(job=job):
            renew_at = now + job.renew_seconds if job.renew_seconds else None
            daemon = replace(daemon, phase=Active(job, now, now, now, renew_at=renew_at))
        case Ending(job=job, began=False):
            daemon = replace(daemon, phase=replace(daemon.phase, began=True))
        case _:
            return daemon, ()
    task, fence = job.key
    started = Started(
        task=task,
        fence=fence,
        session_pid=event.session_pid,
        tree_pid=event.tree_pid,
        tree_start=event.tree_start,
        containment=event.containment,
        at=event.at,
        cgroup=event.cgroup,
    )
    said = Say(status(daemon.me.agent_id, task, fence, "started"))
    return daemon, (Tell(started), said, Note("started", f"{task} fence {fence}"))


def _news(
    daemon: Daemon, active: Active, event: SessionSpoke | SessionSpent | SessionStuck, now: float
) -> Step:
    task, fence = active.job.key
    match event:
        case SessionSpoke(text):
            due = bool(text) and now - active.said_at >= STATUS_SECONDS
            said_at = now if due else active.said_at
            active = replace(active, stuck_at=None, said_at=said_at, heard_at=now)
            said = Say(status(daemon.me.agent_id, task, fence, "working", text))
            return replace(daemon, phase=active), (said,) if due else ()
        case SessionStuck():
            if active.stuck_at is None:
                active = replace(active, stuck_at=now + STUCK_SECONDS)
            return replace(daemon, phase=active), ()
        case SessionSpent(usage, cost, session_id):
            if over := _over_budget(active.job.work, event):
                return _end(daemon, active.job, Outcome.OVER_BUDGET, over, now, began=True)
            line = Spent(task=task, fence=fence, usage=usage, cost_usd=cost, session_id=session_id)
            if active.spent_at is not None and now - active.spent_at < SPENT_SECONDS:
                return replace(daemon, phase=replace(active, unsaid=line, heard_at=now)), ()
            active = replace(active, spent_at=now, unsaid=None, heard_at=now)
            return replace(daemon, phase=active), (Tell(line),)
        case _:
            assert_never(event)


def _over_budget(work: Work, spent: SessionSpent) -> str:
    """Why the task's own budget is used up; empty while it is not.  Unknown cost is not zero."""
    tokens = (spent.usage.input_tokens or 0) + (spent.usage.output_tokens or 0)
    if work.token_budget is not None and tokens > work.token_budget:
        return f"the task's token budget is spent: {tokens} of {work.token_budget}"
    cost = spent.cost_usd
    if work.usd_budget is not None and cost is not None and cost > work.usd_budget:
        return f"the task's budget is spent: ${cost:.2f} of ${work.usd_budget:.2f}"
    return ""


def printed(daemon: Daemon, now: float) -> Daemon:
    """It printed something that is no news and no trouble: progress."""
    if isinstance(daemon.phase, Active):
        return replace(daemon, phase=replace(daemon.phase, heard_at=now))
    return daemon


def quiet(daemon: Daemon, now: float) -> float:
    """Seconds since the running session last printed something that is progress; 0 without one."""
    return now - daemon.phase.heard_at if isinstance(daemon.phase, Active) else 0.0


def active_deadline(daemon: Daemon, active: Active) -> float | None:
    """When a running session is over its time, stuck long enough, or has something to tell."""
    limit = daemon.tuning.max_task_seconds
    times = [active.since + limit] if limit > 0 else []
    if active.stuck_at is not None:
        times.append(active.stuck_at)
    if active.unsaid is not None:
        times.append(_say_at(active.spent_at))
    if active.renew_at is not None:
        times.append(active.renew_at)
    return min(times, default=None)


def _say_at(spent_at: float | None) -> float:
    return (spent_at or 0.0) + SPENT_SECONDS


def expire(daemon: Daemon, now: float) -> Step:
    """A deadline of an attempt's phase has passed."""
    match daemon.phase:
        case Active(unsaid=Spent() as line, spent_at=at) as active if now >= _say_at(at):
            return replace(daemon, phase=replace(active, spent_at=now, unsaid=None)), (Tell(line),)
        case Active(job=job, renew_at=at) as active if at is not None and now >= at:
            beat = Heartbeat(
                agentId=daemon.me.agent_id, task=TaskRef(id=job.work.task), fence=job.fence
            )
            phase = replace(active, renew_at=now + job.renew_seconds)
            return replace(daemon, phase=phase), (Say(beat),)
        case Active(job=job, stuck_at=stuck_at):
            if stuck_at is not None and now >= stuck_at:
                reason = "the provider's quota is used up"
                return _end(daemon, job, Outcome.QUOTA, reason, now, began=True)
            minutes = daemon.tuning.max_task_seconds / 60
            reason = f"ran longer than limits.max_task_minutes: {minutes:g}"
            return _end(daemon, job, Outcome.TIMED_OUT, reason, now, began=True)
        case Ending() as ending:
            again = replace(ending, kill_at=now + KILL_AGAIN_SECONDS)
            return replace(daemon, phase=again), (Kill(),)
        case Recording(finished=finished, title=title) as recording:
            daemon = replace(daemon, phase=replace(recording, retry_at=None))
            return daemon, (Record(Reported(finished), title),)
        case _:
            return daemon, ()


# -- its end ---------------------------------------------------------------------------------------


def _end(
    daemon: Daemon,
    job: Job,
    outcome: Outcome,
    reason: str,
    now: float,
    *,
    began: bool,
    grace: float | None = None,
    swarm_budget: bool = False,
) -> Step:
    """TERM now, KILL after the grace."""
    seconds = daemon.tuning.grace_seconds if grace is None else grace
    kill_at = now + max(0.0, seconds)
    phase = Ending(job, outcome, reason[:MAX_REASON], kill_at, began, swarm_budget)
    note = Note("ending", f"{job.work.task} fence {job.fence}: {outcome}: {reason}")
    effects: tuple[Effect, ...] = (Terminate(), note)
    if seconds <= 0:
        phase = replace(phase, kill_at=now + KILL_AGAIN_SECONDS)
        effects = (Kill(), note)
    return replace(daemon, phase=phase), effects


def end_session(daemon: Daemon, line: EndSession, now: float) -> Step:
    """The supervisor ends this session: cancelled, stalled, over budget, revoked."""
    key = (line.task, line.fence)
    swarms = line.outcome is Outcome.OVER_BUDGET  # the task's own is minded here
    finished = Finished(*key, line.outcome, line.reason, swarm_budget=swarms)
    match daemon.phase:
        case Promoting(task=task, fence=fence) if (task.id, fence) == key:
            return _unbegun(daemon, finished, task.title, now)
        case Preparing(job=job) | Failing(job=job) if job.key == key:
            if isinstance(daemon.phase, Failing):
                kill_at = now + KILL_AGAIN_SECONDS
                ending = Ending(job, line.outcome, line.reason, kill_at, False, swarms)
                return replace(daemon, phase=ending), (Terminate(),)
            return _unbegun(daemon, finished, job.work.title, now)
        case Launching(job=job) | Active(job=job) if job.key == key:
            began = isinstance(daemon.phase, Active)
            return _end(
                daemon,
                job,
                line.outcome,
                line.reason,
                now,
                began=began,
                grace=line.grace_seconds,
                swarm_budget=swarms,
            )
        case Ending(job=job) as ending if job.key == key:
            return _sooner(daemon, ending, now, line.grace_seconds)
        case _:
            return daemon, ()


def leave(daemon: Daemon, line: Leave, now: float) -> Step:
    """The process goes away; the work's state is picked up by others."""
    patient = daemon.leave is not None and not daemon.leave.drain and line.drain
    daemon = daemon if patient else replace(daemon, leave=line)
    match daemon.phase:
        case Starting(recovering=False) | Idle() | Claiming():
            return go_away(daemon, now)
        case Promoting(task=task, fence=fence):
            return give_back(daemon, task.id, fence, LEAVING_REASON, now)
        case Preparing(job=job):
            return give_back(daemon, job.work.task, job.fence, LEAVING_REASON, now)
        case Launching(job=job) | Active(job=job) if not line.drain:
            began = isinstance(daemon.phase, Active)
            return _end(
                daemon,
                job,
                Outcome.LOST,
                LEAVING_REASON,
                now,
                began=began,
                grace=line.grace_seconds,
            )
        case Ending() as ending if not line.drain:
            return _sooner(daemon, ending, now, line.grace_seconds)
        case _:
            return daemon, ()


def _sooner(daemon: Daemon, ending: Ending, now: float, grace: float) -> Step:
    """A second wish to end it can only shorten the grace."""
    if grace <= 0:
        again = replace(ending, kill_at=now + KILL_AGAIN_SECONDS)
        return replace(daemon, phase=again), (Kill(),)
    return replace(daemon, phase=replace(ending, kill_at=min(ending.kill_at, now + grace))), ()


def _over(daemon: Daemon, now: float) -> Step:
    """The tree is empty."""
    match daemon.phase:
        case Active(job=job):
            return replace(daemon, phase=Securing(job)), (Secure(job, None, ""),)
        case Launching(job=job):
            reason = "the session's tree was gone before its program started"
            return _record(daemon, Finished(*job.key, Outcome.LOST, reason), job.work.title)
        case Ending(job=job, outcome=outcome, reason=reason, began=True, swarm_budget=swarms):
            return replace(daemon, phase=Securing(job, swarms)), (Secure(job, outcome, reason),)
        case Ending(job=job, outcome=outcome, reason=reason, swarm_budget=swarms):
            finished = Finished(*job.key, outcome, reason, swarm_budget=swarms)
            return _unbegun(daemon, finished, job.work.title, now)
        case Failing(job=job, retry=True) if daemon.leave is None:
            return _prepare(daemon, job, again=True)
        case Failing(job=job, reason=reason, ours=True):
            return give_back(daemon, *job.key, reason, now, CLONE_RETRY_SECONDS)
        case Failing(job=job, retry=True):
            return give_back(daemon, job.work.task, job.fence, LEAVING_REASON, now)
        case Failing(job=job, reason=reason):
            finished = Finished(*job.key, Outcome.FAILED, reason[:MAX_REASON])
            return _record(daemon, finished, job.work.title)
        case _:
            return daemon, ()


def _unbegun(daemon: Daemon, finished: Finished, title: str, now: float) -> Step:
    """Ended before its program ran: given back when that was not for the task, else reported."""
    if finished.outcome is Outcome.LOST or finished.swarm_budget:
        return give_back(daemon, finished.task, finished.fence, finished.reason, now)
    return _record(daemon, finished, title)


def _record(daemon: Daemon, finished: Finished, title: str) -> Step:
    """Write the report down before anybody hears of it."""
    daemon = replace(daemon, phase=Recording(finished, title))
    return daemon, (Record(Reported(finished), title),)


def recorded(daemon: Daemon, event: Recorded | RecordFailed, now: float) -> Step:
    """The disk took the entry, or not."""
    match daemon.phase:
        case Recording(finished=finished) as recording if event.key == (
            finished.task,
            finished.fence,
        ):
            if isinstance(event, RecordFailed):
                trouble = f"the report of {finished.task} cannot be written: {event.error}"
                retry = replace(recording, retry_at=now + RETRY_DISK_SECONDS, troubled=True)
                return replace(daemon, phase=retry), (Tell(Trouble(text=trouble)),)
            effects: tuple[Effect, ...] = (
                Tell(Ended(finished=finished)),
                Say(report(finished, daemon.me.agent_id)),
                Note("ended", f"{finished.task} fence {finished.fence}: {finished.outcome}"),
            )
            if recording.troubled:
                effects = (Tell(Trouble(text="")), *effects)
            daemon, more = rest(owe(daemon, Reported(finished), now), now)
            return daemon, effects + more
        case _ if isinstance(event, RecordFailed):
            return daemon, (Note("not_recorded", event.error),)
        case _:
            return daemon, ()
