"""A swarm whose person has real agent CLIs, pointed at a stand-in provider."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import real_cli_install
import standin_provider
from standin_provider import Provider
from standin_script import Script
from swarm_support import Swarm


@contextmanager
def real_clis(
    swarm: Swarm,
    monkeypatch: pytest.MonkeyPatch,
    clis: Sequence[str],
    script: Script | None = None,
) -> Iterator[Provider]:
    """Have ``clis`` on ``PATH`` and set up for a person whose home is inside the swarm's root.

    The swarm is configured by now, and not up: its runtimes are told to keep quiet.  Yields the
    provider, which lives as long as the block; skips the test where a CLI cannot be installed.
    """
    programs = {}
    for cli in clis:
        try:
            programs[cli] = real_cli_install.program(cli)
        except real_cli_install.CannotInstall as why:
            pytest.skip(f"{cli} cannot be installed here: {why}")
    person = swarm.root / "person"
    person.mkdir()
    quiet = {cli: real_cli_install.quiet(cli, program) for cli, program in programs.items()}
    settings = json.loads(swarm.places.config.read_text())
    runtimes = {cli: {"env": env} for cli, env in quiet.items()}
    swarm.places.config.write_text(json.dumps({**settings, "runtimes": runtimes}))
    with standin_provider.standin_provider(script=script) as provider:
        given = {"HOME": str(person)}
        for cli in clis:
            given |= quiet[cli] | standin_provider.point(cli, provider.address, person)
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        path = [str(program.parent) for program in programs.values()]
        monkeypatch.setenv("PATH", os.pathsep.join([*path, os.environ["PATH"]]))
        yield provider


def role_of(cli: str) -> str:
    """A role file's runtime: with a model for codex, whose own are not what the provider has."""
    return f"runtime: {cli}\n" + ("model: stub\n" if cli == "codex" else "")
