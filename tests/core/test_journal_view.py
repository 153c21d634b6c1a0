"""The journal's entries, and how they are told."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.core import journal as j
from swarm.core import view

ENTRIES: tuple[j.Entry, ...] = (
    j.SwarmStarted(pid=1, agents=2),
    j.ChildSpawned("chat", 5),
    j.Paused("before"),
    j.WorkspaceAdopted("a"),
    j.ChildSpawned("a", 10),
    j.ChildReady("a", 10),
    j.Promoted("a", "t-1", 1),
    j.PromotionDenied("a", "t-0", 1, "paused"),
    j.SessionStarted("a", "t-1", 1, pid=11, attempt=1, containment="pid_namespace"),
    j.SessionEnded("a", "t-1", 1, "succeeded", branch="swarm/a/t-1", commits=2),
    j.SessionKillAsked("a", "t-1", "cancelled", "by a person"),
    j.ChildUnresponsive("a", "3 heartbeats missed in a row"),
    j.ChildExited("a", 10, -9),
    j.TaskLost("a", "t-2", 4, "its daemon died"),
    j.TaskReported("a", "t-3", 4, "failed"),
    j.ChildBackoff("a", "3 heartbeats missed in a row", 1.0),
    j.ChildBackoff("a", "again", 0.0),
    j.ChildDegraded("a", "crashed"),
    j.RestartAsked("a"),
    j.ZygoteDied(-9),
    j.Scaled({"builder": 3}, {"builder": 5, "qa": 1}),
    j.Resumed(),
    j.Reloaded(("limits.max_active 5 → 10",)),
    j.ReloadRefused(("swarm.yaml:1: bad",)),
    j.StopAsked("drain"),
    j.ChildExited("a", 12, 0, asked=True),
    j.ChildStopped("a", "stopped"),
    j.WorkspaceKept("a", "work could not be saved"),
    j.WorkspaceRemoved("a", ("swarm/a/saved",)),
    j.SwarmStopped("asked"),
    j.BudgetNear("80% of its own token budget is spent: 80 of 100", "b"),
    j.BudgetSpent("100% of its own token budget is spent: 100 of 100", "b"),
    j.BudgetOpen("its own token budget allows more again", "b"),
    j.Upgraded("0.1.0", "0.2.0", 2),
    j.UpgradeRefused("it does not start"),
    j.QuotaHit("claude", "limit reached", 5.0),
    j.QuotaProbed("a", "claude", "quota", "limit reached"),
    j.QuotaLifted("claude", "a probe succeeded"),
    j.DiskLow("5 MB of disk are free"),
    j.CleanedUp(12, ("refs/x",), "one stays"),
    j.ChildForgiven("b", "at least 5 children died within 10 s"),
)


def journal(*entries: j.Entry) -> list[dict]:
    lines = [
        {"ts": f"T{n:02}", "kind": entry.kind, **j.as_fields(entry)}
        for n, entry in enumerate(entries)
    ]
    return [json.loads(json.dumps(line)) for line in lines]


def test_every_entry_survives_the_file() -> None:
    assert tuple(j.read(line) for line in journal(*ENTRIES)) == ENTRIES
    assert {type(entry) for entry in ENTRIES} == set(j.KINDS.values())


@given(
    st.dictionaries(
        st.sampled_from(["kind", "child", "pid", "before", "changes", "status"]),
        st.one_of(
            st.sampled_from(sorted(j.KINDS)),
            st.none(),
            st.integers(),
            st.text(max_size=3),
            st.lists(st.integers(), max_size=2),
            st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
        ),
    )
)
def test_a_damaged_line_is_skipped(line: dict) -> None:
    entry = j.read(line)
    assert entry is None or entry.kind == line["kind"]
    list(view.story([line], "a"))


def test_a_later_versions_fields_are_ignored() -> None:
    line = {"kind": "child_ready", "child": "a", "pid": 1, "mood": "good"}
    assert j.read(line) == j.ChildReady("a", 1)
    assert j.read({"kind": "child_danced", "child": "a"}) is None


def _at(kind: type[j.Entry]) -> int:
    return [type(entry) for entry in ENTRIES].index(kind)


def test_the_story_of_one_agent() -> None:
    assert list(view.story(journal(*ENTRIES), "a")) == [
        "T03  its workspace was taken over from an earlier run",
        "T04  spawned (pid 10)",
        "T05  ready",
        "T06  promoted for t-1",
        "T07  promotion for t-0 denied: paused",
        "T08  session for t-1 started, attempt 1 (pid 11)",
        "T09  session for t-1 ended: succeeded, 2 commits on swarm/a/t-1",
        "T10  session for t-1 told to end: by a person",
        "T11  unresponsive: 3 heartbeats missed in a row",
        "T12  crashed, signal 9",
        "T13  lost t-2, which is queued again: its daemon died",
        "T14  its report for t-3 was found on disk: failed",
        "T15  restarts in 1 s",
        "T16  restarts at once",
        "T17  degraded: crashed; `agentctl agent restart a` brings it back",
        "T18  restart asked for",
        "T19  the zygote died and was started again",
        "T20  scaled from builder=3 to builder=5, qa=1",
        "T21  promotions resumed",
        "T22  configuration reloaded: limits.max_active 5 → 10",
        "T23  configuration is bad, the old one stays in force",
        "T24  the swarm was told to stop (drain)",
        "T25  exited as asked (exit 0)",
        "T26  stopped: stopped",
        "T27  its workspace was kept: work could not be saved",
        "T28  its workspace was removed: work saved to swarm/a/saved",
        "T29  the swarm stopped: asked",
        f"T{_at(j.Upgraded)}  the supervisor was upgraded: 0.1.0 → 0.2.0",
        f"T{_at(j.UpgradeRefused)}  an upgrade of the supervisor was refused: it does not start",
        f"T{_at(j.QuotaHit)}  quota: claude is parked: limit reached",
        f"T{_at(j.QuotaProbed)}  probed the quota of claude: quota",
        f"T{_at(j.QuotaLifted)}  quota: claude goes on: a probe succeeded",
        f"T{_at(j.DiskLow)}  the disk runs low: 5 MB of disk are free",
        f"T{_at(j.CleanedUp)}  cleaned up: 12 MB removed, commits kept as refs/x: one stays",
    ]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.kind)
def test_every_entry_is_told_in_one_line(entry: j.Entry) -> None:
    text = view.tell(entry)
    assert text
    assert "\n" not in text
