"""The file that ``agentctl init`` writes."""

from __future__ import annotations

import msgspec

from swarm.config.load import parse_settings
from swarm.config.settings import Settings
from swarm.config.template import TEMPLATE


def test_it_loads_and_is_the_defaults() -> None:
    assert parse_settings(TEMPLATE).require() == Settings()


def test_it_names_every_key_with_a_comment_above_or_beside() -> None:
    for section, value in msgspec.to_builtins(Settings()).items():
        assert f"\n{section}:" in TEMPLATE
        for key in value if isinstance(value, dict) else ():
            assert f"\n  {key}:" in TEMPLATE, f"{section}.{key}"
    assert max(map(len, TEMPLATE.splitlines())) <= 100


def test_its_examples_load_when_the_comment_is_taken_off() -> None:
    head, _, tail = TEMPLATE.partition("# runtimes:\n")
    examples = "".join(
        line.removeprefix("# ") + "\n" for line in tail.splitlines() if line.startswith("#")
    )
    settings = parse_settings(f"{head}runtimes:\n{examples}").require()
    assert set(settings.runtimes) == {"claude", "mine"}
