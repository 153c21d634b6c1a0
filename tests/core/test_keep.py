"""What may go: never what is in use, never a commit that nothing else holds."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from types import ModuleType
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from mutants import mutant

from swarm.core import keep
from swarm.core.keep import DAY, Branch, Facts, Folder, Lifetimes, Log, Owner, Place
from swarm.core.model import TaskResult, TaskState

NOW = 1000 * DAY
ENDED = Owner("t-1", TaskState.DONE, NOW - 40 * DAY)
TERMS = Lifetimes(7 * DAY, 30 * DAY, 30 * DAY, None, 90 * DAY)


def gone(facts: Facts, terms: Lifetimes = TERMS, core: ModuleType = keep) -> set[object]:
    plan = core.sort_out(facts, terms)
    kinds = (plan.places, plan.branches, plan.logs, plan.folders)
    every = (facts.places, facts.branches, facts.logs, facts.folders)
    for kind, things in zip(kinds, every, strict=True):
        assert {*kind.goes, *(one for one, _ in kind.stays)} == {*things}, "each goes or stays"
        assert len(kind.goes) + len(kind.stays) == len(things)
        assert all(why for _, why in kind.stays), "and what stays has a reason"
    return {one for kind in kinds for one in kind.goes}


# -- by example -----------------------------------------------------------------------------------


def test_a_workspace_goes_when_its_agent_is_gone_and_it_was_long_unused() -> None:
    old, young = NOW - 8 * DAY, NOW - 6 * DAY
    mine = Place("a", "/w/a", old, 5)
    facts = Facts(NOW, (mine, replace(mine, name="b", used_at=young)), agents=frozenset("c"))
    assert gone(facts) == {mine}
    assert gone(replace(facts, agents=frozenset("ac"))) == set()
    assert gone(replace(facts, agents=None)) == set(), "a swarm that does not say has them all"
    assert gone(facts, replace(TERMS, workspaces=None)) == set()
    holding = replace(facts, places=(replace(mine, holds="a report waits"),))
    assert keep.sort_out(holding, TERMS).places.stays[0][1] == "a report waits"


@pytest.mark.parametrize(
    ("change", "goes"),
    [
        ({}, True),
        ({"state": TaskState.FAILED}, True),
        ({"state": TaskState.SKIPPED}, True),
        ({"state": TaskState.CANCELLED}, True),
        ({"state": TaskState.CANCELLED, "held": True}, False),
        ({"needed": True}, False),
        ({"state": TaskState.NEEDS_HUMAN}, False),
        ({"state": TaskState.QUEUED}, False),
        ({"state": TaskState.REVIEW}, False),
        ({"state": TaskState.LANDING}, False),
        ({"ended_at": NOW - 29 * DAY}, False),
        ({"ended_at": None}, False),
        ({"state": TaskState.CANCELLED, "in_doubt": True}, False),
    ],
)
def test_a_branch_goes_when_its_task_is_over_for_good(change: dict[str, Any], goes: bool) -> None:
    branch = Branch("/hub", "swarm/a/t-1", "1" * 40, replace(ENDED, **change))
    assert bool(gone(Facts(NOW, branches=(branch,)))) is goes


def test_what_no_task_of_this_ledger_has_is_somebodys() -> None:
    branch, folder = Branch("/hub", "swarm/a/t-x", "1" * 40), Folder("/tasks/t-x")
    assert gone(Facts(NOW, branches=(branch,), folders=(folder,))) == set()


def test_logs_go_by_age_then_by_size_the_oldest_first() -> None:
    logs = tuple(
        Log(f"/l/t-{n}.1.jsonl", 10, NOW - n * DAY, replace(ENDED, id=f"t-{n}")) for n in range(5)
    )
    terms = replace(TERMS, logs=3.5 * DAY)
    assert gone(Facts(NOW, logs=logs), terms) == {logs[4]}
    assert gone(Facts(NOW, logs=logs), replace(terms, log_bytes=25)) == {*logs[2:]}
    running = replace(logs[3], owner=replace(ENDED, state=TaskState.RUNNING))
    mixed = (*logs[:3], running, logs[4])
    assert gone(Facts(NOW, logs=mixed), replace(terms, log_bytes=10)) == {*logs[:3], logs[4]}


def test_a_log_of_another_coordinators_task_goes_when_it_is_silent() -> None:
    foreign = Log("/l/x.1.jsonl", 10, NOW - 60)
    assert gone(Facts(NOW, logs=(foreign,)), replace(TERMS, logs=0.0, log_bytes=1)) == set()
    silent = replace(foreign, used_at=NOW - 2 * keep.FRESH)
    assert gone(Facts(NOW, logs=(silent,)), replace(TERMS, log_bytes=1)) == {silent}


def test_the_log_of_an_agent_goes_by_age_once_the_agent_is_gone() -> None:
    log = Log("/l/swarm-qa-001.log", 10, NOW - 40 * DAY, agent="swarm-qa-001")
    terms = replace(TERMS, logs=30 * DAY, log_bytes=0)
    assert gone(Facts(NOW, logs=(log,)), terms) == {log}
    for agents in (None, frozenset({"swarm-qa-001"})):
        assert gone(Facts(NOW, logs=(log,), agents=agents), terms) == set()
    young = replace(log, used_at=NOW - DAY)
    assert gone(Facts(NOW, logs=(young,)), terms) == set(), "the limit in bytes is of sessions"


def test_a_saved_branch_never_takes_the_name_of_an_earlier_one() -> None:
    branch = Branch("/hub", "swarm/a/t-1", "1" * 40, ENDED)
    place = "refs/agentctl/salvage/swarm/a/t-1"
    ends = [keep.endings([branch], {branch.tip}, taken)[0].saved for taken in (
        {}, {place: branch.tip}, {place: "2" * 40},
    )]  # fmt: skip
    assert ends == [place, place, f"{place}.111111111111"]


def test_what_landed_in_another_form_needs_no_salvage() -> None:
    """Squashed, its commits are nowhere else, but all they changed is in the target."""
    landed = replace(ENDED, result=TaskResult.MERGED, tip="1" * 40, landed="9" * 40)
    branch = Branch("/hub", "swarm/a/t-1", "1" * 40, landed)
    assert keep.endings([branch], {"1" * 40}, {})[0].saved == ""
    assert keep.endings([branch], {"1" * 40, "9" * 40}, {})[0].saved, "the target does not have it"
    moved = replace(branch, tip="2" * 40)
    assert keep.endings([moved], {"2" * 40}, {})[0].saved, "something was added after it landed"
    note = {"refs/agentctl/landed/t-1/" + "2" * 40: "9" * 40}
    assert not keep.endings([moved], {"2" * 40}, note)[0].saved, "an earlier result, before a retry"
    assert keep.endings([moved], {"2" * 40, "9" * 40}, note)[0].saved, "noted, and never landed"


# -- against whatever there may be ----------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """A hub with a history, tasks, and things of every age."""

    parents: dict[str, tuple[str, ...]]
    refs: dict[str, str]
    facts: Facts
    terms: Lifetimes = field(default_factory=Lifetimes)

    def reach(self, tips: set[str]) -> set[str]:
        """All commits below these."""
        found, waiting = set(), list(tips)
        while waiting:
            if (one := waiting.pop()) not in found:
                found.add(one)
                waiting += self.parents[one]
        return found


AGES = st.sampled_from([0.0, 1.0, 5 * DAY, 10 * DAY, 100 * DAY])
TERM = st.sampled_from([None, 0.0, 0.0, 2 * DAY, 20 * DAY])


def task_of(branch: Branch) -> str:
    return branch.name.rpartition("/")[2]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    ids = [f"{n:040x}" for n in range(1, draw(st.integers(2, 9)))]
    parents: dict[str, tuple[str, ...]] = {}
    for n, one in enumerate(ids):
        some = draw(st.lists(st.sampled_from(ids[:n]), max_size=2)) if n else []
        parents[one] = tuple(some)
    owners = [
        Owner(
            f"t-{n}",
            draw(st.sampled_from([*[TaskState.DONE] * 6, *TaskState])),
            NOW - draw(AGES),
            draw(st.sampled_from([False, False, True])),
            draw(st.sampled_from([False, False, True])),
            draw(st.sampled_from([TaskResult.MERGED, TaskResult.BRANCH])),
            draw(st.sampled_from(ids)),
            draw(st.sampled_from([None, ids[0], ids[0], *ids])),
            draw(st.sampled_from([False, False, False, True])),
        )
        for n in range(draw(st.integers(0, 5)))
    ]
    tips = st.sampled_from(ids)
    mine = st.none() | st.sampled_from(owners) if owners else st.none()
    branches = tuple(
        Branch(
            "/hub", f"swarm/a/t-{n}", draw(tips | st.just((owner and owner.tip) or ids[0])), owner
        )
        for n, owner in enumerate([*owners, *([None] if draw(st.booleans()) else [])])
    )
    refs = {f"{keep.HEADS}{one.name}": one.tip for one in branches}
    refs[f"{keep.HEADS}main"] = ids[0]
    for one in branches:
        if draw(st.sampled_from([False, False, True])):  # what was noted may never have landed
            refs[f"{keep.LANDED}{task_of(one)}/{one.tip}"] = draw(tips)
    if draw(st.booleans()):
        refs["refs/agentctl/salvage/swarm/a/t-0"] = draw(st.sampled_from(ids))
    places = tuple(
        Place(f"a{n}", f"/w/a{n}", NOW - draw(AGES), None, draw(st.sampled_from(["", "", "x"])))
        for n in range(draw(st.integers(0, 3)))
    )
    logs = tuple(
        Log(f"/l/{n}", draw(st.integers(0, 50)), NOW - draw(AGES), draw(mine))
        for n in range(draw(st.integers(0, 5)))
    )
    folders = tuple(Folder(f"/t/{n}", 1, draw(mine)) for n in range(draw(st.integers(0, 3))))
    agents = draw(st.none() | st.frozensets(st.sampled_from(["a0", "a1", "a2"])))
    terms = Lifetimes(
        draw(TERM), draw(TERM), draw(TERM), draw(st.none() | st.integers(0, 100)), draw(TERM)
    )
    return World(parents, refs, Facts(NOW, places, branches, logs, folders, agents), terms)


def dressed(facts: Facts, core: ModuleType) -> Facts:
    """The same facts with the owners of the module that is looked at."""

    def mine(one: Any) -> Any:
        names = [field.name for field in fields(Owner)]
        owner = one.owner and core.Owner(*(getattr(one.owner, name) for name in names))
        return replace(one, owner=owner)

    return replace(
        facts,
        branches=tuple(map(mine, facts.branches)),
        logs=tuple(map(mine, facts.logs)),
        folders=tuple(map(mine, facts.folders)),
    )


def check(world: World, core: ModuleType = keep) -> None:
    """Carry the plan out on the model, and look at what is left."""
    facts = dressed(world.facts, core)
    for one in gone(facts, world.terms, core):
        if isinstance(one, Place):
            assert facts.agents is not None
            assert one.name not in facts.agents, "an agent's workspace goes"
            assert not one.holds, "a report goes unread"
            continue
        assert isinstance(one, Branch | Log | Folder)
        if one.owner is None:
            assert isinstance(one, Log), "somebody's own goes"
            continue
        assert one.owner.state in keep.OVER, "something of an unfinished task goes"
        assert not one.owner.held, "something of a held task goes"
        assert not one.owner.needed, "something that another task needs goes"
        assert not one.owner.in_doubt, "something goes that says whether it has landed"
    going = core.sort_out(facts, world.terms).branches.goes
    after = {
        name: tip
        for name, tip in world.refs.items()
        if name not in {f"{keep.HEADS}{one.name}" for one in going}
        and not name.startswith(keep.LANDED)
    }
    held = world.reach(set(after.values()))
    loose = set(world.parents) - held
    for ending in core.endings(going, loose, world.refs):
        if ending.saved:
            assert after.get(ending.saved, ending.branch.tip) == ending.branch.tip, "overwritten"
            after[ending.saved] = ending.branch.tip
        owner = ending.branch.owner
        kept = world.reach(set(after.values()))
        tip = ending.branch.tip
        noted = world.refs.get(f"{keep.LANDED}{task_of(ending.branch)}/{tip}")
        if tip not in kept and noted not in held:
            assert owner is not None
            assert owner.result is TaskResult.MERGED, "a commit is lost"
            assert owner.tip == ending.branch.tip, "a commit is lost that came after the landing"
            assert owner.landed in held, "a commit is lost, and did not land"


@given(worlds())
def test_nothing_in_use_goes_and_no_commit_is_lost(world: World) -> None:
    check(world)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("if self.state not in OVER:", "if not self.state.ended:"),  # needs_human has not ended
        ("if self.held:", "if False:"),
        ('if self.needed else ""', 'if False else ""'),
        ("if name in facts.agents:", "if False:"),
        ("if facts.agents is None:", "if False:"),
        ("return one.holds or _young", "return _young"),
        ("and task.tip == one.tip", "and True"),
        ("and task.landed not in loose", "and True"),
        ("if self.in_doubt:", "if False:"),
        ("if noted is not None and noted not in loose:", "if noted is not None:"),
        ("if one.tip in loose and not _has_landed(one, loose, taken):", "if False:"),
        ("names.get(place, one.tip) == one.tip", "True"),
        ("if reasons[one.path] and not _in_use(one, facts):", "if reasons[one.path]:"),
    ],
)
def test_planted_faults_are_found(old: str, new: str) -> None:
    """An unmerged commit deleted, a live agent's workspace removed: each is seen."""
    with mutant(keep, old, new) as bad:

        @settings(
            max_examples=1500,
            phases=[Phase.generate],
            derandomize=True,
            report_multiple_bugs=False,  # the first is enough
        )
        @given(worlds())
        def run(world: World) -> None:
            check(world, bad)

        with pytest.raises((AssertionError, TypeError)):
            run()
