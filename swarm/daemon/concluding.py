"""What a session came to: its work brought into the hub, and its report made from evidence."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from swarm.core.model import Outcome
from swarm.daemon.reporting import MAX_REASON
from swarm.daemon.resting import rest
from swarm.daemon.state import Job
from swarm.sandbox.launch import Confinement
from swarm.sandbox.trees import marker
from swarm.sessions.model import Summary
from swarm.sessions.outcome import Evidence, decide
from swarm.sessions.prompt import QUESTION_FILE
from swarm.spawner.author import git_identity
from swarm.spawner.homecoming import bring_home
from swarm.spawner.hub import count_commits
from swarm.spawner.refs import beneath
from swarm.spawner.workspace import Workspace
from swarm.wire.lifeline import Finished, RepoWork

MAX_QUESTION = 4000
"""Characters of ``needs_human.md`` that are read."""


class Home(msgspec.Struct, frozen=True, omit_defaults=True):
    """What of the work is in the hub, as a helper process tells the daemon."""

    commit: str | None = None
    commits: int = 0
    saved: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Witnessed:
    """What was seen of a session, from its launch to its end."""

    summary: Summary
    exit_status: int | None
    tells_result: bool
    failure: str = ""
    question: str = ""


_encoder = msgspec.json.Encoder()


def secure(
    workspace: Workspace,
    agent: str,
    home_id: str,
    key: tuple[str, int],
    repo: RepoWork,
    confinement: Confinement,
    *,
    holder: bool = False,
) -> bytes:
    """Bring the work of attempt ``key`` into the hub; for a helper process, as git blocks.

    ``holder``: it held the task to its end, see :func:`~swarm.spawner.homecoming.bring_home`.
    Returns a :class:`Home` as JSON.  Raises :class:`~swarm.errors.SwarmError`.
    """
    task, fence = key
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
        holder=holder,
    )
    if not came.problem and not came.saved:
        rest(workspace, repo.hub, repo.clone, repo.base, confinement)
    count = count_commits(repo.hub, repo.base, came.commit) if came.commit is not None else 0
    return _encoder.encode(Home(came.commit, count, came.saved, came.problem))


def read_home(data: bytes) -> Home:
    """What :func:`secure` said.  Raises ``msgspec.MsgspecError``."""
    return msgspec.json.decode(data, type=Home)


def read_question(workspace: Workspace, task: str) -> str:
    """The question a session left for a person; empty when there is none.

    The folder is the session's: no link is followed, nothing but a plain file is read.
    """
    folder = workspace.out(task)
    top, name = os.path.split(folder)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with suppress(OSError), beneath(top, name) as out:
        fd = os.open(QUESTION_FILE, flags, dir_fd=out)
        with open(fd, "rb") as file:
            return file.read(4 * MAX_QUESTION).decode("utf-8", "replace")[:MAX_QUESTION].strip()
    return ""


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
    why = verdict.reason
    if home.problem:
        why = "; ".join(part for part in (why, f"not all is in the hub: {home.problem}") if part)
    if home.saved:
        why = "; ".join(part for part in (why, f"saved as {', '.join(home.saved)}") if part)
    outcome = verdict.outcome
    if home.problem and not home.commits and outcome is Outcome.SUCCEEDED:
        outcome = Outcome.FAILED  # work that nobody can get at is not done
    summary = seen.summary
    return Finished(
        task=job.work.task,
        fence=job.fence,
        outcome=outcome,
        reason=why[:MAX_REASON],
        result=verdict.result,
        exit_status=seen.exit_status,
        session_id="" if verdict.session_gone else summary.session_id,
        usage=summary.usage,
        cost_usd=summary.cost_usd,
        branch=job.work.repo.branch if job.work.repo is not None and home.commit else None,
        commit=home.commit,
        commits=home.commits,
        retry_at=verdict.retry_at,
        needs_human=verdict.needs_human,
    )
