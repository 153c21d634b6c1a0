"""The verbs of the desk: what an outsider may ask, the same by every way in.

Each is one function from a request to a reply over a :class:`Desk`; it raises
:class:`~swarm.errors.SwarmError` with what to do about it.  None of them waits: see
:mod:`swarm.desk.waits`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from swarm.config.places import Places
from swarm.config.role_names import require_role
from swarm.core.budget import Amount
from swarm.core.model import OnFailed, Outcome, Review, TaskState, Usage
from swarm.desk import replies, requests
from swarm.desk.lock import is_locked
from swarm.desk.standing import where
from swarm.errors import UsageError
from swarm.ledger import Claimed, Ledger, NewTask, Task
from swarm.ledger.shown import list_json, rfc3339, show_json
from swarm.ledger.waiting_calls import Standing
from swarm.plans.shown import as_object, summary

_COMMIT = re.compile("[0-9a-f]{7,40}")


@dataclass(frozen=True, slots=True)
class Desk:
    """One home's ledger, and how the running swarm hears that it changed."""

    places: Places
    ledger: Ledger
    poke: Callable[[], object]
    """Tell the swarm; must not raise, and may do it in its own time."""
    by: str = "person"
    """Who decides here, for the record: approvals, rejections, answers."""

    @property
    def live(self) -> bool:
        """Whether a swarm runs."""
        try:
            return is_locked(self.places)
        except OSError:  # no descriptor is left: what was asked for is done by now all the same
            return True


# -- tasks ----------------------------------------------------------------------------------------


def submit(desk: Desk, asked: requests.Submit) -> replies.Added:
    """Add a task."""
    require_role(desk.places, asked.role)
    ledger = desk.ledger
    task = ledger.submit(
        NewTask(
            prompt=asked.prompt,
            role=asked.role,
            title=asked.title,
            component=asked.component,
            priority=asked.priority,
            after=tuple(ledger.find(one).id for one in asked.after),
            on_failed=OnFailed(asked.on_failed),
            lane=asked.lane,
            labels=asked.labels,
            thread=asked.thread,
            parent=ledger.find(asked.parent).id if asked.parent else "",
            review=None if asked.review is None else Review(asked.review),
            budget=Amount(asked.token_budget, asked.usd_budget),
        )
    )
    desk.poke()
    return replies.Added(id=task, state=str(TaskState.QUEUED), swarm_running=desk.live)


def list_(desk: Desk, asked: requests.List) -> replies.Listed:
    """The newest tasks."""
    states = [TaskState(state) for state in asked.state] or None
    found = desk.ledger.tasks(states, limit=asked.limit, role=asked.role or None)
    total = sum(desk.ledger.counts().values())
    return replies.Listed(tasks=list_json(desk.ledger, found, live=desk.live)["tasks"], total=total)


def show(desk: Desk, asked: requests.Show) -> replies.Shown:
    """One task in full."""
    task = desk.ledger.find(asked.id).id
    return replies.Shown(task=_whole(desk, task), where=standing_of(desk, task))


def cancel(desk: Desk, asked: requests.Cancel) -> replies.Moved:
    """End a task."""
    task = desk.ledger.cancel(desk.ledger.find(asked.id).id)
    desk.poke()
    note = "its session is being ended" if task.held and desk.live else ""
    return _moved(task, note)


def retry(desk: Desk, asked: requests.Retry) -> replies.Moved:
    """Queue an ended task again."""
    budget = Amount(asked.token_budget, asked.usd_budget)
    found = desk.ledger.find(asked.id).id
    task = desk.ledger.retry(found, budget, fresh=asked.fresh, note=asked.note, by=desk.by)
    desk.poke()
    return _moved(task)


def answer(desk: Desk, asked: requests.Answer) -> replies.Moved:
    """Answer a task's question."""
    task = desk.ledger.answer(desk.ledger.find(asked.id).id, asked.text, desk.by)
    desk.poke()
    return _moved(task)


def approve(desk: Desk, asked: requests.Approve) -> replies.Moved:
    """Let a commit land."""
    found = desk.ledger.find(asked.id).id
    task = desk.ledger.approve(found, asked.commit, desk.by, asked.text)
    desk.poke()
    return _moved(task)


def reject(desk: Desk, asked: requests.Reject) -> replies.Moved:
    """Send a task's work back."""
    task = desk.ledger.reject(desk.ledger.find(asked.id).id, desk.by, asked.text)
    desk.poke()
    return _moved(task)


def standing_of(desk: Desk, task: str) -> replies.Where:
    """Where a task is, by its exact id."""
    standing = desk.ledger.standing(task)
    assert standing is not None, f"{task} is gone from the ledger"
    return where(standing, why(desk, standing))


