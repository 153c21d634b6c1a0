"""What a session came to: its work brought into the hub, and its report made from evidence."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from swarm.core.model import Outcome, TaskKind
from swarm.daemon.reporting import MAX_REASON
from swarm.daemon.resting import rest
from swarm.daemon.state import Job
from swarm.errors import SwarmError
from swarm.sandbox.launch import Confinement
from swarm.sandbox.trees import marker
from swarm.sessions.model import Summary
from swarm.sessions.outcome import Evidence, decide
from swarm.sessions.prompt import ANSWER_FILES, QUESTION_FILE
from swarm.spawner.author import git_identity
from swarm.spawner.clone_merge import Handed, Merged
from swarm.spawner.homecoming import bring_home
from swarm.spawner.hub import count_commits
from swarm.spawner.refs import read_ref
from swarm.spawner.results import keep_results, plain_file
from swarm.spawner.workspace import Workspace
from swarm.wire.lifeline import Finished, RepoWork

MAX_QUESTION = 4000
"""Characters of ``needs_human.md`` that are read."""
MAX_ANSWER = 60_000
"""Characters of ``review.json`` or ``plan.yaml`` that are read (``wire.lifeline.Finished``)."""
MAX_NAMED = 5
"""Files in conflict that a reason names."""
MAX_UNRESOLVED, MAX_NAME = 50, 200
"""Files in conflict that a report names, and characters of each (``wire.lifeline.Finished``)."""


class Home(msgspec.Struct, frozen=True, omit_defaults=True):
    """What of the work is in the hub, as a helper process tells the daemon."""

    commit: str | None = None
    commits: int = 0
    saved: tuple[str, ...] = ()
    problem: str = ""
    unresolved: tuple[str, ...] = ()
    """Files in which a conflict, or its markers, were left."""
    note: str = ""
    """What of its results could not be kept."""
    aside: str | None = None
    """The commit beside the branch that has what was made of those files."""


@dataclass(frozen=True, slots=True)
class Left:
    """What an attempt may have left to bring home."""

    key: tuple[str, int]
    attempt: int = 0
    repo: RepoWork | None = None
    folder: str = ""
    """The task's own directory; empty: its results stay in the workspace."""
    merged: Merged | None = None
    holder: bool = False
    """It held the task to its end, see :func:`~swarm.spawner.homecoming.bring_home`."""


@dataclass(frozen=True, slots=True)
class Witnessed:
    """What was seen of a session, from its launch to its end."""

    summary: Summary
    exit_status: int | None
    tells_result: bool
    failure: str = ""
    question: str = ""
    answer: str = ""
    """What a review or a planner left."""


_encoder = msgspec.json.Encoder()


def secure(
    workspace: Workspace, agent: str, home_id: str, left: Left, confinement: Confinement
) -> bytes:
    """Bring what an attempt left home; for a helper process, as git and copying block.

    Its results go to the task's folder, its work into the hub.  Returns a :class:`Home` as JSON.
    Raises :class:`~swarm.errors.SwarmError`.
    """
    (task, fence), repo = left.key, left.repo
    note = ""
    if left.folder:
        try:
            note = keep_results(workspace.out(task), left.folder, left.attempt)
        except SwarmError as error:
            note = str(error)  # they are still in the workspace
    if repo is None:
        return _encoder.encode(Home(note=note))
    came = bring_home(
        workspace,
        hub=repo.hub,
        branch=repo.branch,
        start=repo.start,
        agent=agent,
        task=task,
        fence=fence,
        identity=git_identity(repo.author_name, repo.author_email, agent),
        confinement=Confinement(
            confinement.containment, confinement.landlock, marker(home_id, task, fence)
        ),
        holder=left.holder,
        handed=_handed(repo, left.merged),
    )
    if not came.problem and not came.saved:
        rest(workspace, repo.hub, repo.clone, repo.base, confinement)
    count = count_commits(repo.hub, repo.base, came.commit) if came.commit is not None else 0
    aside = read_ref(repo.hub, came.saved[-1]) if came.unresolved and came.saved else None
    return _encoder.encode(
        Home(came.commit, count, came.saved, came.problem, came.unresolved, note, aside)
    )


