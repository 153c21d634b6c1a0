"""What a storm rages over: a temporary home, a repository and a configuration of its own."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from swarm.cli.demonstration.stage import Stage, clear, commit_repository, empty_stage
from swarm.cli.storm.work import HASTY, HASTY_MINUTES

PREFIX = "agentctl-chaos-"


@dataclass(frozen=True, slots=True)
class Size:
    """How large the fleet is."""

    agents: int
    max_active: int

    @classmethod
    def of(cls, agents: int) -> Size:
        """Half of the agents may be active at once."""
        return cls(agents, max(2, agents // 2))


def set_stage(size: Size) -> Stage:
    """Make a stage in the temporary directory.

    Raises :class:`SwarmError` where a directory cannot be made, :class:`GitError` without git.
    """
    stage = empty_stage(PREFIX)
    try:
        (stage.places.roles / "builder.yaml").write_text("runtime: scripted\n")
        (stage.places.roles / f"{HASTY}.yaml").write_text(
            f"runtime: scripted\nlimits: {{max_task_minutes: {HASTY_MINUTES}}}\n"
        )
        write_settings(stage, size)
        _make_repository(stage)
    except BaseException:
        clear(stage)
        raise
    return stage


def write_settings(stage: Stage, size: Size) -> None:
    """(Over)write swarm.yaml: everything quick, nothing given up, JSON being YAML."""
    settings = {
        "version": 1,
        "workspace_base": str(stage.workspaces),
        "agents": [
            {"role": "builder", "count": size.agents - 1},
            {"role": HASTY, "count": 1},
        ],
        "chat": {"listen": "127.0.0.1:0"},
        "limits": {"max_active": size.max_active, "min_free_memory_mb": 0, "stagger_seconds": 0},
        "health": {"heartbeat_seconds": 1, "sample_seconds": 1},
        "restart": {"base_seconds": 0.1, "cap_seconds": 1, "max_restarts": 0},
        "stop": {"grace_seconds": 1},
        "repo": {"source": str(stage.repository), "author": "Storm <storm@example.org>"},
    }
    part = stage.places.config.with_suffix(".new")
    part.write_text(json.dumps(settings, indent=1))
    os.replace(part, stage.places.config)


def fingerprint(folder: Path) -> dict[str, str]:
    """Every file below ``folder`` with its kind, mode and content: what must not change."""
    found = {}
    for path in sorted(folder.rglob("*")):
        info = path.lstat()
        content = b""
        if path.is_symlink():
            content = os.fsencode(os.readlink(path))
        elif path.is_file():
            content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        found[str(path.relative_to(folder))] = f"{info.st_mode:o} {digest}"
    return found


def _make_repository(stage: Stage) -> None:
    where = stage.repository
    (where / "src").mkdir(parents=True)
    (where / "README.md").write_text("# A project in a storm\n")
    (where / "run.sh").write_text("#!/bin/sh\nexit 0\n")
    (where / "run.sh").chmod(0o755)
    commit_repository(stage, "Storm", "A project")
    (where / "notes.txt").write_text("not committed, and nobody's business\n")
