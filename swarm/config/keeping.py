"""What ``keep`` in swarm.yaml means, in seconds and bytes."""

from __future__ import annotations

from swarm.config.settings import Keep
from swarm.core.keep import DAY, Lifetimes


def lifetimes(settings: Keep, older_than: float | None = None) -> Lifetimes:
    """What ``keep`` means; ``older_than`` days take the place of all its days."""

    def seconds(days: float) -> float | None:
        if older_than is not None:
            return older_than * DAY
        return days * DAY if days else None

    return Lifetimes(
        workspaces=seconds(settings.workspaces_days),
        branches=seconds(settings.branches_days),
        logs=seconds(settings.logs_days),
        log_bytes=settings.logs_mb << 20 if settings.logs_mb else None,
        folders=seconds(settings.tasks_days),
    )
