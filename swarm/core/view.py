"""The journal for people: each entry in words, and the story of one agent.

Entries come as read from the journal's JSON lines, oldest first; lines of unknown kinds and
damaged ones are skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from swarm.core import journal as j
from swarm.core.life import describe_status

Line = Mapping[str, object]


def story(lines: Iterable[Line], child: str) -> Iterator[str]:
    """What happened to ``child``, one line each: ``<ts>  <what>``.

    What happened to the whole swarm is told too from the child's first entry on, as it explains
    the rest (a stop, a pause, a killed supervisor).
    """
    begun = False
    for ts, entry in _entries(lines):
        about = getattr(entry, "child", "")
        if about not in ("", child):
            continue
        begun = begun or about == child
        if begun and (text := tell(entry)):
            yield f"{ts}  {text}"


def tell(entry: j.Entry) -> str:
    """One entry in words, without its time and its child's name."""
    match entry:
        case j.ChildSpawned(pid=pid):
            return f"spawned (pid {pid})"
        case j.ChildReady():
            return "ready"
        case j.ChildUnresponsive(reason=reason):
            return f"unresponsive: {reason}"
        case j.ChildExited(status=status, asked=True):
            return f"exited as asked ({describe_status(status)})"
        case j.ChildExited(status=status, reason=reason):
            return reason or f"crashed, {describe_status(status)}"
        case j.ChildForgiven(reason=reason):
            return reason
        case j.ChildBackoff(seconds=seconds):
            return f"restarts in {seconds:.3g} s" if seconds > 0 else "restarts at once"
        case j.ChildDegraded(reason=reason):
            return f"degraded: {reason}; `agentctl agent restart {entry.child}` brings it back"
        case j.ChildStopped(reason=reason):
            return _with("stopped", reason)
        case j.RestartAsked():
            return "restart asked for"
        case _:
            return _tell_work(entry)


def _tell_work(entry: j.Entry) -> str:
    match entry:
        case j.Promoted(task=task):
            return f"promoted for {task}"
        case j.PromotionDenied(task=task, reason=reason):
            return f"promotion for {task} denied: {reason}"
        case j.SessionStarted(task=task, attempt=attempt, pid=pid):
            nth = f", attempt {attempt}" if attempt else ""
            return f"session for {task} started{nth} (pid {pid})"
        case j.SessionEnded(task=task, outcome=outcome, reason=reason, commits=commits):
            made = f", {commits} commit{'s' * (commits != 1)} on {entry.branch}" if commits else ""
            return _with(f"session for {task} ended: {outcome}{made}", reason)
        case j.SessionKillAsked(task=task, reason=reason):
            return _with(f"session for {task} told to end", reason)
        case j.TaskLost(task=task, reason=reason):
            return _with(f"lost {task}, which is queued again", reason)
        case j.TaskReported(task=task, outcome=outcome):
            return f"its report for {task} was found on disk: {outcome}"
        case j.WorkspaceAdopted():
            return "its workspace was taken over from an earlier run"
        case j.WorkspaceRemoved(saved=saved):
            return _with(
                "its workspace was removed", f"work saved to {', '.join(saved)}" * bool(saved)
            )
        case j.WorkspaceKept(reason=reason):
            return f"its workspace was kept: {reason}"
        case _:
            return _tell_swarm(entry)


def _tell_swarm(entry: j.Entry) -> str:
    match entry:
        case j.SwarmStarted(pid=pid):
            return f"the swarm started (supervisor pid {pid})"
        case j.SwarmStopped(reason=reason):
            return _with("the swarm stopped", reason)
        case j.StopAsked(how=how):
            return f"the swarm was told to stop ({how})"
        case j.Scaled(before=before, after=after):
            return f"scaled from {_fleet(before)} to {_fleet(after)}"
        case j.Paused(reason=reason):
            return _with("promotions paused", reason)
        case j.Resumed():
            return "promotions resumed"
        case j.QuotaHit() | j.QuotaProbed() | j.QuotaLifted():
            return _tell_quota(entry)
        case j.Reloaded(changes=changes):
            return _with("configuration reloaded", ", ".join(changes))
        case j.ReloadRefused():
            return "configuration is bad, the old one stays in force"
        case j.ZygoteDied():
            return "the zygote died and was started again"
        case j.Upgraded(before=before, after=after):
            return f"the supervisor was upgraded: {before} → {after}"
        case j.UpgradeRefused(reason=reason):
            return _with("an upgrade of the supervisor was refused", reason)
        case _:
            return _tell_money(entry)


def _tell_money(entry: j.Entry) -> str:
    match entry:
        case j.BudgetNear(text=text) | j.BudgetSpent(text=text) | j.BudgetOpen(text=text):
            return text
        case j.DiskLow(reason=reason):
            return f"the disk runs low: {reason}"
        case j.CleanedUp(freed_mb=freed, saved=saved, problem=problem):
            kept = f", commits kept as {', '.join(saved)}" if saved else ""
            return _with(f"cleaned up: {freed} MB removed{kept}", problem)
        case _:
            return ""


def _tell_quota(entry: j.QuotaHit | j.QuotaProbed | j.QuotaLifted) -> str:
    who = entry.runtime or "every runtime"
    match entry:
        case j.QuotaHit(reason=reason):
            return _with(f"quota: {who} is parked", reason)
        case j.QuotaProbed(outcome=outcome):
            return _with(f"probed the quota of {who}", outcome)
        case j.QuotaLifted(reason=reason):
            return _with(f"quota: {who} goes on", reason)


def _with(text: str, more: str) -> str:
    return f"{text}: {' '.join(more.split())}" if more else text


def _fleet(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{role}={count}" for role, count in counts.items()) or "nothing"


def _entries(lines: Iterable[Line]) -> Iterator[tuple[str, j.Entry]]:
    for line in lines:
        entry = j.read(line)
        if entry is not None:
            yield str(line.get("ts", "")), entry
