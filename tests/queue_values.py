"""Queues in tests, asked for by the roles they are for."""

from __future__ import annotations

from collections.abc import Collection

from swarm.ledger import Ledger, Task


def ready(ledger: Ledger, roles: Collection[str], limit: int, component: str = "") -> list[Task]:
    """What waits of these roles, whatever lane and labels."""
    queues = [queue.id for queue in ledger.waiting_queues() if queue.role in roles]
    return ledger.ready(queues, limit, component)
