"""How a command line names a plan, or a task of one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from swarm.cli.control import here
from swarm.errors import SwarmError, UsageError

if TYPE_CHECKING:
    from swarm.ledger import Ledger

    _Text = click.ParamType[str]
else:  # click before 8.2 has no type parameter here
    _Text = click.ParamType


class PlanName(_Text):
    """A plan's id or the beginning of one."""

    name = "PLAN"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        """The newest plans of the ledger."""
        return [
            CompletionItem(plan, help=title)
            for plan, title in known_plans()
            if plan.startswith(incomplete)
        ]


def known_plans() -> list[tuple[str, str]]:
    """Ids and titles of the newest plans."""
    if not os.path.exists(here().ledger):
        return []
    from swarm.ledger import open_ledger

    try:
        with open_ledger(here().ledger) as ledger:
            return [(plan.id, plan.title) for plan in ledger.plans(100)]
    except (SwarmError, OSError):
        return []


def task_named(ledger: Ledger, name: str, plan: str = "") -> str:
    """Id of the task that ``name`` means: a key of ``plan``, ``p-ID/key``, or a task's id.

    Raises :class:`UsageError` where there is none.
    """
    if plan and (found := ledger.plan_task(plan, name)):
        return found
    where, slash, key = name.partition("/")
    if not slash:
        return ledger.find(name).id
    other = ledger.find_plan(where).id
    found = ledger.plan_task(other, key)
    if found is None:
        raise UsageError(
            f"no task of {other} is called {' '.join(key.split())[:40]!r}",
            f"see 'agentctl plan status {other}'",
        )
    return found
