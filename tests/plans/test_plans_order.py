"""What waits for what: circles, waves, and two tasks about one file."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from swarm.plans.model import PlanTask
from swarm.plans.order import circles, conflicts, in_order, waves


def task(key: str, *after: str, priority: int = 0, files: tuple[str, ...] = ()) -> PlanTask:
    return PlanTask(key, key, 0, after=after, priority=priority, files=files)


def test_waves_are_by_depth_then_priority() -> None:
    tasks = [
        task("d", "b", "c"),
        task("a"),
        task("b", "a"),
        task("c", "a", priority=5),
        task("e", priority=9),
    ]
    assert [[one.key for one in wave] for wave in waves(tasks)] == [["e", "a"], ["c", "b"], ["d"]]
    assert waves([]) == []


def test_a_chain_of_ten_thousand_is_no_trouble() -> None:
    tasks = [task(str(n), *([str(n - 1)] if n else [])) for n in range(10_000)]
    assert len(waves(tasks)) == 10_000
    (circle,) = circles({str(n): [str((n + 1) % 10_000)] for n in range(10_000)})
    assert len(circle) == 10_001


def test_two_tasks_about_one_file_that_no_order_keeps_apart() -> None:
    tasks = [
        task("a", files=("src/x.py",)),
        task("b", "a", files=("./src/x.py", "y.py")),
        task("c", "b", files=("y.py",)),
        task("d", "a", files=("src//x.py",)),
    ]
    found, count = conflicts(tasks)
    assert [(one.path, one.one, one.other) for one in found] == [("src/x.py", "b", "d")]
    assert count == 1
    many, count = conflicts([task(str(n), files=("x",)) for n in range(50)])
    assert (len(many), count) == (20, 49)
    assert conflicts([task("a"), task("b")]) == ([], 0)


@given(
    st.dictionaries(st.sampled_from("abcdefg"), st.lists(st.sampled_from("abcdefgh"), max_size=3))
)
def test_a_circle_is_told_exactly_when_there_is_one(after: dict[str, list[str]]) -> None:
    found = list(circles(after))
    for circle in found:
        assert circle[0] == circle[-1]
        assert all(b in after[a] for a, b in itertools.pairwise(circle))
    within = {key: tuple({ref for ref in refs if ref in after}) for key, refs in after.items()}
    tasks = [task(key, *refs) for key, refs in within.items()]
    assert bool(found) == (len(in_order(tasks)) < len(tasks))
    if not found:
        place = {key: number for number, wave in enumerate(waves(tasks)) for key in
                 (one.key for one in wave)}  # fmt: skip
        assert all(place[ref] < place[one.key] for one in tasks for ref in one.after)
