"""What a stand-in "model" says next, decided by what it is told; and how it is told, by dialect.

A script is a pure function of a conversation: the same request gets the same answer, in whatever
order the requests of several sessions come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

COMMAND = "echo 'made by the session' > made.txt && git add made.txt && git commit -qm 'add made'"
DONE = "Done: wrote made.txt and committed it."


@dataclass(frozen=True, slots=True)
class Call:
    """The use of a tool, by the name that the CLI gives it."""

    tool: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Shell:
    """One shell command, by whatever tool the CLI has for that."""

    command: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A conversation as a model gets it, without what a CLI adds of its own."""

    prompts: tuple[str, ...] = ()
    """What was said to the model, oldest first; a resumed session has more than one."""
    outputs: tuple[str, ...] = ()
    """What its tools answered since the newest prompt."""
    tools: Mapping[str, Any] = field(default_factory=dict)
    """The tools that are offered, by name."""

    @property
    def prompt(self) -> str:
        """The newest prompt."""
        return self.prompts[-1] if self.prompts else ""


Move = Call | Shell | str
"""A tool to use, or the words that end the turn."""
Script = Callable[[Asked], Move]


def always(command: str = COMMAND, words: str = DONE) -> Script:
    """The same command, whatever is asked, and then the same words."""
    return lambda asked: words if asked.outputs else Shell(command)


# -- reading the dialects -------------------------------------------------------------------------

_CLI_SAYS = ("<system-reminder>", "<environment_context>", "<user_instructions>", "# AGENTS.md")
"""How a text begins that a CLI puts into the conversation in the user's place."""


def asked(path: str, body: Any) -> Asked | None:
    """What a request asks; ``None`` for a path that is of no dialect."""
    for end, read in _READERS.items():
        if path.endswith(end):
            prompts: list[str] = []
            outputs: list[str] = []
            for kind, text in read(body):
                if kind == "output":
                    outputs.append(text)
                elif text.strip() and not text.lstrip().startswith(_CLI_SAYS):
                    prompts.append(text)
                    outputs.clear()
            return Asked(tuple(prompts), tuple(outputs), tools_of(body))
    return None


def tools_of(body: Any) -> dict[str, Any]:
    """The tools that a request offers, by name, in any dialect.

    A tool of an MCP server is ``mcp__SERVER__TOOL``, also where the request has a ``namespace`` of
    tools for each server (codex).
    """
    named = {}
    for tool in body.get("tools") or []:
        name = tool.get("name") or (tool.get("function") or {}).get("name")
        if tool.get("type") == "namespace":
            for inner in tool.get("tools") or []:
                named[f"{name}__{inner['name']}"] = {**inner, "namespace": name}
        elif name:
            named[name] = tool
    return named


def _text(content: Any) -> str:
    """The text of a content: a string, a list of blocks, or anything else as it is written."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(str(b.get("text", "")) if isinstance(b, dict) else str(b) for b in content)
    return "" if content is None else str(content)


def _blocks(content: Any) -> list[Any]:
    return content if isinstance(content, list) else [{"type": "text", "text": _text(content)}]


def _anthropic(body: Any) -> Iterator[tuple[str, str]]:
    for message in body.get("messages") or []:
        if message.get("role") != "user":
            continue
        for block in _blocks(message.get("content")):
            if block.get("type") == "tool_result":
                yield "output", _text(block.get("content"))
            elif block.get("type") == "text":
                yield "prompt", str(block.get("text", ""))


def _responses(body: Any) -> Iterator[tuple[str, str]]:
    given = body.get("input") or []
    for item in given if isinstance(given, list) else [{"role": "user", "content": given}]:
        if str(item.get("type", "")).endswith("_output"):
            yield "output", _text(item.get("output"))
        elif item.get("role") == "user":
            for block in _blocks(item.get("content")):
                yield "prompt", str(block.get("text", ""))


def _completions(body: Any) -> Iterator[tuple[str, str]]:
    for message in body.get("messages") or []:
        if message.get("role") == "tool":
            yield "output", _text(message.get("content"))
        elif message.get("role") == "user":
            yield "prompt", _text(message.get("content"))


_READERS = {
    "/messages": _anthropic,
    "/responses": _responses,
    "/chat/completions": _completions,
}
