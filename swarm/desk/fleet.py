"""How the fleet is: the supervisor's facts and the ledger's, as one object."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from swarm.config.places import Places
from swarm.core.model import AgentState
from swarm.desk.control import ask
from swarm.desk.replies import FleetStatus
from swarm.errors import LedgerError, NotRunning
from swarm.wire import control

if TYPE_CHECKING:
    from swarm.ledger import Ledger, Totals

PATIENCE = 5.0
"""Seconds a supervisor may take to answer a look: it does so between two events."""
MAX_ATTENTION = 20
"""Questions and reviews, and landings, that are listed; the others are counted."""
_ANSWERED_BY = {"needs_human": "answer {} TEXT", "review": "approve {}"}
NO_USAGE = {"input_tokens": None, "output_tokens": None, "cost_usd": None}


def gather(places: Places) -> dict[str, Any]:
    """The whole status object (product, "Commands").

    Raises :class:`~swarm.errors.NotRunning` without a swarm, and
    :class:`~swarm.desk.control.Hung` for one that does not answer.  A ledger that cannot be read
    leaves its parts unknown, with ``ledger_error`` beside them: the fleet is shown all the same.
    """
    facts: dict[str, Any] = {"version": 1, **ask(places, control.Status(), patience=PATIENCE).data}
    facts.setdefault("tasks", {})
    facts.setdefault("usage", NO_USAGE)
    facts |= {"attention": [], "attention_total": 0, "landing": [], "landing_total": 0}
    if places.ledger.exists():
        from swarm.ledger import open_ledger

        try:
            with open_ledger(places.ledger) as ledger:
                facts["tasks"] = ledger.counts()
                facts["usage"] = _usage(ledger.usage())
                facts |= attention(ledger) | landing(ledger)
        except LedgerError as error:
            facts["ledger_error"] = str(error)
    return facts


def attention(ledger: Ledger) -> dict[str, Any]:
    """What waits for a person, the oldest first, and how many there are in all."""
    from swarm.ledger.shown import rfc3339

    found, count = ledger.attention(MAX_ATTENTION)
    listed = [
        {
            "task": one.task,
            "kind": one.kind,
            "text": one.text,
            "since": rfc3339(one.since),
            "command": f"agentctl task {_ANSWERED_BY[one.kind].format(one.task)}",
        }
        for one in found
    ]
    return {"attention": listed, "attention_total": count}


def landing(ledger: Ledger) -> dict[str, Any]:
    """What is to land, in its order, and how many tasks that are in all."""
    from swarm.ledger.shown import rfc3339

    queue = ledger.landing_queue()
    listed = [
        {"task": one.id, "since": rfc3339(one.updated_at), "reason": one.reason or None}
        for one in queue[:MAX_ATTENTION]
    ]
    return {"landing": listed, "landing_total": len(queue)}


def _usage(totals: Totals) -> dict[str, Any]:
    return {
        "input_tokens": totals.usage.input_tokens,
        "output_tokens": totals.usage.output_tokens,
        "cost_usd": totals.cost_usd,
    }


def overview(places: Places) -> FleetStatus:
    """The fleet for who works beside it; without a swarm what the ledger knows.

    Raises :class:`~swarm.desk.control.Hung` for one that does not answer.
    """
    try:
        facts = gather(places)
    except NotRunning:
        return _resting(places)
    agents = facts.get("agents", [])
    return FleetStatus(
        running=True,
        swarm=facts.get("swarm"),
        limits=facts.get("limits"),
        agents=dict(Counter(str(one["state"]) for one in agents)),
        busy=[one for one in agents if one["state"] != AgentState.IDLE],
        services=facts.get("services", []),
        tasks=facts["tasks"],
        usage=facts["usage"],
        attention=facts["attention"],
        attention_total=facts["attention_total"],
    )


def _resting(places: Places) -> FleetStatus:
    from swarm.ledger import open_ledger

    with open_ledger(places.ledger) as ledger:
        counts, usage, waiting = ledger.counts(), _usage(ledger.usage()), attention(ledger)
    return FleetStatus(
        running=False,
        swarm=None,
        limits=None,
        agents={},
        busy=[],
        services=[],
        tasks=counts,
        usage=usage,
        **waiting,
    )
