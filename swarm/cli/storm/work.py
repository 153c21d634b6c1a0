"""The storm's tasks: an endless supply by seed, each with the evidence it must leave; pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random

from swarm.core.model import Outcome, Review, TaskResult, TaskState

HASTY = "hasty"
"""The role whose sessions may take :data:`HASTY_MINUTES` only."""
HASTY_MINUTES = 0.08
SHARED = "shared.txt"
"""The file that many tasks add a line to, so that they conflict."""
SETTLE = "settle.sh"
"""The repository's script that a task adds its line with, whatever a merge has left there."""
LANE = "outside"
"""The lane that nobody of the fleet takes."""
FLAW = "flawed"
"""The content that no check lets pass."""


class Sort(StrEnum):
    """What a task's session does."""

    COMMIT = "commit"
    SLOW = "slow"
    FAMILY = "family"
    """It leaves processes behind that are hard to find."""
    STUBBORN = "stubborn"
    """It ignores TERM, and so do its children."""
    FAILS = "fails"
    """It fails on purpose, after a commit."""
    LEAVES = "leaves"
    """It leaves its work uncommitted."""
    QUOTA = "quota"
    HANGS = "hangs"
    ANSWERS = "answers"
    ASKS = "asks"
    """It asks a person, who never says anything."""
    LINE = "line"
    """It adds a line where others do: it is sent back when it conflicts."""
    FLAWED = "flawed"
    """The check refuses its first commit."""
    REVIEWED = "reviewed"
    """An agent has to accept its commit."""
    REVISED = "revised"
    """The reviewer wants more at first."""
    APPROVED = "approved"
    """A person has to approve its commit."""
    ANSWERED = "answered"
    """It asks a person, and goes on with the answer."""
    OUTSIDE = "outside"
    """It is in a lane that an outsider works."""
    REVIEW = "review"
    """A review, which the fleet asks for by itself: in no deck."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One task, and what is to come of it when nobody harms its session."""

    number: int
    sort: Sort
    role: str
    prompt: str
    outcome: Outcome
    state: TaskState
    result: TaskResult | None
    files: tuple[tuple[str, str], ...] = ()
    """Path and content that its branch must hold in the hub."""
    line: str = ""
    """The line of :data:`SHARED` that it adds."""
    review: Review = Review.NONE
    lane: str = ""

    @property
    def waits_for_ever(self) -> bool:
        """Whether its good end is a question that nobody answers."""
        return self.sort is Sort.ASKS


_DECK = (
    *(Sort.COMMIT,) * 5,
    *(Sort.SLOW,) * 4,
    *(Sort.FAMILY,) * 2,
    *(Sort.LEAVES,) * 2,
    Sort.STUBBORN,
    Sort.FAILS,
    Sort.QUOTA,
    Sort.HANGS,
    Sort.ANSWERS,
    Sort.ASKS,
    *(Sort.LINE,) * 3,
    Sort.FLAWED,
    *(Sort.REVIEWED,) * 2,
    Sort.REVISED,
    Sort.APPROVED,
    Sort.ANSWERED,
    *(Sort.OUTSIDE,) * 2,
)
REVIEW_PIECE = Piece(
    -1, Sort.REVIEW, "auditor", "", Outcome.SUCCEEDED, TaskState.DONE, TaskResult.ANSWER
)


def piece(seed: int, number: int) -> Piece:
    """Task ``number`` (from 0) of the storm of ``seed``; every sort is in each :data:`_DECK`."""
    round_, place = divmod(number, len(_DECK))
    deck = list(_DECK)
    Random(f"work {seed} {round_}").shuffle(deck)  # noqa: S311 - to be repeated, not secret
    random = Random(f"piece {seed} {number}")  # noqa: S311 - likewise
    return _MAKERS[deck[place]](number, random)


def _file(number: int, part: str = "") -> tuple[str, str]:
    return f"storm/n{number}{part}.txt", f"task {number}{part}"


def _write(file: tuple[str, str]) -> str:
    return f"write {file[0]} {file[1]}\n"


def _commit(file: tuple[str, str]) -> str:
    """A commit, and its id said: what was announced must be found again."""
    return f"{_write(file)}commit {file[1]}\nrun git rev-parse HEAD\n"


def _done(number: int, sort: Sort, prompt: str, *files: tuple[str, str]) -> Piece:
    text = f"storm task {number}, {sort}\nusage 100 20 0.001\n{prompt}answer {number} is done\n"
    result = TaskResult.MERGED if files else TaskResult.ANSWER
    return Piece(
        number, sort, "builder", text, Outcome.SUCCEEDED, TaskState.DONE, result, tuple(files)
    )


def _quick(number: int, _random: Random) -> Piece:
    one = _file(number)
    return _done(number, Sort.COMMIT, _commit(one), one)


