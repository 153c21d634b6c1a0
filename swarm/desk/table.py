"""The verbs by name: what MCP offers as tools and HTTP as addresses, from one list."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from swarm.desk import replies, requests, verbs, waits
from swarm.desk.fleet import overview
from swarm.desk.office import Office
from swarm.desk.verbs import Desk
from swarm.errors import UsageError

Run = Callable[[Office, Any], Awaitable[replies.Reply]]


@dataclass(frozen=True, slots=True)
class Verb:
    """One thing that may be asked."""

    name: str
    """As an MCP tool."""
    request: type[requests.Request]
    run: Run
    """Raises :class:`~swarm.errors.SwarmError`; cancelled, it has done nothing or all of it."""
    about: str
    """For who calls it: what it does, and what to do with the answer."""
    reads: bool = False
    """It changes nothing."""
    decides: bool = False
    """It is a person's word: only offered where a person said that it may be."""


def _now(verb: Callable[[Desk, Any], replies.Reply]) -> Run:
    async def run(office: Office, asked: requests.Request) -> replies.Reply:
        return verb(office.desk, asked)

    return run


def allowed(verb: Verb, asked: requests.Request, *, decides: bool) -> None:
    """Raise :class:`~swarm.errors.UsageError` for what is a person's word, unless one let it be.

    Who reviews a task is such a word too, unless a person does: it could go around the
    configured review.
    """
    eased = isinstance(asked, requests.Submit) and asked.review in ("none", "agent")
    if decides or not (verb.decides or eased):
        return
    what = "another review than the configured one or `human`" if eased else verb.name
    raise UsageError(
        f"{what} is a person's to say, not this client's",
        "use `agentctl task`; or let its clients, by `agentctl mcp --decide` or `api.decide: true`",
    )


async def _wait_for(office: Office, asked: requests.WaitFor) -> replies.Reply:
    return await waits.wait_for(office.desk, office.changes, asked)


async def _claim(office: Office, asked: requests.Claim) -> replies.Reply:
    return await waits.claim(office.desk, office.changes, asked)


async def _await_task(office: Office, asked: requests.Await) -> replies.Reply:
    return await waits.await_task(office.desk, office.changes, asked)


async def _status(office: Office, _asked: requests.Status) -> replies.Reply:
    return await asyncio.to_thread(overview, office.desk.places)  # the supervisor may take its time


VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb(
            "submit_task",
            requests.Submit,
            _now(verbs.submit),
            "Give the fleet a task; gives its id. An agent of the role works on it in a clone of"
            " the project's repository. Follow it with wait_task.",
        ),
        Verb(
            "wait_task",
            requests.WaitFor,
            _wait_for,
            "Wait until a task has ended. `ended` false: it goes on, so wait again. The result is"
            " in `task`: state, result, answer, branch, commits; `where` says who has it and what"
            " has to happen next.",
            reads=True,
        ),
        Verb(
            "list_tasks",
            requests.List,
            _now(verbs.list_),
            "The newest tasks in short, oldest first.",
            reads=True,
        ),
        Verb(
            "show_task",
            requests.Show,
            _now(verbs.show),
            "One task in full: prompt, state and why, answer, branch, attempts, and where it is.",
            reads=True,
        ),
        Verb(
            "cancel_task",
            requests.Cancel,
            _now(verbs.cancel),
            "End a task, also one that runs; what it made so far is kept on its branch.",
        ),
        Verb(
            "retry_task",
            requests.Retry,
            _now(verbs.retry),
            "Queue an ended task again, with its branch and what its attempts left.",
        ),
        Verb(
            "answer_task",
            requests.Answer,
            _now(verbs.answer),
            "Answer the question of a task that needs_human, in the name of the person you work"
            " for: only with what that person said.",
            decides=True,
        ),
        Verb(
            "approve_task",
            requests.Approve,
            _now(verbs.approve),
            "Approve the commit of a task in review, in the name of the person you work for: only"
            " when that person said so.",
            decides=True,
        ),
        Verb(
            "reject_task",
            requests.Reject,
            _now(verbs.reject),
            "Send a task in review back to its agent with what has to be different.",
            decides=True,
        ),
        Verb(
            "list_plans",
            requests.Plans,
            _now(verbs.list_plans),
            "The newest plans in short, oldest first.",
            reads=True,
        ),
        Verb(
            "show_plan",
            requests.ShowPlan,
            _now(verbs.show_plan),
            "One plan: its state, its tasks and why they wait, and what a person can do next.",
            reads=True,
        ),
        Verb(
            "claim_task",
            requests.Claim,
            _claim,
            "Take a task yourself, by lease. `lease` null: there is none now. Renew the lease"
            " before `until`, then answer with respond_task, or give it back with release_task."
            " Keep id and fence.",
        ),
        Verb(
            "await_task",
            requests.Await,
            _await_task,
            "Wait until there is a task you could claim, without claiming it.",
            reads=True,
        ),
        Verb(
            "renew_lease",
            requests.Renew,
            _now(verbs.renew),
            "Keep a task you claimed for another full term. An error means that it is yours no"
            " more: stop working on it.",
        ),
        Verb(
            "release_task",
            requests.Release,
            _now(verbs.release),
            "Give a task you claimed back; it is queued again.",
        ),
        Verb(
            "respond_task",
            requests.Respond,
            _now(verbs.respond),
            "Answer a task you claimed, or say that it failed or needs a person; that ends your"
            " lease. A stale lease's answer is refused.",
        ),
        Verb(
            "fleet_status",
            requests.Status,
            _status,
            "How the fleet is: agents, services, tasks by state, usage, and why nothing starts if"
            " nothing does.",
            reads=True,
        ),
    )
}
"""Every verb by the name of its tool."""
