"""The ledger: tasks, attempts, dependencies, leases, usage and pauses behind one interface.

One SQLite file today (:mod:`swarm.ledger.sqlite`); whatever takes its place must pass the
contract tests written against :class:`swarm.ledger.interface.Ledger`.
"""

from swarm.ledger.interface import (
    Attempt,
    Claimed,
    Event,
    Holder,
    Ledger,
    NewTask,
    Pause,
    Settlement,
    Task,
    Totals,
    Verdict,
)
from swarm.ledger.plan_records import (
    AppliedPlan,
    Changes,
    NewPlan,
    Plan,
    PlannedTask,
    PlanState,
)
from swarm.ledger.shown import list_json, show_json
from swarm.ledger.sqlite import SqliteLedger, open_ledger

__all__ = [
    "AppliedPlan",
    "Attempt",
    "Changes",
    "Claimed",
    "Event",
    "Holder",
    "Ledger",
    "NewPlan",
    "NewTask",
    "Pause",
    "Plan",
    "PlanState",
    "PlannedTask",
    "Settlement",
    "SqliteLedger",
    "Task",
    "Totals",
    "Verdict",
    "list_json",
    "open_ledger",
    "show_json",
]
