"""A stand-in model provider on loopback: real agent CLIs run against it, for nothing.

It speaks, streaming, Anthropic Messages (``/v1/messages``), OpenAI Responses (``/v1/responses``)
and OpenAI chat completions (``/v1/chat/completions``).  In mode ``work`` a script
(:mod:`standin_script`) decides from the conversation what the "model" does next; without one it
asks for one shell command and, when its output has come back, says that it is done.  The other
modes answer every request with an error.  On its own::

    python tests/standin_provider.py [--mode MODE] [--port PORT] [--command COMMAND]

prints its address and serves until it is ended.
"""

from __future__ import annotations

import argparse
import itertools
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from standin_script import COMMAND, DONE, Asked, Call, Move, Script, Shell, always, asked, tools_of

MODES = ("work", "talk", "429", "429-retried", "overflow", "500", "hang")
"""``429`` is a usage limit with its reset time, which need not be retried; ``429-retried`` a rate
limit that a client retries; ``hang`` never answers."""

RESETS = "2099-11-20T17:00Z"
INPUT_TOKENS = 1200
OUTPUT_TOKENS = 34

_numbers = itertools.count(1)

_ERRORS: dict[str, tuple[int, str, str]] = {
    "429": (429, "rate_limit_error", f"You have hit your usage limit. Resets at {RESETS}"),
    "429-retried": (429, "rate_limit_error", "Too many requests, slow down"),
    "overflow": (
        400,
        "invalid_request_error",
        "prompt is too long: 250000 tokens > 200000 maximum",
    ),
    "500": (500, "api_error", "Internal server error"),
}


@dataclass
class Provider:
    """A running stand-in; ``mode`` may change while it runs, ``requests`` is what it was asked."""

    mode: str = "work"
    script: Script = field(default_factory=always)
    address: str = ""
    requests: list[tuple[str, Any]] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def asked(self, path: str) -> list[Any]:
        """The bodies of the requests whose path begins with ``path``."""
        return [body for to, body in self.requests if to.startswith(path)]

    def conversations(self) -> list[Asked]:
        """Every request to a model, as its script got it."""
        return [told for path, body in self.requests if (told := asked(path, body)) is not None]


@contextmanager
def standin_provider(
    mode: str = "work", script: Script | None = None, port: int = 0
) -> Iterator[Provider]:
    """Serve in a thread; yields the provider, ``address`` without a path at its end."""
    provider = Provider(mode=mode, script=script or always())

    class Bound(_Handler):
        provider_of = provider

    server = ThreadingHTTPServer(("127.0.0.1", port), Bound)
    server.daemon_threads = True
    server.block_on_close = False
    provider.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield provider
    finally:
        provider.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    provider_of: Provider
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing: the requests are kept in the provider."""

    def do_HEAD(self) -> None:
        self._send(200, b"", "text/plain")

    def do_GET(self) -> None:
        self._send_json(200, {"data": [], "models": []})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            body = json.loads(raw)
        except ValueError:
            body = {}
        path = self.path.partition("?")[0]
        provider = self.provider_of
        provider.requests.append((path, body))
        if path.endswith("/count_tokens"):
            self._send_json(200, {"input_tokens": INPUT_TOKENS})
            return
        dialect = next((d for end, d in _DIALECTS.items() if path.endswith(end)), None)
        if dialect is None:
            self._send_json(404, {"error": {"type": "not_found_error", "message": path}})
        elif provider.mode in _ERRORS:
            status, kind, message = _ERRORS[provider.mode]
            error = {"type": "error", "error": {"type": kind, "message": message}}
            self._send_json(status, error)
        elif provider.mode == "hang":
            provider.closing.wait()
        else:
            told = asked(path, body)
            move = provider.script(told) if told and provider.mode == "work" else DONE
            events = dialect(body, move if told and _can(move, told.tools) else DONE)
            self._send(200, "".join(events).encode(), "text/event-stream")

    def _send_json(self, status: int, body: object) -> None:
        self._send(status, json.dumps(body).encode(), "application/json")

    def _send(self, status: int, body: bytes, content_type: str) -> None:
        try:
            self.send_response(status)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(body)))
            if self.provider_of.mode == "429":
                self.send_header("x-should-retry", "false")
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # the client was killed: that is what some tests do


def _sse(data: object, event: str = "") -> str:
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {data if isinstance(data, str) else json.dumps(data)}\n\n"


SHELLS = ("Bash", "exec_command", "shell_command", "shell", "bash")
"""What the CLIs call their shell tool, and each version of one."""


def _can(move: Move, tools: Mapping[str, Any]) -> bool:
    """Whether this request offers the tool: one for a conversation's title offers none."""
    match move:
        case Shell():
            return any(name in tools for name in SHELLS)
        case Call(tool=tool):
            return tool in tools
        case _:
            return True


def _call(move: Shell | Call, tools: Mapping[str, Any]) -> tuple[str, str]:
    """The tool to name, and its arguments as this version of the CLI takes them."""
    if isinstance(move, Call):
        return move.tool, json.dumps(dict(move.arguments))
    name = next(name for name in SHELLS if name in tools)
    match name:
        case "exec_command":
            arguments: dict[str, Any] = {"cmd": move.command}
        case "shell":
            arguments = {"command": ["bash", "-lc", move.command]}
        case "shell_command":
            arguments = {"command": move.command}
        case _:
            arguments = {"command": move.command, "description": "make the file"}
    return name, json.dumps(arguments)


# -- Anthropic Messages ---------------------------------------------------------------------------


