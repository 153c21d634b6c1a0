"""What an idle coordinator never needs is not in its memory, where it would stay."""

from __future__ import annotations

import subprocess
import sys

FORBIDDEN = ("mcp", "starlette", "uvicorn", "httpx2", "yaml", "click", "rich", "psutil")


def test_it_imports_nothing_of_the_interfaces_nor_of_the_configuration() -> None:
    show = "import sys, swarm.coordinator.service; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", show], capture_output=True, text=True, check=True, timeout=60
    )
    assert not {name.partition(".")[0] for name in done.stdout.split()} & set(FORBIDDEN)
