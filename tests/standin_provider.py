"""A stand-in model provider on loopback: real agent CLIs run against it, for nothing.

It speaks, streaming, Anthropic Messages (``/v1/messages``), OpenAI Responses (``/v1/responses``)
and OpenAI chat completions (``/v1/chat/completions``).  In mode ``work`` the "model" first asks
for one shell command and, when its output has come back, says that it is done; the other modes
answer every request with an error.  On its own::

    python tests/standin_provider.py [--mode MODE] [--port PORT] [--command COMMAND]

prints its address and serves until it is ended.
"""

from __future__ import annotations

import argparse
import itertools
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMAND = "echo 'made by the session' > made.txt && git add made.txt && git commit -qm 'add made'"
DONE = "Done: wrote made.txt and committed it."
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
    command: str = COMMAND
    address: str = ""
    requests: list[tuple[str, Any]] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def asked(self, path: str) -> list[Any]:
        """The bodies of the requests whose path begins with ``path``."""
        return [body for asked, body in self.requests if asked.startswith(path)]


@contextmanager
def standin_provider(
    mode: str = "work", command: str = COMMAND, port: int = 0
) -> Iterator[Provider]:
    """Serve in a thread; yields the provider, ``address`` without a path at its end."""
    provider = Provider(mode=mode, command=command)

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
            events = dialect(body, provider.command if provider.mode == "work" else "")
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


def _tools(body: Any) -> dict[str, Any]:
    tools = body.get("tools") or []
    named = {}
    for tool in tools:
        name = tool.get("name") or (tool.get("function") or {}).get("name")
        if name:
            named[name] = tool
    return named


# -- Anthropic Messages ---------------------------------------------------------------------------


def _answered(messages: list[Any]) -> bool:
    """Whether a tool's output came after the model's last word; reminders may follow it."""
    for message in reversed(messages):
        if message.get("role") == "assistant":
            return False
        content = message.get("content")
        if isinstance(content, list) and any(b.get("type") == "tool_result" for b in content):
            return True
    return False


def _anthropic(body: Any, command: str) -> Iterator[str]:
    answered = _answered(body["messages"])
    work = bool(command) and "Bash" in _tools(body) and not answered
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
    if work:
        call = json.dumps({"command": command, "description": "make the file"})
        block: dict[str, Any] = {
            "type": "tool_use",
            # Unique: a repeated id in a resumed session is taken for an interrupted call.
            "id": f"toolu_{next(_numbers):06d}",
            "name": "Bash",
            "input": {},
        }
        delta = {"type": "input_json_delta", "partial_json": call}
    else:
        block = {"type": "text", "text": ""}
        delta = {"type": "text_delta", "text": DONE}
    for event in (
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use" if work else "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": OUTPUT_TOKENS},
        },
        {"type": "message_stop"},
    ):
        yield _sse(event, str(event["type"]))


# -- OpenAI Responses -----------------------------------------------------------------------------


def _shell_call(tools: dict[str, Any], command: str) -> tuple[str, str] | None:
    """The shell tool this version of the CLI offers, and the arguments it takes."""
    if "exec_command" in tools:
        return "exec_command", json.dumps({"cmd": command})
    if "shell_command" in tools:
        return "shell_command", json.dumps({"command": command})
    if "shell" in tools:
        return "shell", json.dumps({"command": ["bash", "-lc", command]})
    return None


def _responses(body: Any, command: str) -> Iterator[str]:
    given = body.get("input") or []
    last = given[-1] if isinstance(given, list) and given else {}
    answered = str(last.get("type", "")).endswith("_output")
    call = None if answered or not command else _shell_call(_tools(body), command)
    item: dict[str, Any]
    if call:
        name, arguments = call
        item = {
            "type": "function_call",
            "id": "fc_1",
            "call_id": f"call_{next(_numbers):06d}",
            "name": name,
            "arguments": arguments,
        }
    else:
        content = [{"type": "output_text", "text": DONE, "annotations": []}]
        item = {"type": "message", "id": "m_1", "role": "assistant", "content": content}
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


def _completions(body: Any, command: str) -> Iterator[str]:
    answered = body["messages"][-1].get("role") == "tool"
    work = bool(command) and "bash" in _tools(body) and not answered
    if work:
        arguments = json.dumps({"command": command, "description": "make the file"})
        function = {"name": "bash", "arguments": arguments}
        call = {
            "index": 0,
            "id": f"call_{next(_numbers):06d}",
            "type": "function",
            "function": function,
        }
        delta: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [call]}
    else:
        delta = {"role": "assistant", "content": DONE}
    usage = {
        "prompt_tokens": INPUT_TOKENS,
        "completion_tokens": OUTPUT_TOKENS,
        "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
    }
    base = {"id": "c_1", "object": "chat.completion.chunk", "created": 1, "model": "stub"}
    reason = "tool_calls" if work else "stop"
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

QUIET = {
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
}
"""No CLI updates itself or phones home in a test."""


def claude_environment(address: str) -> dict[str, str]:
    """What points Claude Code at the provider."""
    return {**QUIET, "ANTHROPIC_BASE_URL": address, "ANTHROPIC_API_KEY": "sk-ant-stand-in"}


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
    """The ``opencode.json`` that points opencode at the provider, with its model chosen."""
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
    return {**QUIET, "OPENAI_API_KEY": "stand-in"}


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="stand-in model provider for agent CLIs")
    parser.add_argument("--mode", choices=MODES, default="work")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--command", default=COMMAND, help="what the model asks the shell to do")
    options = parser.parse_args(argv)
    with standin_provider(options.mode, options.command, options.port) as provider:
        print(provider.address, flush=True)
        try:
            provider.closing.wait()
        except KeyboardInterrupt:
            return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
