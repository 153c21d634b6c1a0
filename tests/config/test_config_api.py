"""``api.listen``: the loopback, or nothing."""

from __future__ import annotations

import pytest

from swarm.config.load import parse_settings
from swarm.core.plan import Applies, applies_to


@pytest.mark.parametrize("listen", ["127.0.0.1:8765", "127.0.0.1:0", "localhost:80", "[::1]:8765"])
def test_the_loopback_is_taken(listen: str) -> None:
    loaded = parse_settings(f"api: {{listen: '{listen}'}}")
    assert loaded.ok
    assert loaded.settings.api.listen == listen


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        ("0.0.0.0:8765", "is not of the loopback"),
        ("192.168.1.7:8765", "is not of the loopback"),
        ("[::]:8765", "is not of the loopback"),
        ("127.0.0.1.example.org:80", "is not of the loopback"),
        ("example.org:80", "is not of the loopback"),
        ("127.0.0.1", "is no address"),
        ("127.0.0.1:70000", "is no address"),
        ("127.0.0.1:80\\n", "is no address"),
        ("", "is no address"),
    ],
)
def test_anything_else_is_refused_with_its_line(listen: str, said: str) -> None:
    loaded = parse_settings(f'version: 1\napi:\n  listen: "{listen}"\n', "f")
    (problem,) = map(str, loaded.problems)
    assert problem.startswith("f:3: api.listen: ")
    assert said in problem


def test_another_address_needs_a_restart() -> None:
    assert applies_to("api.listen") is Applies.RESTART
