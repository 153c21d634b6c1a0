"""``wire`` is sans-I/O, and its client half is small: what it may import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import swarm.wire

FOLDER = Path(swarm.wire.__file__).parent
FILES = sorted(FOLDER.rglob("*.py"))
FORBIDDEN = {"asyncio", "socket", "os", "time", "random", "subprocess", "logging", "yaml",
             "threading", "selectors", "ssl", "websockets"}  # fmt: skip
CLIENT_HALF = ("swarm.wire.websocket", "swarm.wire.address", "swarm.wire.pacing",
               "swarm.wire.agentchat.session", "swarm.wire.agentchat.seen")  # fmt: skip
NEVER_IN_A_DAEMON = {"threading", "logging", "asyncio", "yaml", "cryptography", "urllib.parse",
                     "subprocess", "socket", "ssl", "http", "email", "websockets",
                     "swarm.wire.agentchat.server", "swarm.wire.agentchat.rooms"}  # fmt: skip


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                found |= {name.name for name in names}
            case ast.ImportFrom(module=str(module)):
                found.add(module)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(FOLDER)))
def test_wire_imports_no_io(path: Path):
    roots = {name.split(".")[0] for name in imported(path)}
    assert roots.isdisjoint(FORBIDDEN)
    inner = {name for name in imported(path) if name.startswith("swarm.")}
    assert all(
        name.startswith(("swarm.wire", "swarm.core.model", "swarm.errors")) for name in inner
    ), inner


def test_the_client_half_loads_nothing_heavy():
    """In an interpreter of its own: what a daemon would have in memory."""
    code = f"import sys, {', '.join(CLIENT_HALF)}; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    loaded = set(done.stdout.split())
    assert loaded.issuperset(CLIENT_HALF)
    assert loaded.isdisjoint(NEVER_IN_A_DAEMON)
