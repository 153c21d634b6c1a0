"""Telling somebody by a program or by HTTP, within a time limit; to fail is an answer, no error.

What is told goes to a program's standard input or into a request's body, never into an argument
list, an address or a header: it comes from chat, files and agent CLIs.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from swarm import __version__
from swarm.sandbox.environment import scrubbed
from swarm.sandbox.guard import guard_command
from swarm.wire.lifeline import NotifyRule

MAX_SAID = 2000
"""Bytes kept of what a program printed to standard error."""
_SPARE_SECONDS = 5.0
"""How much longer than its limit its guard is given to end it."""
_DESKTOP = frozenset(
    {"HOME", "DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR"}
)
"""What a program needs to show something on the person's screen."""


class Hooks:
    """Tells by any rule.  :meth:`close` lets the connections go."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._client: Any = None
        self._http: ModuleType | None = None

    async def tell(self, rule: NotifyRule, kind: str, task: str, body: str) -> str:
        """Why it could not be told; empty when it was."""
        try:
            if rule.command:
                return await self._run(rule, kind, task, body.encode())
            return await self._post(rule, body.encode())
        except OSError as error:  # of ours: no descriptor left, no memory
            return f"it cannot be told now: {error.strerror or error}"

    async def close(self) -> None:
        """Let the connections go."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    # -- a program --------------------------------------------------------------------------------

    async def _run(self, rule: NotifyRule, kind: str, task: str, body: bytes) -> str:
        # Files in memory, not pipes: a program need not read, and whoever it left behind with an
        # end of a pipe would be waited for.
        with ExitStack() as files:
            stdin, stderr = _in_memory(files, "notice"), _in_memory(files, "said")
            os.write(stdin, body)
            os.lseek(stdin, 0, os.SEEK_SET)
            process = await asyncio.create_subprocess_exec(
                *guard_command(rule.timeout_seconds),
                *rule.command,
                stdin=stdin,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=stderr,
                env=_environment(os.environ, self._home, kind, task),
                cwd=self._home,
                start_new_session=True,
            )
            status = await _end_of(process, rule.timeout_seconds + _SPARE_SECONDS)
            return _how(status, rule, os.pread(stderr, MAX_SAID, 0))

    # -- a request --------------------------------------------------------------------------------

    async def _post(self, rule: NotifyRule, body: bytes) -> str:
        client, http = await self._ready()
        try:
            async with asyncio.timeout(rule.timeout_seconds):
                async with client.stream("POST", rule.webhook, content=body) as response:
                    status = int(response.status_code)
        except TimeoutError:
            return f"no answer within {rule.timeout_seconds:g} s"
        except (http.HTTPError, http.InvalidURL, OSError, ValueError) as error:
            return f"{type(error).__name__}: {error}"[:300]
        if 300 <= status < 400:
            return f"it answers {status}, a redirect; name the address it has moved to"
        return "" if status < 300 else f"it answers {status}"

    async def _ready(self) -> tuple[Any, Any]:
        """The client, made when it is first needed: importing it takes longer than a turn may."""
        if self._http is None:
            self._http = await asyncio.to_thread(importlib.import_module, "httpx2")
        http = self._http
        if self._client is None:
            headers = {
                "content-type": "application/json",
                "user-agent": f"agentctl/{__version__}",
            }
            # No redirect is followed: what is told is meant for the one address that was named.
            self._client = await asyncio.to_thread(
                lambda: http.AsyncClient(timeout=None, follow_redirects=False, headers=headers)
            )
        return self._client, http


def _in_memory(files: ExitStack, name: str) -> int:
    """A new file in memory, closed with ``files``."""
    fd = os.memfd_create(name)
    files.callback(os.close, fd)
    return fd


def _environment(environ: Mapping[str, str], home: Path, kind: str, task: str) -> dict[str, str]:
    kept = {name: environ[name] for name in _DESKTOP if name in environ}
    told = {"AGENTCTL_HOME": str(home), "AGENTCTL_EVENT": kind, "AGENTCTL_TASK": task}
    return {"PATH": os.defpath, **scrubbed(environ), **kept, **told}


async def _end_of(process: asyncio.subprocess.Process, seconds: float) -> int | None:
    """Its exit status; ``None`` for one that had to be ended.  It has ended, either way."""
    try:
        async with asyncio.timeout(seconds):
            return await process.wait()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()  # it ends what it has started first
            try:
                async with asyncio.timeout(_SPARE_SECONDS):
                    await process.wait()
            except TimeoutError:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()


def _how(status: int | None, rule: NotifyRule, said: bytes) -> str:
    if status == 0:
        return ""
    if status is None or status == -9:
        return "it was killed"
    lines = said.decode(errors="replace").strip().splitlines()
    last = f": {lines[-1]}" if lines else ""
    if status == 124 and not last:
        return f"not done within {rule.timeout_seconds:g} s"
    return f"exit {status}{last}"
