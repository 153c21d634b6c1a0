"""The demo's eight tasks; the scripted runtime does what their text literally says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Piece:
    """One task, and how many commits it is to leave."""

    role: str
    component: str
    title: str
    prompt: str
    commits: int


def _build(component: str, title: str, body: str, before_commit: str = "") -> Piece:
    prompt = (
        f"{title}\n"
        f"usage 1200 340 0.0021\n"
        f"write src/{component}.py {body}\n"
        f"{before_commit}"
        f"commit {title}\n"
        f"answer src/{component}.py is there\n"
    )
    return Piece("builder", component, title, prompt, commits=1)


def _look(role: str, component: str, title: str, answer: str) -> Piece:
    prompt = f"{title}\nusage 800 120 0.0009\nread README.md\nthink 0.3\nanswer {answer}\n"
    return Piece(role, component, title, prompt, commits=0)


VICTIM = _build(
    "report",
    "Write a report of word counts",
    "def report(counts):\\n    return sorted(counts.items())\\n",
    before_commit="once think 20\n",
)
"""Its daemon is killed while it thinks; the second attempt does not think."""

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

TASKS = (
    VICTIM,
    _build("count", "Count words", "def count(words):\\n    return {w: 1 for w in words}\\n"),
    _look("auditor", "words", "Audit the splitting of words", "splits on white space only"),
    _look("qa", "words", "Try words() on empty text", "it gives an empty list"),
    _build("lines", "Split lines", "def lines(text):\\n    return text.splitlines()\\n"),
    ANNOUNCED,
    _look("auditor", "repo", "Audit the layout of the project", "one package, no tests"),
    _build("trim", "Trim words", "def trim(word):\\n    return word.strip()\\n"),
)
