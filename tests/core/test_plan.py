"""What a reload says and does, and how a fleet is divided."""

from __future__ import annotations

from types import ModuleType

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from mutants import mutant

from swarm.config.settings import AgentsEntry, Limits, Role, RoleLimits, Runtime, Settings
from swarm.core import plan as real
from swarm.core.plan import Applies, apportion, plan, reconcile_counts


def data(whole: Settings, **roles: Role) -> dict:
    return {**msgspec.to_builtins(whole), "roles": msgspec.to_builtins(roles)}


def lines(old: Settings, new: Settings) -> list[str]:
    return [str(change) for change in plan(data(old), data(new)).changes]


def test_a_change_is_told_as_old_and_new() -> None:
    old = Settings()
    assert lines(old, Settings(limits=Limits(max_active=10))) == ["limits.max_active 5 → 10"]
    assert lines(old, old) == []
    assert plan(data(old), data(old)).lines() == ("nothing changed",)


def test_counts_are_told_by_role() -> None:
    new = Settings(agents=(AgentsEntry("builder", 5), AgentsEntry("qa", 1)))
    assert lines(Settings(), new) == ["agents.builder 3 → 5", "agents.qa (unset) → 1"]


def test_each_change_says_when_it_counts() -> None:
    replace = msgspec.structs.replace
    old = Settings()
    new = replace(
        old,
        workspace_base="/w",
        chat=replace(old.chat, url="ws://h", announcers=("*",)),
        runtimes={"claude": Runtime(args=("--x",))},
    )
    assert lines(old, new) == [
        "chat.announcers [] → [*]",
        "chat.url null → ws://h (needs a restart of the swarm)",
        "runtimes.claude.adapter (unset) → null (for newly spawned agents)",
        "runtimes.claude.args (unset) → [--x] (for newly spawned agents)",
        "runtimes.claude.command (unset) → null (for newly spawned agents)",
        "runtimes.claude.env (unset) → null (for newly spawned agents)",
        "runtimes.claude.pass_env (unset) → null (for newly spawned agents)",
        "workspace_base ~/dev/claude → /w (for newly spawned agents)",
    ]
    made = plan(data(old), data(new))
    assert [c.path for c in made.of(Applies.RESTART)] == ["chat.url"]


def test_a_roles_limits_are_live_and_its_prompt_is_not() -> None:
    old, new = Role(), Role(prompt="p", limits=RoleLimits(memory_mb=5))
    made = plan(data(Settings(), qa=old), data(Settings(), qa=new))
    assert [str(c) for c in made.changes] == [
        "roles.qa.limits.memory_mb null → 5",
        'roles.qa.prompt "" → p (for newly spawned agents)',
    ]


def test_a_role_that_comes_into_use_is_told_by_its_count_alone() -> None:
    assert plan(data(Settings()), data(Settings(), qa=Role(prompt="x"))).changes == ()


def test_secrets_are_not_shown() -> None:
    old, new = (
        Settings(runtimes={"x": Runtime(adapter="claude", env={"KEY": key})}) for key in "ab"
    )
    assert lines(old, new) == ["runtimes.x.env.KEY (hidden) → (hidden) (for newly spawned agents)"]


def _paths(shape: type[msgspec.Struct], prefix: str) -> list[str]:
    found = []
    for field in msgspec.structs.fields(shape):
        path = f"{prefix}{field.name}"
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            found += _paths(field.type, path + ".")
        else:
            found.append(path)
    return found


def test_every_setting_has_a_rule() -> None:
    paths = [*_paths(Settings, ""), *_paths(Role, "roles.x.")]
    paths += [f"runtimes.x.{field}" for field in Runtime.__struct_fields__]
    special = {"agents": "agents.x", "runtimes": "runtimes.x.y"}
    missing = [path for path in paths if real.rule_for(special.get(path, path)) is None]
    assert missing == []
    assert real.applies_to("something.new") is Applies.RESTART