def _handed(repo: RepoWork, merged: Merged | None) -> Handed | None:
    """What the session was given in conflict, where we know it ourselves."""
    if merged is None or not merged.conflicts:
        return None
    return Handed((repo.start, repo.merge), merged.conflicts)


def read_home(data: bytes) -> Home:
    """What :func:`secure` said.  Raises ``msgspec.MsgspecError``."""
    return msgspec.json.decode(data, type=Home)


def read_question(workspace: Workspace, task: str) -> str:
    """The question a session left for a person; empty when there is none."""
    return plain_file(workspace.out(task), QUESTION_FILE, MAX_QUESTION)


def read_answer(workspace: Workspace, task: str, kind: TaskKind) -> str:
    """The verdict or the plan a session left; empty when there is none, or none is asked for.

    Control characters are made spaces: JSON would write each with six, and a report that is too
    long for the channel would never be settled.
    """
    name = ANSWER_FILES.get(kind)
    text = plain_file(workspace.out(task), name, MAX_ANSWER) if name is not None else ""
    return "".join(c if c.isprintable() or c in "\n\t" else " " for c in text)


def conclude(
    job: Job,
    seen: Witnessed,
    home: Home,
    ended_by: Outcome | None,
    reason: str,
    *,
    now: float,
    utc_offset: float,
) -> Finished:
    """The report of an attempt.  ``now`` is Unix seconds, ``utc_offset`` the local zone's."""
    verdict = decide(
        Evidence(
            summary=seen.summary,
            exit_status=seen.exit_status,
            tells_result=seen.tells_result,
            could_not_start=seen.failure,
            question=seen.question,
            ended_by=ended_by,
            end_reason=reason,
            commits=home.commits,
            resumed=job.work.resume_session is not None,
        ),
        now,
        utc_offset,
    )
    outcome = verdict.outcome
    stands = job.work.repo is not None and home.commit == job.work.repo.start
    if home.problem and (stands or not home.commits) and outcome is Outcome.SUCCEEDED:
        outcome = Outcome.FAILED  # work that nobody can get at is not done
    left = home.unresolved if outcome is Outcome.SUCCEEDED and not verdict.needs_human else ()
    if left:
        outcome = Outcome.FAILED  # whatever it says: it cannot be built on
    summary, repo = seen.summary, job.work.repo
    start = repo.start if repo is not None else None
    return Finished(
        task=job.work.task,
        fence=job.fence,
        outcome=outcome,
        reason=_reason(verdict.reason, home)[:MAX_REASON],
        result=verdict.result,
        exit_status=seen.exit_status,
        session_id="" if verdict.session_gone else summary.session_id,
        usage=summary.usage,
        cost_usd=summary.cost_usd,
        branch=repo.branch if repo is not None and home.commit else None,
        commit=home.commit,
        commits=home.commits,
        retry_at=verdict.retry_at,
        needs_human=verdict.needs_human,
        start=job.merged.start if job.merged is not None else start,
        review=seen.answer,
        unresolved=tuple(_printable(name) for name in left[:MAX_UNRESOLVED]),
        aside=home.aside if left else None,
    )


def _printable(name: str) -> str:
    """A file's name in a report: as long as it may be, and no longer in JSON."""
    return "".join(c if c.isprintable() else "?" for c in name[:MAX_NAME])


def _reason(why: str, home: Home) -> str:
    """The verdict's own reason, and what became of the work where that must be known."""
    parts = [why]
    if home.unresolved:
        names = ", ".join(home.unresolved[:MAX_NAMED])
        more = len(home.unresolved) - MAX_NAMED
        parts.append(f"conflicts are left in {names}" + (f" and {more} more" if more > 0 else ""))
    if home.problem:
        parts.append(f"not all is in the hub: {home.problem}")
    if home.saved:
        parts.append(f"saved as {', '.join(home.saved)}")
    return "; ".join(part for part in (*parts, home.note) if part)
