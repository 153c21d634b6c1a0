"""Plan files in Markdown: as people write them, read into the same."""

from __future__ import annotations

import pytest

from swarm.core.model import OnFailed
from swarm.plans.model import PlanFile
from swarm.plans.reading import read_plan

ROLES = ("auditor", "builder", "qa")

ITEMS = """\
# The parser
role: qa
priority: 4

Some notes for people, which no session sees.

## First phase

- [ ] lexer: Split the lexer off
- [ ] tests: Test the lexer alone
      role: builder
      after: lexer, ids
      files: `tests/test_lexer.py`, src/lexer.py
      labels: effort=low, model=large
      on_failed: skip

      With more text,
        * and a list
        - [ ] even of boxes

  ```
  ## not: a task
  ```
* [x] ids: was done by hand
* [ ] Something without a key: but with a colon
"""

HEADINGS = """\
# The parser

## lexer: Split the lexer off

token_budget: 50k
usd_budget: $1.50

Its text.

### With a heading

- [ ] and boxes

```
## not: a task
```

## tests: Test the lexer alone
after: lexer
"""


def plan(text: str) -> PlanFile:
    found = read_plan(text, "plan.md", ROLES)
    assert found.plan is not None, [str(one) for one in found.problems]
    return found.plan


def problems(text: str) -> list[str]:
    found = read_plan(text, "plan.md", ROLES)
    assert found.plan is None
    return [str(one) for one in found.problems]


def test_items_of_a_check_list_are_tasks() -> None:
    found = plan(ITEMS)
    lexer, tests, other = found.tasks
    assert found.title == "The parser"
    assert (lexer.key, lexer.text, lexer.role, lexer.line) == (
        "lexer",
        "Split the lexer off",
        "qa",
        9,
    )
    assert (tests.role, tests.priority, tests.line) == ("builder", 4, 10)
    assert tests.after == ("lexer",)  # ids is ticked off, so nothing waits for it
    assert tests.files == ("tests/test_lexer.py", "src/lexer.py")
    assert tests.labels == {"effort": "low", "model": "large"}
    assert tests.on_failed is OnFailed.SKIP
    assert tests.text.startswith("Test the lexer alone\n\n")
    assert "- [ ] even of boxes" in tests.text
    assert "## not: a task" in tests.text
    assert (other.key, other.text) == ("task-3", "Something without a key: but with a colon")


def test_headings_with_a_key_are_tasks() -> None:
    lexer, tests = plan(HEADINGS).tasks
    assert (lexer.key, lexer.title, lexer.line) == ("lexer", "Split the lexer off", 3)
    assert lexer.text.startswith("Split the lexer off\n\nIts text.\n\n### With a heading")
    assert "## not: a task" in lexer.text
    assert (lexer.budget.tokens, lexer.budget.usd) == (50_000, 1.5)
    assert (tests.text, tests.after) == ("Test the lexer alone", ("lexer",))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("# Title\n\nwords\n", ["plan.md: holds no task"]),
        ("- [x] a: done\n", ["plan.md: holds no task"]),
        ("- [ ] a: x\n  rol: qa\n", ["plan.md:2: tasks[0].rol: there is no such key"]),
        ("- [ ] a: x\n  role: nobody\n", ["plan.md:2: tasks[0].role: there is no role 'nobody'"]),
        ("- [ ] a: x\n  role: qa\n  role: qa\n", ["plan.md:3: role: stands here a second time"]),
        ("- [ ] a: x\nwords\n", ["plan.md:2: belongs to no task: indent it"]),
        ("- [ ] a: x\n- [ ] a: y\n", ["plan.md:2: tasks[1].key: 'a' is the key of the task on"]),
        ("- [ ] a: x\n  priority: high\n", ["plan.md:2: tasks[0].priority: must be a whole"]),
        ("- [ ] a: x\n  after: b\n- [ ] b: x\n  after: a\n", ["plan.md:2: tasks[0].after: waits"]),
        ("## a: x\n\n## Notes\nwords\n", ["plan.md:3: is no task: write '## key: title'"]),
        (
            "# T\nrol: x\n\n- [ ] a: x\n  after: nowhere\n",
            ["plan.md:2: defaults.rol: there is no such key", "plan.md:5: tasks[0].after[0]: no"],
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, told: list[str]) -> None:
    found = problems(text)
    assert len(found) == len(told), found
    for line, begin in zip(found, told, strict=True):
        assert line.startswith(begin), line
