"""A role's list of TCP ports, as its file gives it."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.config.roles import load_role
from swarm.errors import ConfigError


def role_file(home: Path, text: str) -> Path:
    folder = home / "roles"
    folder.mkdir()
    (folder / "builder.yaml").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("text", "ports"),
    [("model: m\n", None), ("network: null\n", None), ("network: []\n", ()),
     ("network: [443, 22]\n", (443, 22))],
)  # fmt: skip
def test_ports_are_any_none_or_those_listed(
    home: Path, text: str, ports: tuple[int, ...] | None
) -> None:
    assert load_role("builder", role_file(home, text)).network == ports


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("model: m\nnetwork: [443, 70000]\n", 2, "network"),
        ("network: [0]\n", 1, "network"),
        ("network: [https]\n", 1, "network"),
        ("model: m\nnetwork: 443\n", 2, "network"),
        ("sandbox: off\nnetwork: [443]\n", 1, "in quotes"),
        ("sandbox: 'off'\nnetwork: []\n", 2, "network"),
    ],
)
def test_a_list_that_cannot_be_kept_names_its_line(
    home: Path, text: str, line: int, key: str
) -> None:
    folder = role_file(home, text)
    with pytest.raises(ConfigError) as failed:
        load_role("builder", folder)
    (problem,) = failed.value.problems
    assert f"builder.yaml:{line}" in problem
    assert key in problem
