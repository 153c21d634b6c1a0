"""What becomes of a task's good work: its own word, else its role's, else the repository's."""

from __future__ import annotations

from collections.abc import Mapping

from swarm.core.model import Merge, Review, TaskKind
from swarm.ledger.records import Task, Way
from swarm.wire.lifeline import LandingRules, RoleRules


def way_of(task: Task, landing: LandingRules, roles: Mapping[str, RoleRules]) -> Way:
    """The way of ``task`` under these rules; ``""`` in ``roles`` is any role that is not named.

    What judges or plans has no work that could land.
    """
    role = roles.get(task.role) or roles.get("", RoleRules())
    works = task.kind is TaskKind.WORK
    return Way(
        review=(task.review or role.review or landing.review) if works else Review.NONE,
        merge=(task.merge or landing.merge) if works else Merge.NONE,
        max_revisions=landing.max_revisions,
        retries=role.retries,
        retry_seconds=role.retry_seconds,
    )