def why(desk: Desk, standing: Standing) -> str:
    """Why a task is in its state, as it is now."""
    if standing.task.state is TaskState.QUEUED:
        return desk.ledger.reason(standing.task.id, live=desk.live) or ""
    return standing.task.reason


def _whole(desk: Desk, task: str) -> dict[str, Any]:
    return show_json(desk.ledger, task, desk.places.session_log, live=desk.live)


def _moved(task: Task, note: str = "") -> replies.Moved:
    return replies.Moved(
        id=task.id,
        state=str(task.state),
        reason=task.reason or None,
        result=None if task.result is None else str(task.result),
        note=note,
    )


# -- plans ----------------------------------------------------------------------------------------


def list_plans(desk: Desk, asked: requests.Plans) -> replies.ListedPlans:
    """The newest plans."""
    return replies.ListedPlans(plans=[summary(plan) for plan in desk.ledger.plans(asked.limit)])


def show_plan(desk: Desk, asked: requests.ShowPlan) -> replies.ShownPlan:
    """One plan and its tasks."""
    shown = as_object(desk.ledger, desk.ledger.find_plan(asked.id), live=desk.live)
    return replies.ShownPlan(plan=shown["plan"], tasks=shown["tasks"], next=shown["next"])


# -- lanes ----------------------------------------------------------------------------------------


def claim(desk: Desk, asked: requests.Claim) -> replies.Taken:
    """Take a task by lease, if there is one now."""
    claimed = desk.ledger.lane_claim(
        asked.name,
        roles=asked.roles,
        lane=asked.lane,
        labels=asked.labels,
        task=desk.ledger.find(asked.id).id if asked.id else None,
        lease_seconds=asked.lease_seconds,
    )
    if claimed is None:
        return replies.Taken(lease=None)
    desk.poke()  # an announcement of it is withdrawn
    return replies.Taken(lease=_lease(desk, asked, claimed))


def renew(desk: Desk, asked: requests.Renew) -> replies.Renewed:
    """Keep a lease."""
    task = desk.ledger.lane_renew(desk.ledger.find(asked.id).id, asked.fence, asked.name)
    standing = desk.ledger.standing(task.id)
    until = None if standing is None else standing.lease_until
    desk.poke()
    return replies.Renewed(id=task.id, fence=task.fence, until=rfc3339(until))


def release(desk: Desk, asked: requests.Release) -> replies.Moved:
    """Give a task back."""
    found = desk.ledger.find(asked.id).id
    task = desk.ledger.lane_release(found, asked.fence, asked.name, asked.reason)
    desk.poke()
    return _moved(task)


def respond(desk: Desk, asked: requests.Respond) -> replies.Moved:
    """Answer a task that is held."""
    _check_response(asked)
    question = asked.outcome == "needs_human"
    task = desk.ledger.lane_respond(
        desk.ledger.find(asked.id).id,
        asked.fence,
        asked.name,
        asked.text,
        Outcome.SUCCEEDED if question else Outcome(asked.outcome),
        reason=asked.reason,
        needs_human=question,
        usage=Usage(asked.input_tokens, asked.output_tokens),
        cost_usd=asked.cost_usd,
        commit=asked.commit or None,
    )
    desk.poke()
    return _moved(task)


def _check_response(asked: requests.Respond) -> None:
    if asked.commit and not _COMMIT.fullmatch(asked.commit):
        raise UsageError(
            f"{asked.commit[:80]!r} is no commit", "give its id, as 'git rev-parse HEAD' prints it"
        )
    if asked.outcome == "succeeded" and not asked.text.strip():
        raise UsageError("the answer is empty", "say what came of it, or how it failed")
    if asked.outcome != "succeeded" and not asked.reason.strip():
        raise UsageError(
            f"a task that ends {asked.outcome} without a reason",
            "say the question" if asked.outcome == "needs_human" else "say why",
        )


def _lease(desk: Desk, asked: requests.Claim, claimed: Claimed) -> replies.Lease:
    task = claimed.task
    standing = desk.ledger.standing(task.id)
    pinned = None
    if task.request_path:
        pinned = replies.PinnedFile(task.request_path, task.request_sha256)
    return replies.Lease(
        id=task.id,
        fence=claimed.fence,
        name=asked.name,
        until=rfc3339(None if standing is None else standing.lease_until),
        seconds=asked.lease_seconds,
        role=task.role,
        lane=task.lane,
        labels=dict(task.labels),
        component=task.component or None,
        title=task.title,
        attempt=claimed.attempt,
        prompt=claimed.prompt,
        feedback=claimed.feedback or None,
        earlier=claimed.earlier,
        thread=claimed.thread,
        request=pinned,
        response_path=task.response_path or None,
        folder=task.folder or None,
    )
