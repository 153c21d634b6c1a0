"""What landing, review and people's decisions are in the ledger; one short call each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import assert_never

from swarm.coordinator import reviews
from swarm.coordinator.landing_messages import (
    Decide,
    Decided,
    DoubtSettled,
    LandingSettled,
    LandingsFound,
    LookForLandings,
    News,
)
from swarm.coordinator.landings import NoteLanding, SettleDoubt, SettleLanding, ToLand
from swarm.core.model import Merge, Review, TaskState, split_agent_name
from swarm.errors import UsageError
from swarm.landing.model import Job, Landed, SentBack
from swarm.ledger.interface import Ledger, Task
from swarm.ledger.records import UNDECIDED, Way
from swarm.ledger.ways import way_of
from swarm.wire.lifeline import LandingRules, RepoWork, RoleRules
from swarm.wire.work import Answer, Approve, Reject

MAX_NEWS = 500
"""Characters of a question or reason that the channel hears."""
MAX_BODY = 2000
"""Characters of what its agent said last that a commit's message carries."""
_NEWS = frozenset({"review", "merged", "needs_human"})
BY_CHAT = "operator"
"""Who a person is that decides by chat, in remarks."""


class LandingBooks:
    """The half of the books that is about landing; raises :class:`~swarm.errors.LedgerError`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._rules: LandingRules | None = None
        self._roles: Mapping[str, RoleRules] = {}
        self._heard: int | None = None

    def mind(self, roles: Mapping[str, RoleRules], rules: LandingRules | None) -> None:
        """These hold from now on; nothing lands before any are known."""
        self._roles = roles
        self._rules = rules if rules is not None else self._rules

    def way(self, task: Task) -> Way:
        """What becomes of its good work: its own word, else its role's, else the repository's."""
        return UNDECIDED if self._rules is None else way_of(task, self._rules, self._roles)

    def carry_out(
        self, effect: LookForLandings | SettleLanding | SettleDoubt | NoteLanding | Decide
    ) -> LandingsFound | LandingSettled | DoubtSettled | Decided | None:
        """Do it; the event it ends as, if any."""
        match effect:
            case LookForLandings():
                return self.look()
            case SettleLanding():
                return self.settle(effect)
            case SettleDoubt():
                return self.settle_doubt(effect)
            case NoteLanding():
                self.note(effect)
                return None
            case Decide():
                return self.decide(effect)
            case _:
                assert_never(effect)

    def look(self) -> LandingsFound:
        """What may land now, which reviews were asked for, and what the channel should hear."""
        if self._rules is None:
            return LandingsFound((), asked=False)
        tasks = tuple(one for task in self._ledger.landing_queue() if (one := self._to_land(task)))
        asked = [self._review(task) for task in self._ledger.in_review()]
        doubts = tuple(
            ToLand(task.id, task.in_doubt, task.repo or "", task.priority, task.seq)
            for task in self._ledger.in_doubt()
            if task.in_doubt is not None
        )
        return LandingsFound(tasks, any(asked), self._news(), doubts)

    def _to_land(self, task: Task) -> ToLand | None:
        """Rules may have changed since it came here: without its approval nothing lands."""
        way, tip = self.way(task), task.tip
        if tip is None or task.in_doubt == tip:
            return None  # git is asked first: it may have landed
        if way.merge is Merge.NONE:
            self._ledger.stays_branch(task.id, tip)
            return None
        if way.review is not Review.NONE and task.approved != tip:
            self._ledger.back_to_review(task.id, tip)
            return None
        return ToLand(task.id, tip, task.repo or "", task.priority, task.seq)

    def _review(self, task: Task) -> bool:
        """See that somebody reviews it, where agents do; whether a review was asked for."""
        tip = task.tip
        if self.way(task).review is not Review.AGENT or tip is None or task.in_doubt == tip:
            return False
        about = self._ledger.reviews(task.id)
        if reviews.lives(about, tip) is not None:
            return False
        attempts = self._ledger.attempts(task.id)
        since = attempts[-1].ended_at if attempts else None
        if question := reviews.given_up(task, about, since or 0.0):
            self._ledger.needs_person(task.id, tip, question)
            return False
        new = reviews.request(task, self._ledger.prompt(task.id))
        return self._ledger.ask_review(new) is not None

    def _news(self) -> tuple[News, ...]:
        """What happened since the last look that people wait for."""
        if self._heard is None:
            self._heard = self._ledger.last_event()
            return ()
        news: list[News] = []
        while events := self._ledger.events(self._heard):
            self._heard = events[-1].seq
            for event in events:
                if event.kind not in _NEWS:
                    continue
                task = self._ledger.task(event.task)
                agents = task is not None and self.way(task).review is Review.AGENT
                if event.kind != "review" or not agents:
                    news.append(News(event.kind, event.task, event.detail[:MAX_NEWS]))
        return tuple(news)

    def settle(self, effect: SettleLanding) -> LandingSettled:
        """What a landing came to."""
        what, verdict, ledger = effect.what, effect.verdict, self._ledger
        match verdict:
            case Landed(commit=commit, merged=merged):
                ledger.landed(what.task, what.tip, commit, noop=not merged)
            case SentBack(kind=kind, text=text):
                task = ledger.task(what.task)
                way = UNDECIDED if task is None else self.way(task)
                ledger.sent_back(what.task, what.tip, kind, text, way)
            case _:
                ledger.needs_person(what.task, what.tip, f"cannot land: {verdict.reason}")
        return LandingSettled(what)

    def settle_doubt(self, effect: SettleDoubt) -> DoubtSettled:
        """Git was asked about a commit that was taken out of ``landing``."""
        what = effect.what
        if effect.commit:
            self._ledger.landed(what.task, what.tip, effect.commit)
        else:
            self._ledger.not_in_doubt(what.task, what.tip)
        return DoubtSettled()

    def note(self, effect: NoteLanding) -> None:
        """Why it has not landed yet."""
        self._ledger.not_landed(effect.what.task, effect.what.tip, effect.reason)

    def decide(self, effect: Decide) -> Decided:
        """A person's word by chat."""
        order = effect.order
        try:
            found = self._ledger.find(order.task.id)
            match order:
                case Approve(commit=commit, text=text):
                    now = self._ledger.approve(found.id, commit or None, BY_CHAT, text)
                case Reject(text=text, commit=commit, final=final):
                    now = self._ledger.reject(
                        found.id, BY_CHAT, text, commit=commit or None, final=final
                    )
                case Answer(text=text):
                    now = self._ledger.answer(found.id, text, BY_CHAT)
        except UsageError as error:
            return Decided(effect.by, order.task.id[:64], "", str(error))
        return Decided(effect.by, now.id, now.state.value)

    def publish(self, target: str) -> str:
        """The source's branch that ``target`` is published to; empty for none."""
        return "" if self._rules is None else self._rules.publish.replace("{target}", target)

    def job(self, what: ToLand, repo: RepoWork, logs: Path) -> Job | None:
        """Everything its landing needs; ``None`` when it waits for none any more."""
        task, rules = self._ledger.task(what.task), self._rules
        if task is None or rules is None or task.branch is None:
            return None
        if task.state is not TaskState.LANDING or task.tip != what.tip:
            return None
        attempts = self._ledger.attempts(task.id)
        number = attempts[-1].n if attempts else 1
        its = self._rules_of(task)
        return Job(
            task=task.id,
            n=number,
            hub=repo.hub,
            source=repo.source,
            target=repo.target,
            branch=task.branch,
            commit=what.tip,
            message=message(task),
            log=str(logs / f"{task.id}.{number}.log"),
            merge=self.way(task).merge,
            checks=rules.checks,
            check_seconds=rules.check_seconds,
            ports=its.network,
            memory_mb=its.memory_mb,
            max_processes=its.max_processes,
            cpu_percent=its.cpu_percent,
            cgroups=rules.cgroups,
            publish="" if repo.source is None else self.publish(repo.target),
            agent=task.agent,
            author_name=repo.author_name,
            author_email=repo.author_email,
        )

    def _rules_of(self, task: Task) -> RoleRules:
        """Of its agent's sessions, as the checks run what those wrote; else of any role."""
        known = split_agent_name(task.agent)
        rules = self._roles.get(known[0]) if known is not None else None
        return rules or self._roles.get("") or RoleRules()


def message(task: Task) -> str:
    """Of the commit on the target: its title, and what its agent said last.

    Who lands it adds the task and the commit it comes from.
    """
    said = task.answer.strip()[:MAX_BODY]
    return "\n\n".join([task.title, *([said] if said else [])])
