"""An attempt's work, as the daemon that runs it is told: pure."""

from __future__ import annotations

import msgspec

from swarm.coordinator.reviews import span
from swarm.core.budget import Amount
from swarm.core.model import TaskKind
from swarm.ledger.interface import Claimed
from swarm.wire.lifeline import RepoWork, Work


def work_of(claimed: Claimed, repo: RepoWork, left: Amount) -> Work:
    """What the holder of a lease just given has to do; ``left`` of its budget may be spent."""
    task, prompt = claimed.task, claimed.prompt
    if task.kind is TaskKind.REVIEW and task.about_commit is not None:
        prompt = f"{prompt}\n\n{span(repo.base, task.about_commit)}"
    return Work(
        task=task.id,
        attempt=claimed.attempt,
        prompt=prompt,
        role=task.role,
        component=task.component,
        title=task.title,
        repo=starting_at(claimed, repo),
        resume_session=claimed.resume_session,
        earlier=claimed.earlier,
        token_budget=left.tokens,
        usd_budget=left.usd,
        kind=task.kind,
        feedback=claimed.feedback,
        folder=task.folder,
        thread=claimed.thread,
    )


def starting_at(claimed: Claimed, repo: RepoWork) -> RepoWork:
    """Where it starts: a review at the commit it judges, what came back on the target of now.

    A task that was sent back has the target merged into its branch before its session starts, so
    that it is never worked on against a base that nothing can land on.
    """
    task = claimed.task
    if task.kind is TaskKind.REVIEW and task.about_commit is not None:
        return msgspec.structs.replace(repo, start=task.about_commit)
    if task.go_on and task.tip is not None:
        return msgspec.structs.replace(repo, merge=repo.base)
    return repo
