"""The demo's eight tasks; the scripted runtime does what their text literally says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Piece:
    """One task, and how many commits its first attempt is to make."""

    role: str
    component: str
    title: str
    prompt: str
    commits: int
    review: str = ""
    """Who approves it before it lands; empty: nobody."""


def _build(component: str, title: str, body: str, extra: str = "", review: str = "") -> Piece:
    """``extra``: directives before the commit."""
    prompt = (
        f"{title}\n"
        f"usage 1200 340 0.0021\n"
        f"write src/{component}.py {body}\n"
        f"{extra}"
        f"commit {title}\n"
        f"answer src/{component}.py is there\n"
    )
    return Piece("builder", component, title, prompt, 1, review)


def _look(role: str, component: str, title: str, answer: str) -> Piece:
    prompt = f"{title}\nusage 800 120 0.0009\nread README.md\nthink 0.3\nanswer {answer}\n"
    return Piece(role, component, title, prompt, commits=0)


VICTIM = _build(
    "report",
    "Write a report of word counts",
    "def report(counts):\\n    return sorted(counts.items())\\n",
    extra="once think 20\n",
)
"""Its daemon is killed while it thinks; the second attempt does not think."""

REVISED = _build(
    "trim",
    "Trim words",
    "def trim(word):\\n    return word.strip()\\n",
    extra="again write tests/trim.txt trim(' a ') gives 'a'\n"
    "review needs-revision unless tests/trim.txt\n",
    review="agent",
)
"""An auditor sends it back, as it has no test, and accepts what comes then."""

APPROVED = _build(
    "count",
    "Count words",
    "def count(words):\\n    return {w: 1 for w in words}\\n",
    review="human",
)
"""A person says yes to it."""

ANNOUNCED = Piece(
    "qa",
    "docs",
    "Check what the README promises",
    "Check what the README promises\nusage 600 90 0.0005\nread README.md\n"
    "write docs/checked.md The README was read.\ncommit Note what was checked\n"
    "answer the README promises little and keeps it\n",
    commits=1,
)
"""This one comes over the chat."""

SINGLE = (
    VICTIM,
    REVISED,
    APPROVED,
    _look("auditor", "words", "Audit the splitting of words", "splits on white space only"),
    _look("qa", "words", "Try words() on empty text", "it gives an empty list"),
    ANNOUNCED,
)
"""Added one by one."""

PLAN = (
    _build("lines", "Split lines", "def lines(text):\\n    return text.splitlines()\\n"),
    Piece(
        "builder",
        "lines",
        "Leave out empty lines",
        "Leave out empty lines\nusage 900 210 0.0014\nread src/lines.py\n"
        "append src/lines.py def full(text):\\n    return [l for l in lines(text) if l]\\n\n"
        "commit Leave out empty lines\nanswer full() goes on from lines()\n",
        commits=1,
    ),
)
"""These come as a plan, each after the one before: it goes on from what that one has landed."""

TASKS = (*SINGLE, *PLAN)


def plan_text(pieces: Sequence[Piece]) -> str:
    """A plan file: strings are JSON strings, which YAML reads as they are."""
    lines = ["title: Lines of text", "tasks:"]
    for number, piece in enumerate(pieces):
        lines.append(f"  - key: step-{number}")
        lines += [f"    after: [step-{number - 1}]"] * (number > 0)
        for key in ("role", "component", "title"):
            lines.append(f"    {key}: {json.dumps(getattr(piece, key))}")
        lines.append(f"    text: {json.dumps(piece.prompt)}")
    return "\n".join([*lines, ""])