def _slow(number: int, random: Random) -> Piece:
    one, two = _file(number, "a"), _file(number, "b")
    think = f"think {random.uniform(1, 4):.1f}\n"
    return _done(number, Sort.SLOW, _commit(one) + think + _commit(two), one, two)


def _family(number: int, random: Random) -> Piece:
    one = _file(number)
    family = f"setsid 600\ndaemonize 600\nfork 2 600\nthink {random.uniform(0.2, 2):.1f}\n"
    return _done(number, Sort.FAMILY, family + _commit(one), one)


def _stubborn(number: int, random: Random) -> Piece:
    one = _file(number)
    deaf = f"ignore-term\nsetsid 600\nfork 1 600\nthink {random.uniform(0.5, 3):.1f}\n"
    return _done(number, Sort.STUBBORN, deaf + _commit(one), one)


def _leaves(number: int, random: Random) -> Piece:
    one, two = _file(number, "a"), _file(number, "b")
    think = f"think {random.uniform(0, 1):.1f}\n"
    return _done(number, Sort.LEAVES, _commit(one) + think + _write(two), one, two)


def _quota(number: int, _random: Random) -> Piece:
    one = _file(number)
    return _done(number, Sort.QUOTA, f"once quota a while, try again in 2s\n{_commit(one)}", one)


def _answers(number: int, _random: Random) -> Piece:
    return _done(number, Sort.ANSWERS, "read README.md\n")


def _fails(number: int, _random: Random) -> Piece:
    one = _file(number)
    text = f"storm task {number}, fails\n{_commit(one)}fail on purpose\n"
    return Piece(
        number, Sort.FAILS, "builder", text, Outcome.FAILED, TaskState.FAILED, None, (one,)
    )


def _hangs(number: int, _random: Random) -> Piece:
    one, two = _file(number, "a"), _file(number, "b")
    text = f"storm task {number}, hangs\n{_commit(one)}{_write(two)}fork 1 600\nhang\n"
    return Piece(
        number, Sort.HANGS, HASTY, text, Outcome.TIMED_OUT, TaskState.FAILED, None, (one, two)
    )


def _asks(number: int, _random: Random) -> Piece:
    one = _file(number)
    text = f"storm task {number}, asks\n{_commit(one)}ask which way?\n"
    return Piece(
        number, Sort.ASKS, "builder", text, Outcome.SUCCEEDED, TaskState.NEEDS_HUMAN, None, (one,)
    )


def _line(number: int, random: Random) -> Piece:
    one, line = _file(number), f"line {number}"
    think = f"think {random.uniform(0, 1):.1f}\n"
    settle = f"run sh {SETTLE} {line}\n"
    return replace(_done(number, Sort.LINE, think + settle + _commit(one), one), line=line)


def _flawed(number: int, _random: Random) -> Piece:
    one = _file(number)
    first = f"once write {one[0]} {FLAW}\nagain {_write(one)}"
    rest = f"commit {one[1]}\nrun git rev-parse HEAD\n"
    return _done(number, Sort.FLAWED, first + rest, one)


def _reviewed(number: int, _random: Random) -> Piece:
    one = _file(number)
    found = _done(number, Sort.REVIEWED, f"review accept\n{_commit(one)}", one)
    return replace(found, review=Review.AGENT)


def _revised(number: int, _random: Random) -> Piece:
    one, two = _file(number, "a"), _file(number, "b")
    judge = f"review needs-revision unless {two[0]}\n"
    text = f"{judge}{_commit(one)}again {_write(two)}commit {two[1]}\nrun git rev-parse HEAD\n"
    # Where its first attempt is lost, its second writes both at once, and one review is enough.
    return replace(_done(number, Sort.REVISED, text, one, two), review=Review.AGENT)


def _approved(number: int, _random: Random) -> Piece:
    one = _file(number)
    return replace(_done(number, Sort.APPROVED, _commit(one), one), review=Review.HUMAN)


def _answered(number: int, _random: Random) -> Piece:
    one = _file(number)
    return _done(number, Sort.ANSWERED, f"{_commit(one)}once ask which way?\n", one)


def _outside(number: int, _random: Random) -> Piece:
    return replace(_done(number, Sort.OUTSIDE, "read README.md\n"), lane=LANE)


_MAKERS: dict[Sort, Callable[[int, Random], Piece]] = {
    Sort.COMMIT: _quick,
    Sort.SLOW: _slow,
    Sort.FAMILY: _family,
    Sort.STUBBORN: _stubborn,
    Sort.FAILS: _fails,
    Sort.LEAVES: _leaves,
    Sort.QUOTA: _quota,
    Sort.HANGS: _hangs,
    Sort.ANSWERS: _answers,
    Sort.ASKS: _asks,
    Sort.LINE: _line,
    Sort.FLAWED: _flawed,
    Sort.REVIEWED: _reviewed,
    Sort.REVISED: _revised,
    Sort.APPROVED: _approved,
    Sort.ANSWERED: _answered,
    Sort.OUTSIDE: _outside,
}
