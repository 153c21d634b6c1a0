"""A plan for people: what would run in which order, and what deserves a second look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from swarm.cli.screen import one_line, show_table
from swarm.cli.settings import settings_or_defaults
from swarm.config.places import Places
from swarm.config.roles import load_role
from swarm.errors import SwarmError
from swarm.ledger import Ledger, Plan, Task
from swarm.plans.model import PlanTask
from swarm.plans.order import conflicts, waves
from swarm.plans.reading import read_plan

AFTER = 30
"""Characters of what a task waits for, in a table."""


def show_order(tasks: Sequence[PlanTask], states: Mapping[str, str] | None = None) -> int:
    """Print the tasks by waves; how many waves there are.  ``states``: key → state."""
    found = waves(tasks)
    columns = ["WAVE", "KEY", "ROLE", "PRIO", "AFTER", "TITLE"]
    rows = []
    for number, wave in enumerate(found, 1):
        for task in wave:
            after = [*task.after, *(ref for ref, _ in task.outside)]
            row = [str(number), task.key, task.role, str(task.priority), _some(after), _title(task)]
            rows.append(row)
    if states is not None:
        columns.insert(2, "STATE")
        for row in rows:
            row.insert(2, states.get(row[1], ""))
    show_table(columns, rows, state=2 if states is not None else -1)
    return len(found)


def warnings(places: Places, tasks: Sequence[PlanTask]) -> list[str]:
    """What may go otherwise than meant, one line each."""
    found, count = conflicts(tasks)
    lines = [
        f"{one.one} and {one.other} are both about {one.path} and may run at the same time;"
        f" 'after: {one.one}' in {one.other} would order them"
        for one in found
    ]
    if count > len(found):
        lines.append(f"{count - len(found)} more pairs of tasks are about the same file")
    taken = _taken_roles(places)
    roles = dict.fromkeys(task.role for task in tasks)
    missing = [role for role in roles if taken is not None and role not in taken]
    lines += [
        f"no agent of swarm.yaml takes role {role}: 'agentctl swarm scale {role}=1' adds one"
        for role in missing
    ]
    return lines


def at_once(places: Places) -> int:
    """How many sessions may run at the same time, as the configuration has it."""
    settings = settings_or_defaults(places)
    return min(settings.limits.max_active, sum(entry.count for entry in settings.agents))


def remaining(ledger: Ledger, plan: Plan) -> tuple[list[PlanTask], dict[str, str]]:
    """What of a plan in the ledger has not ended, and its states by key."""
    live = [task for task in ledger.plan_tasks(plan.id) if not _over(task)]
    keys = {task.id: task.plan_key for task in live}
    needs = ledger.plan_needs(plan.id)
    written = read_plan(ledger.plan_source(plan.id), _form(ledger.plan_source(plan.id)))
    files = {task.key: task.files for task in written.plan.tasks} if written.plan else {}
    waits = {task.id: {one.id for one in ledger.waits_for(task.id)} for task in live}
    tasks = [
        PlanTask(
            key=task.plan_key,
            text=task.title,
            line=0,
            role=task.role,
            priority=task.priority,
            after=tuple(keys[one] for one in needs.get(task.id, ()) if one in keys),
            outside=tuple(
                (one, 0)
                for one in needs.get(task.id, ())
                if one not in keys and one in waits[task.id]
            ),
            files=files.get(task.plan_key, ()),
        )
        for task in live
    ]
    return tasks, {task.plan_key: str(task.state) for task in live}


def _over(task: Task) -> bool:
    return str(task.state) in ("done", "failed", "cancelled", "skipped")


def _form(source: str) -> str:
    """A name that says which form a kept text is of: the two begin differently."""
    first = next((line for line in source.splitlines() if line.strip()), "")
    markdown = first.startswith(("# ", "## ", "- [", "* [", "+ [", "<!--"))
    return "plan.md" if markdown else "plan.yaml"


def _some(names: Sequence[str]) -> str:
    return one_line(", ".join(names), AFTER) if names else "-"


def _title(task: PlanTask) -> str:
    first = next((line for line in task.text.splitlines() if line.strip()), "")
    return one_line(task.title or first.lstrip("# "), 60)


def _taken_roles(places: Places) -> set[str] | None:
    """Roles whose tasks the configured agents take; ``None`` where that cannot be read."""
    taken: set[str] = set()
    try:
        for entry in settings_or_defaults(places).agents:
            if entry.count:
                taken |= {entry.role, *load_role(entry.role, places.roles).takes}
    except SwarmError:
        return None
    return taken
