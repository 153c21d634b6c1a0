"""The hooks of a storm's fleet: a program and a webhook that now and then fail or hang."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

from swarm.cli.demonstration.stage import Stage
from swarm.cli.storm.telling import COMMAND, WANTED, WEBHOOK, Told

TIMEOUT = 2.0
"""Seconds a hook may take."""
HANG = 600
"""Seconds that one sleeps which hangs."""
LUCK = 16
"""One time in so many it hangs before, or after, it has taken the notice; as often it fails."""
_HOOK_SH = f"""\
#!/bin/sh
# Takes a notice, as a file in the folder $1; now and then it hangs or fails, before or after.
sleep 0.3
luck=$(( $(od -An -N1 -tu1 /dev/urandom) % {LUCK} ))
test $luck -ne 0 || sleep {HANG}
test $luck -ne 1 || exit 1
name=$(mktemp "$1/XXXXXXXX") && cat > "$name" || exit 2
test $luck -ne 2 || sleep {HANG}
test $luck -ne 3 || exit 1
mv "$name" "$name.taken"
"""


def notify_settings(stage: Stage, webhook: str) -> list[dict[str, object]]:
    """``notify`` of the fleet's configuration; an empty ``webhook`` is none."""
    program = ["sh", str(_program(stage)), str(_folder(stage))]
    ways: dict[str, dict[str, object]] = {COMMAND: {"command": program}}
    if webhook:
        ways[WEBHOOK] = {"webhook": webhook}
    return [
        {**way, "on": list(WANTED[name]), "timeout_seconds": TIMEOUT} for name, way in ways.items()
    ]


def write_program(stage: Stage) -> None:
    """Lay the program down, and the folder that it fills."""
    _program(stage).write_text(_HOOK_SH)
    _folder(stage).mkdir()


def told_program(stage: Stage) -> list[Told]:
    """What the program was told, whether it has taken it or not."""
    found = []
    for path in sorted(_folder(stage).iterdir()):
        try:
            found.append(_told(COMMAND, path.read_bytes(), taken=path.suffix == ".taken"))
        except (ValueError, KeyError):
            continue  # it was killed while it wrote
    return found


def _program(stage: Stage) -> Path:
    return stage.root / "hook.sh"


def _folder(stage: Stage) -> Path:
    return stage.root / "told"


def _told(hook: str, body: bytes, *, taken: bool) -> Told:
    notice = json.loads(body)
    return Told(hook, notice["event"], notice["task"] or "", body.decode(), taken)


class Listener:
    """The webhook: a server on the loopback; ``tell`` hears what it was told, from its threads."""

    def __init__(self, seed: int, tell: Callable[[Told], object]) -> None:
        self._random = Random(f"hook {seed}")  # noqa: S311 - to be repeated, not secret
        self._tell = tell
        self._ended = threading.Event()
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                listener._take(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="webhook", daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/hook"

    def close(self) -> None:
        """Listen no more; what hangs is let go of."""
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _take(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["content-length"]))
        luck = self._random.randrange(LUCK)
        request.close_connection = True
        if luck == 0:
            self._ended.wait(HANG)
            return
        if luck != 1:
            self._tell(_told(WEBHOOK, body, taken=luck > 3))
        if luck == 2:
            return  # hung up, without an answer
        request.send_response(500 if luck in (1, 3) else 200)
        request.send_header("content-length", "0")
        request.end_headers()
