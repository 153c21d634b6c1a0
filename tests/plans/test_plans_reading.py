"""Plan files in YAML: what is read of them, and every problem with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.core.budget import Amount
from swarm.core.model import Merge, OnFailed, Review
from swarm.plans.model import MAX_TASKS, PlanFile, Read
from swarm.plans.reading import read_plan, read_plan_file

ROLES = ("auditor", "builder", "qa")


def plan(text: str, name: str = "plan.yaml") -> PlanFile:
    found = read_plan(text, name, ROLES)
    assert found.plan is not None, [str(one) for one in found.problems]
    return found.plan


def problems(text: str, name: str = "plan.yaml", *, made: bool = False) -> list[str]:
    found = read_plan(text, name, ROLES, made=made)
    assert found.plan is None
    return [str(one) for one in found.problems]


def test_everything_that_can_be_said_of_a_task() -> None:
    found = plan(
        "title: The release\n"
        "defaults: {role: qa, priority: 3, labels: {effort: low}, on_failed: skip}\n"
        "tasks:\n"
        "  - id: 1\n"
        "    prompt: First\n"
        "  - key: all\n"
        "    text: |\n"
        "      Do it.\n"
        "      Well.\n"
        "    title: Everything\n"
        "    role: builder\n"
        "    component: parser\n"
        "    priority: -5\n"
        "    after: [1, t-abcdefgh, p-k3f9/tests, earlier/docs]\n"
        "    files: [src/a.py, tests/]\n"
        "    on_failed: run\n"
        "    review: agent\n"
        "    merge: rebase\n"
        "    lane: night\n"
        "    labels: {model: 5}\n"
        "    thread: talk\n"
        "    token_budget: 50k\n"
        "    usd_budget: 0.5\n"
        "  - just words\n"
    )
    first, whole, words = found.tasks
    assert (found.title, first.key, first.text, first.line) == ("The release", "1", "First", 4)
    assert (first.role, first.priority, first.on_failed) == ("qa", 3, OnFailed.SKIP)
    assert (whole.key, whole.title, whole.text) == ("all", "Everything", "Do it.\nWell.")
    assert (whole.role, whole.component, whole.priority) == ("builder", "parser", -5)
    assert whole.after == ("1",)
    assert [ref for ref, _ in whole.outside] == ["t-abcdefgh", "p-k3f9/tests", "earlier/docs"]
    assert whole.prompt.endswith("Files of the repository this is about:\n- src/a.py\n- tests/")
    assert (whole.on_failed, whole.review, whole.merge) == (
        OnFailed.RUN,
        Review.AGENT,
        Merge.REBASE,
    )
    assert (whole.lane, whole.thread) == ("night", "talk")
    assert whole.labels == {"effort": "low", "model": "5"}
    assert whole.budget == Amount(50_000, 0.5)
    assert (words.key, words.prompt) == ("task-3", "just words")


def test_a_list_alone_is_a_plan() -> None:
    found = plan("- {key: a, text: x}\n- {text: y, after: a}\n")
    assert [(task.key, task.after, task.line) for task in found.tasks] == [
        ("a", (), 1),
        ("task-2", ("a",), 2),
    ]


EVERY_PROBLEM = """\
2: tasks[1].rol: there is no such key; did you mean 'role'?
3: tasks[2].role: there is no role 'bilder'; did you mean 'builder'?
3: tasks[2].after[0]: no task of this plan is called 'zz'; name another
3: tasks[2].after[1]: no task of this plan is called 't-1'; name another
4: tasks[3].key: 'a' is the key of the task on line 1 too
4: tasks[3]: has no text: say what is to be done, with 'text:'
5: tasks[4].priority: must be a whole number from -100 to 100 or null, not 101
5: tasks[4].key: 'e e' cannot be a task's key: use 1 to 64 letters
5: tasks[4].files[0]: '/etc/passwd' must be a path inside the repository
5: tasks[4].files[1]: '../x' must be a path inside the repository
5: tasks[4].files[2]: '.git/config' must be a path inside the repository
6: tasks[5]: must be text or a mapping ('key: value' lines), not 17
7: tasks[6].text: must be text or null, not 12; put it in quotes
7: tasks[6].prompt: stands beside text; give one of them
7: tasks[6].after[0]: 'g' is after itself
8: tasks[7].on_failed: must be one of hold, run, skip or null, not 'explode'
8: tasks[7]: label 'A=x' cannot be; use KEY=VALUE
""".splitlines()


def test_every_problem_is_told_at_once_with_its_line() -> None:
    told = problems(
        "- {key: a, text: x, after: [b]}\n"
        "- {key: b, text: x, after: [a], rol: qa}\n"
        "- {key: c, text: x, after: [zz, t-1], role: bilder}\n"
        "- {key: a, text: ''}\n"
        "- {key: e e, text: x, priority: 101, files: [/etc/passwd, ../x, .git/config]}\n"
        "- 17\n"
        "- {key: g, text: 12, prompt: x, after: g}\n"
        "- {key: h, text: x, on_failed: explode, labels: {A: x}}\n"
    )
    assert len(told) == len(EVERY_PROBLEM)
    for line, begin in zip(told, EVERY_PROBLEM, strict=True):
        assert line.startswith(f"plan.yaml:{begin}")


def test_a_circle_is_shown_as_its_way_round() -> None:
    (told, other) = problems(
        "- {key: z, text: x}\n"
        "- {key: a, text: x, after: [b, z]}\n"
        "- {key: b, text: x, after: c}\n"
        "- {key: c, text: x, after: a}\n"
        "- {key: d, text: x, after: e}\n"
        "- {key: e, text: x, after: [d, a]}\n"
    )
    assert told == "plan.yaml:2: tasks[1].after: waits for itself: a → b → c → a; break the circle"
    assert other == "plan.yaml:5: tasks[4].after: waits for itself: d → e → d; break the circle"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "plan.yaml: holds no task"),
        ("tasks: []", "plan.yaml: holds no task"),
        ("tasks: 3", "plan.yaml:1: tasks: must be a list"),
        ("task: []", "plan.yaml:1: task: there is no such key; did you mean 'tasks'?"),
        ("a: &x 1", "plan.yaml:1: a: there is no such key"),
        ("- &x {text: a}\n- *x\n", "plan.yaml:2: tasks[1]: aliases (*name) are not read here"),
        ("- text: a\n\tkey: b\n", "plan.yaml:2: YAML is indented with spaces"),
        ("- {text: a}\n- {text: a", "plan.yaml:2: is not YAML here"),
        ("- {text: a, text: b}", "plan.yaml:1: tasks[0].text: stands here a second time"),
        ("- {text: 'a\0'}", "plan.yaml:1: holds a character that no text file should"),
        ("- {text: x, token_budget: many}", "plan.yaml:1: tasks[0].token_budget: 'many' is no"),
        ("- {text: x, token_budget: 0}", "must be a whole number of 1 or more or text"),
        ("defaults: {role: nobody}\ntasks: [x]", "plan.yaml:1: defaults.role: there is no role"),
        ("defaults: {after: a}\ntasks: [x]", "plan.yaml:1: defaults.after: there is no such key"),
    ],
)
def test_what_is_no_plan_says_why(text: str, told: str) -> None:
    assert told in problems(text)[0]


def test_a_plan_may_not_be_too_large() -> None:
    assert "give at most 10000" in problems("[" + "x," * (MAX_TASKS + 1) + "]")[0]
    big = "- text: x\n" * MAX_TASKS
    assert len(plan(big).tasks) == MAX_TASKS
    assert "is larger than 8192 KiB" in problems(" " * (8 * 1024 * 1024 + 1))[0]
    assert "has 262145 bytes" in problems(f"- {'x' * (256 * 1024 + 1)}")[0]


def test_a_session_may_not_say_what_a_person_has_to() -> None:
    text = (
        "defaults: {merge: merge}\n"
        "tasks:\n"
        "- {key: a, text: x, review: none, after: t-abcdefgh}\n"
        "- {key: b, text: x, usd_budget: 5, lane: fast, token_budget: 1}\n"
    )
    plan(text)
    told = problems(text, made=True)
    assert [line.partition(": ")[0] for line in told] == [
        "plan.yaml:1",
        *["plan.yaml:3"] * 2,
        *["plan.yaml:4"] * 3,
    ]
    assert sum("is for a person to say" in line for line in told) == 5
    assert told[2].endswith("'t-abcdefgh' is no task of this plan; remove it")


def test_a_sessions_plan_that_was_cut_is_refused() -> None:
    """Its last tasks would be missing, and what is left might still be a plan."""
    text = "- text: x\n" * 6_000
    plan(text)
    assert problems(text, made=True) == [
        "plan.yaml: is longer than 59,000 characters, so its end is missing"
    ]


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    def told(path: Path) -> str:
        (problem,) = read_plan_file(path, ROLES).problems
        return str(problem)

    assert told(tmp_path / "none.yaml").endswith("cannot be read: No such file or directory")
    assert told(tmp_path).endswith("is not a regular file; name a text file")
    (tmp_path / "latin.yaml").write_bytes(b"- a\n- \xe4\n")
    assert told(tmp_path / "latin.yaml").endswith(
        "latin.yaml:2: is not UTF-8 text; save it as UTF-8"
    )
    (tmp_path / "good.yaml").write_bytes(b"\xef\xbb\xbf- a\n")
    assert read_plan_file(tmp_path / "good.yaml", ROLES).plan is not None


_KEYS = st.sampled_from(
    ["key", "id", "text", "prompt", "after", "files", "role", "priority", "labels", "a.b", "x[0]"]
)
_VALUES = st.recursive(
    st.sampled_from(["a", "b", "", "t-abcdefgh", "earlier/a", "null", "3", "~", "'x'", "1e9"]),
    lambda inner: st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"),
    max_leaves=4,
)


@given(
    st.lists(
        st.one_of(_VALUES, st.dictionaries(_KEYS, _VALUES, max_size=4).map(
            lambda one: "{" + ", ".join(f"{key}: {value}" for key, value in one.items()) + "}"
        )),
        max_size=5,
    ),
    st.booleans(),
)  # fmt: skip
def test_whatever_is_written_is_a_plan_or_problems(entries: list[str], made: bool) -> None:
    _either(read_plan("\n".join(f"- {one}" for one in entries), "x.yaml", ROLES, made=made))


@given(
    st.text(alphabet="-[] xX#:`ab,\n\t>*kt0{}&'\"|", max_size=120), st.sampled_from(["md", "yaml"])
)
def test_so_is_any_text(text: str, form: str) -> None:
    _either(read_plan(text, f"x.{form}", ROLES))


def _either(found: Read) -> None:
    assert (found.plan is None) == bool(found.problems)
    if found.plan is not None:
        keys = {task.key for task in found.plan.tasks}
        assert len(keys) == len(found.plan.tasks)
        assert all(keys.issuperset(task.after) for task in found.plan.tasks)
