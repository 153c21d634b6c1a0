"""Who takes which task, and what is said when nobody does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.core.matching import (
    ANY,
    Needs,
    Takes,
    fits,
    implied_labels,
    joined,
    outsider_takes,
    role_takes,
    why_nobody,
)
from swarm.core.model import STRICT_LABELS

PLAIN = role_takes(["builder"])
CODEX = role_takes(
    ["builder", "qa"],
    ["reviews"],
    joined({"area": ("parser", "lexer")}, implied_labels("codex", "codex", "o9")),
)
OPEN = role_takes(["builder"], [ANY], {"vendor": (ANY,), "area": (ANY,)})


@pytest.mark.parametrize(
    ("takes", "needs", "why"),
    [
        (PLAIN, Needs("builder"), ""),
        (PLAIN, Needs("qa"), "it is for role qa"),
        (PLAIN, Needs("builder", "reviews"), "it is in lane reviews"),
        (PLAIN, Needs("builder", labels={"area": "parser"}), ""),
        (PLAIN, Needs("builder", labels={"vendor": "openai"}), "it wants vendor=openai"),
        (PLAIN, Needs("builder", labels={"effort": "high"}), "it wants effort=high"),
        (CODEX, Needs("qa", "reviews", {"vendor": "openai"}), ""),
        (CODEX, Needs("qa", "", {"model": "o9", "runtime": "codex"}), ""),
        (CODEX, Needs("qa", "", {"vendor": "anthropic"}), "it wants vendor=anthropic"),
        (CODEX, Needs("qa", "", {"area": "docs"}), "it wants area=docs"),
        (CODEX, Needs("qa", "", {"area": "lexer", "size": "big"}), ""),
        (OPEN, Needs("builder", "anything", {"vendor": "x", "area": "y"}), ""),
        (OPEN, Needs("builder", "anything", {"model": "x", "effort": "y"}),
         "it wants effort=y model=x"),
        (outsider_takes(), Needs("whatever"), ""),
        (outsider_takes(), Needs("whatever", "reviews"), "it is in lane reviews"),
        (outsider_takes(lane="reviews"), Needs("whatever"), "it is in no lane"),
        (outsider_takes(lane="reviews"), Needs("whatever", "reviews"), ""),
        (outsider_takes(["qa"], ANY), Needs("builder", "x"), "it is for role builder"),
        (outsider_takes([], ANY, {"vendor": "openai"}), Needs("qa", "x", {"vendor": "openai"}), ""),
    ],
)  # fmt: skip
def test_who_takes_what(takes: Takes, needs: Needs, why: str) -> None:
    assert fits(takes, needs) == why


@pytest.mark.parametrize(
    ("adapter", "model", "labels"),
    [
        ("claude", "opus", {"runtime": ("r",), "model": ("opus",), "vendor": ("anthropic",)}),
        ("codex", "", {"runtime": ("r",), "vendor": ("openai",)}),
        ("opencode", "x/y", {"runtime": ("r",), "model": ("x/y",)}),
        ("scripted", "", {"runtime": ("r",)}),
    ],
)
def test_what_a_runtime_implies(adapter: str, model: str, labels: dict[str, object]) -> None:
    assert implied_labels("r", adapter, model) == labels


def test_what_is_missing_everywhere_is_said_first() -> None:
    fleet = [PLAIN, CODEX]
    assert why_nobody(fleet, Needs("builder")) == ""
    assert "role auditor" in why_nobody(fleet, Needs("auditor", "x", {"vendor": "y"}))
    lane = why_nobody(fleet, Needs("builder", "x", {"vendor": "y"}))
    assert "lane x is taken by no agent" in lane
    assert "agentctl lane claim --lane x" in lane
    label = why_nobody(fleet, Needs("builder", "", {"vendor": "google", "area": "parser"}))
    assert "offers vendor=google;" in label
    together = why_nobody(fleet, Needs("builder", "reviews", {"vendor": "openai", "area": "docs"}))
    assert "offers area=docs;" in together
    split = [
        role_takes(["builder"], (), {"vendor": ("a",)}),
        role_takes(["builder"], (), {"model": ("b",)}),
    ]
    assert "offers model=b vendor=a;" in why_nobody(
        split, Needs("builder", "", {"vendor": "a", "model": "b"})
    )
    assert "no agent" in why_nobody([], Needs("builder"))


names = st.sampled_from(["a", "b", "c"])
keys = st.sampled_from([*sorted(STRICT_LABELS)[:2], "area", "size"])
places = st.sampled_from(["", "x", "y"])
needed = st.builds(Needs, names, places, st.dictionaries(keys, names, max_size=3))
taken = st.builds(
    role_takes,
    st.lists(names, min_size=1, max_size=2),
    st.lists(st.sampled_from(["x", "y", ANY]), max_size=2),
    st.dictionaries(keys, st.lists(st.sampled_from(["a", "b", ANY]), max_size=2), max_size=3),
)


@given(st.lists(taken, max_size=4), needed)
def test_nobody_takes_it_exactly_when_no_one_does(fleet: list[Takes], needs: Needs) -> None:
    assert bool(why_nobody(fleet, needs)) == all(fits(takes, needs) for takes in fleet)


@given(taken, needed)
def test_a_task_that_asks_for_less_is_taken_by_no_fewer(takes: Takes, needs: Needs) -> None:
    if fits(takes, needs):
        return
    for key in needs.labels:
        fewer = {k: v for k, v in needs.labels.items() if k != key}
        assert not fits(takes, Needs(needs.role, needs.lane, fewer))
    assert not fits(takes, Needs(needs.role, "", needs.labels)), "the default lane is everybody's"