def _anthropic(body: Any, move: Move) -> Iterator[str]:
    usage = {
        "input_tokens": INPUT_TOKENS,
        "output_tokens": 1,
        "cache_read_input_tokens": 7,
        "cache_creation_input_tokens": 5,
    }
    message = {
        "id": f"msg_{next(_numbers):06d}",
        "type": "message",
        "role": "assistant",
        "model": body.get("model", "stub"),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    yield _sse({"type": "message_start", "message": message}, "message_start")
    if isinstance(move, str):
        block: dict[str, Any] = {"type": "text", "text": ""}
        delta = {"type": "text_delta", "text": move}
    else:
        name, arguments = _call(move, tools_of(body))
        block = {
            "type": "tool_use",
            # Unique: a repeated id in a resumed session is taken for an interrupted call.
            "id": f"toolu_{next(_numbers):06d}",
            "name": name,
            "input": {},
        }
        delta = {"type": "input_json_delta", "partial_json": arguments}
    reason = "end_turn" if isinstance(move, str) else "tool_use"
    for event in (
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": None},
            "usage": {"output_tokens": OUTPUT_TOKENS},
        },
        {"type": "message_stop"},
    ):
        yield _sse(event, str(event["type"]))


# -- OpenAI Responses -----------------------------------------------------------------------------


def _responses(body: Any, move: Move) -> Iterator[str]:
    item: dict[str, Any]
    if isinstance(move, str):
        content = [{"type": "output_text", "text": move, "annotations": []}]
        item = {"type": "message", "id": "m_1", "role": "assistant", "content": content}
    else:
        tools = tools_of(body)
        name, arguments = _call(move, tools)
        space = tools[name].get("namespace")
        item = {
            "type": "function_call",
            "id": "fc_1",
            "call_id": f"call_{next(_numbers):06d}",
            "name": name.removeprefix(f"{space}__"),
            "arguments": arguments,
        } | ({"namespace": space} if space else {})
    usage = {
        "input_tokens": INPUT_TOKENS,
        "input_tokens_details": {"cached_tokens": 7},
        "output_tokens": OUTPUT_TOKENS,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
    }
    response = {"id": "resp_1", "object": "response", "status": "in_progress", "output": []}
    finished = {**response, "status": "completed", "output": [item], "usage": usage}
    for event in (
        {"type": "response.created", "response": response},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": finished},
    ):
        yield _sse(event, str(event["type"]))


# -- OpenAI chat completions ----------------------------------------------------------------------


def _completions(body: Any, move: Move) -> Iterator[str]:
    if isinstance(move, str):
        delta: dict[str, Any] = {"role": "assistant", "content": move}
    else:
        name, arguments = _call(move, tools_of(body))
        call = {
            "index": 0,
            "id": f"call_{next(_numbers):06d}",
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }
        delta = {"role": "assistant", "content": None, "tool_calls": [call]}
    usage = {
        "prompt_tokens": INPUT_TOKENS,
        "completion_tokens": OUTPUT_TOKENS,
        "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
    }
    base = {"id": "c_1", "object": "chat.completion.chunk", "created": 1, "model": "stub"}
    reason = "stop" if isinstance(move, str) else "tool_calls"
    yield _sse({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    yield _sse({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
    yield _sse({**base, "choices": [], "usage": usage})
    yield _sse("[DONE]")


_DIALECTS = {
    "/messages": _anthropic,
    "/responses": _responses,
    "/chat/completions": _completions,
}


# -- pointing the CLIs at it ----------------------------------------------------------------------


def claude_environment(address: str) -> dict[str, str]:
    """What points Claude Code at the provider."""
    return {"ANTHROPIC_BASE_URL": address, "ANTHROPIC_API_KEY": "sk-ant-stand-in"}


def codex_config(address: str) -> str:
    """The ``config.toml`` of a ``CODEX_HOME`` that points Codex at the provider.

    Retries are few: a test of an error should not wait for the CLI's patience.
    """
    return f"""model = "stub"
model_provider = "standin"
check_for_update_on_startup = false

[analytics]
enabled = false

[model_providers.standin]
name = "stand-in"
base_url = "{address}/v1"
wire_api = "responses"
env_key = "OPENAI_API_KEY"
request_max_retries = 1
stream_max_retries = 1
"""


def opencode_config(address: str) -> str:
    """The ``opencode.json`` that points opencode at the provider, with its model chosen.

    No session asks for a title: that is a second start of half the program.
    """
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "stand-in",
        "options": {"baseURL": f"{address}/v1", "apiKey": "stand-in"},
        "models": {"stub": {"name": "stub", "limit": {"context": 200000, "output": 8000}}},
    }
    return json.dumps(
        {
            "$schema": "https://opencode.ai/config.json",
            "autoupdate": False,
            "share": "disabled",
            "model": "standin/stub",
            "small_model": "standin/stub",
            "provider": {"standin": provider},
            "agent": {"title": {"disable": True}},
        }
    )


def point(cli: str, address: str, home: Path) -> dict[str, str]:
    """Point ``cli`` at the provider for a person whose home is ``home``.

    Writes the configuration that person would have; returns the variables of their environment.
    """
    match cli:
        case "claude":
            return claude_environment(address)
        case "codex":
            config, text = home / ".codex" / "config.toml", codex_config(address)
        case "opencode":
            config, text = home / ".config/opencode/opencode.json", opencode_config(address)
        case _:
            raise ValueError(cli)
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(text)
    return {"OPENAI_API_KEY": "stand-in"}


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="stand-in model provider for agent CLIs")
    parser.add_argument("--mode", choices=MODES, default="work")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--command", default=COMMAND, help="what the model asks the shell to do")
    options = parser.parse_args(argv)
    with standin_provider(options.mode, always(options.command), options.port) as provider:
        print(provider.address, flush=True)
        try:
            provider.closing.wait()
        except KeyboardInterrupt:
            return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