@pytest.mark.parametrize(
    ("total", "weights", "share"),
    [
        (10, {"builder": 3, "qa": 2}, {"builder": 6, "qa": 4}),
        (7, {"a": 3, "b": 1, "c": 1}, {"a": 4, "b": 2, "c": 1}),
        (1, {"a": 1, "b": 1}, {"a": 1, "b": 0}),
        (3, {"a": 0, "b": 0}, {"a": 2, "b": 1}),
        (0, {"a": 3}, {"a": 0}),
        (0, {}, {}),
    ],
)
def test_proportions_are_kept(total: int, weights: dict, share: dict) -> None:
    assert apportion(total, weights) == share


@pytest.mark.parametrize(("total", "weights"), [(1, {}), (-1, {"a": 1}), (1, {"a": -1})])
def test_what_cannot_be_divided(total: int, weights: dict) -> None:
    with pytest.raises(ValueError, match=r"cannot|no role"):
        apportion(total, weights)


def check_apportion(module: ModuleType) -> None:
    @settings(max_examples=100, derandomize=True, database=None, phases=[Phase.generate])
    @given(
        st.integers(0, 200),
        st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 9), min_size=1),
    )
    def divides(total: int, weights: dict[str, int]) -> None:
        share = module.apportion(total, weights)
        assert list(share) == list(weights)
        assert sum(share.values()) == total, "agents lost or invented"
        whole = sum(weights.values())
        for role, weight in weights.items():
            exact = total * weight / whole if whole else total / len(weights)
            assert abs(share[role] - exact) < 1, "not in proportion"
            assert weight or not whole or not share[role], "a role of weight 0 was given agents"
        rests = sorted((total * w / whole - share[r] for r, w in weights.items()) if whole else [0])
        assert rests[-1] - rests[0] < 1 + 1e-9, "not the largest remainder"

    divides()


def test_a_fleet_is_divided_by_the_largest_remainder() -> None:
    check_apportion(real)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("key=lambda r: (share[r] - exact[r], -weigh[r], order[r])", "key=lambda r: weigh[r]"),
        ("total - sum(share.values())", "total - sum(share.values()) - 1"),
        ("role: int(part)", "role: round(part)"),
        ("role: 1 if even else weight", "role: max(1, weight)"),
    ],
)
def test_a_planted_bug_in_the_division_is_caught(old: str, new: str) -> None:
    with mutant(real, old, new) as planted, pytest.raises(AssertionError):
        check_apportion(planted)


def test_what_the_file_did_not_change_keeps_its_runtime_value() -> None:
    old, new = {"builder": 3, "qa": 1, "gone": 1}, {"builder": 3, "qa": 2, "fresh": 4}
    runtime = {"builder": 9, "qa": 7, "gone": 1, "asked": 2}
    assert reconcile_counts(old, new, runtime) == {
        "builder": 9,
        "qa": 2,
        "fresh": 4,
        "gone": 0,
        "asked": 2,
    }


role_counts = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 3))


def check_reconcile(module: ModuleType) -> None:
    @settings(max_examples=200, derandomize=True, database=None, phases=[Phase.generate])
    @given(role_counts, role_counts, role_counts)
    def reconciles(old: dict[str, int], new: dict[str, int], runtime: dict[str, int]) -> None:
        after = module.reconcile_counts(old, new, runtime)
        assert module.reconcile_counts(new, new, after) == after, "an unchanged file did something"
        for role in {*old, *new, *runtime}:
            if old.get(role, 0) != new.get(role, 0):
                assert after.get(role, 0) == new.get(role, 0), (
                    "what the file changed is not applied"
                )
            elif role in runtime:
                assert after[role] == runtime[role], "changed what the file did not"

    reconciles()


def test_a_reload_touches_what_the_file_touched() -> None:
    check_reconcile(real)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("else runtime[role]", "else new_file.get(role, 0)"),
        ("if role not in runtime or old_file", "if role not in runtime and old_file"),
        ("*(r for r in runtime if r not in new_file)", ""),
        ("old_file.get(role, 0) != new_file.get(role, 0)", "runtime[role] < new_file.get(role, 0)"),
    ],
)
def test_a_planted_bug_in_the_reload_is_caught(old: str, new: str) -> None:
    with mutant(real, old, new) as planted, pytest.raises((AssertionError, KeyError)):
        check_reconcile(planted)
