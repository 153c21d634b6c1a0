"""What a daemon imports is a reviewed list: every module costs each of a thousand daemons."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LIST = Path(__file__).with_name("imports.txt")
FORBIDDEN = frozenset(
    {
        "threading", "logging", "asyncio", "subprocess", "ssl", "unittest", "email", "http",
        "urllib.request", "tempfile", "yaml", "websockets", "psutil", "click", "rich", "tenacity",
        "concurrent", "multiprocessing", "sqlite3", "shutil",
    }
)  # fmt: skip
SHOW = """
import sys
before = set(sys.modules)
import swarm.daemon.main
print("\\n".join(sorted(set(sys.modules) - before)))
"""


@pytest.fixture(scope="module")
def imported() -> frozenset[str]:
    done = subprocess.run(
        [sys.executable, "-c", SHOW], capture_output=True, text=True, check=True, timeout=60
    )
    return frozenset(done.stdout.split())


def reviewed() -> frozenset[str]:
    lines = LIST.read_text().splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


def ours_or_heavy(modules: frozenset[str]) -> frozenset[str]:
    """Without the standard library's own insides, which differ from one Python to the next."""
    return frozenset(
        name
        for name in modules
        if name.partition(".")[0] not in sys.stdlib_module_names and not name.startswith("_")
    )


def test_it_imports_none_of_what_brings_threads_or_weight(imported: frozenset[str]) -> None:
    assert not imported & FORBIDDEN
    assert not {name for name in imported if name.partition(".")[0] in FORBIDDEN - {"urllib"}}


def test_it_imports_what_was_reviewed_and_nothing_else(imported: frozenset[str]) -> None:
    listed = ours_or_heavy(reviewed())
    found = ours_or_heavy(imported)
    new = sorted(found - listed)
    assert not new, f"not in {LIST.name}; review and add, or import less: {new}"
    gone = sorted(name for name in listed - found if name.startswith("swarm"))
    assert not gone, f"in {LIST.name} and imported no more: {gone}"


def test_of_the_standard_library_it_imports_what_was_reviewed(imported: frozenset[str]) -> None:
    """Public modules only; a later Python may split its own."""
    listed = {name.partition(".")[0] for name in reviewed()}
    found = {name.partition(".")[0] for name in imported}
    new = sorted(n for n in found - listed if n in sys.stdlib_module_names and n[0] != "_")
    assert sys.version_info[:2] != (3, 11) or not new, f"not in {LIST.name}: {new}"


def test_the_list_is_sorted_and_forbids_itself_nothing() -> None:
    names = [line for line in LIST.read_text().splitlines() if line and line[0] != "#"]
    assert names == sorted(names)
    assert not set(names) & FORBIDDEN
