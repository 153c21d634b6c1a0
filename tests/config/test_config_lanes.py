"""Roles' lanes and labels: what may be written, and what an agent offers by what it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.config.roles import load_role
from swarm.config.settings import Role, Runtime, Settings
from swarm.config.takes import offered_labels, takes_of_role
from swarm.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lanes: [Reviews]", "lanes[0]: 'Reviews' is no lane's name"),
        ("lanes: ['']", "lanes[0]: is the default lane"),
        ("lanes: [a, 'b c']", "lanes[1]: 'b c' is no lane's name"),
        ("labels: {A: [x]}", "cannot name a label"),
        ("labels: {vendor: ['']}", "can be no label's value"),
        ('labels: {vendor: [ok, "a\\nb"]}', "can be no label's value"),
        (f"labels: {{vendor: [{'x' * 65}]}}", "can be no label's value"),
        ("labels: {vendor: openai}", "labels.vendor"),
        ("lanes: reviews", "lanes"),
    ],
)
def test_what_no_lane_or_label_can_be_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"runtime: claude\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        load_role("mine", tmp_path)
    assert said in str(caught.value)
    assert "mine.yaml:2" in str(caught.value)


def test_any_is_a_lane_and_a_value(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("lanes: [reviews, '*']\nlabels: {area: ['*', parser]}\n")
    role = load_role("mine", tmp_path)
    assert (role.lanes, role.labels) == (("reviews", "*"), {"area": ("*", "parser")})


def test_what_a_role_runs_is_offered_beside_what_it_names() -> None:
    settings = Settings(runtimes={"mine": Runtime(adapter="codex", command=("codex",))})
    role = Role(runtime="mine", model="o9", labels={"vendor": ("acme",), "area": ("parser",)})
    assert offered_labels(role, settings) == {
        "area": ("parser",),
        "model": ("o9",),
        "runtime": ("mine",),
        "vendor": ("acme", "openai"),
    }
    takes = takes_of_role("builder", Role(takes=("qa",), lanes=("reviews",)), settings)
    assert (takes.roles, takes.lanes) == (frozenset({"builder", "qa"}), frozenset({"", "reviews"}))
    assert takes.labels["vendor"] == frozenset({"anthropic"})


def test_a_runtime_that_is_nowhere_implies_nothing() -> None:
    assert offered_labels(Role(runtime="nowhere", labels={"a": ("b",)}), Settings()) == {
        "a": ("b",)
    }
