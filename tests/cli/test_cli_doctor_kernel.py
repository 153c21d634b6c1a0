"""Doctor says what this kernel enforces for sessions, and what is left to do about the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.cli import kernel_checks
from swarm.cli.check import Check, Level
from swarm.config.places import Places
from swarm.config.settings import AgentsEntry, Limits, Settings
from swarm.core.model import Containment
from swarm.sandbox.cgroup_place import NOWHERE, Place
from swarm.sandbox.probe import Capabilities

V1 = Place(1, {"memory": "/m", "pids": "/p", "cpu": "/c", "freezer": "/f"})


def told(
    monkeypatch: pytest.MonkeyPatch,
    holds: Capabilities,
    home: Path,
    settings: Settings | None = None,
) -> dict[str, Check]:
    monkeypatch.setattr(kernel_checks, "what_holds", lambda _place: holds)
    monkeypatch.setattr(kernel_checks, "find", lambda: NOWHERE)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    found = list(kernel_checks.check_kernel(Places(home), settings or Settings()))
    for check in found:
        assert check.level is Level.OK or check.remedy, check
        assert "\n" not in check.found + check.remedy
    return {check.name: check for check in found}


def test_a_kernel_that_has_it_all(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holds = Capabilities(Containment.PID_NAMESPACE, False, True, 7, V1)
    found = told(monkeypatch, holds, home)
    assert {check.level for check in found.values()} == {Level.OK}
    assert "pid_namespace" in found["sandbox"].found
    assert "a /proc of their own" in found["sandbox"].found
    for words in ("ABI 7", "files", "TCP ports", "signals", "UDP is never covered"):
        assert words in found["landlock"].found
    assert "cgroup v1 in /m keeps memory, processes, processor time" in found["limits"].found
    assert "oom_score_adj" in found["oom"].found


def test_a_kernel_that_has_little(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = told(monkeypatch, Capabilities(Containment.DESCENT, False, False, 3), home)
    assert "the machine's /proc" in found["sandbox"].found
    assert found["landlock"].level is Level.WARN
    assert "nor here TCP ports, signals, abstract sockets" in found["landlock"].found
    assert found["limits"].level is Level.WARN
    assert "sampling keeps memory, processes" in found["limits"].found
    assert "lower priority" in found["limits"].found
    assert told(monkeypatch, Capabilities(Containment.CGROUP, False, False, 0), home)[
        "landlock"
    ].found.startswith("none")


def test_a_cgroup_that_systemd_would_give_is_told(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "systemd").mkdir()
    (home / "systemd" / "private").touch()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home))
    told_of = kernel_checks._limits(NOWHERE, [Limits(cpu_percent=10)])
    assert told_of.level is Level.OK
    assert "asks your systemd" in told_of.found


def test_a_cap_that_cannot_be_kept_is_a_warning(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = Capabilities(
        Containment.PID_NAMESPACE, False, True, 7, Place(2, {"unified": "/u", "memory": "/u"})
    )
    assert told(monkeypatch, part, home)["limits"].level is Level.OK
    capped = Settings(limits=Limits(cpu_percent=50))
    warned = told(monkeypatch, part, home, capped)["limits"]
    assert warned.level is Level.WARN
    assert "not capped" in warned.found


@pytest.mark.parametrize(
    ("sandbox", "abi", "level"),
    [("required", 3, Level.BAD), ("auto", 3, Level.WARN), ("required", 4, None)],
)
def test_a_network_list_that_cannot_be_kept(
    home: Path, monkeypatch: pytest.MonkeyPatch, sandbox: str, abi: int, level: Level | None
) -> None:
    (home / "roles").mkdir()
    (home / "roles" / "builder.yaml").write_text(f"sandbox: {sandbox}\nnetwork: [443]\n")
    settings = Settings(agents=(AgentsEntry("builder", 1),))
    holds = Capabilities(Containment.PID_NAMESPACE, False, True, abi, V1)
    found = told(monkeypatch, holds, home, settings).get("role builder")
    assert (found.level if found else None) is level
    if level is Level.BAD:
        assert found is not None
        assert "runs no session" in found.found
