"""A session that tries everything to get out, and gets nowhere.

The same attempts without the sandbox, and without anything, show that each would work: what is
not stopped then proves nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from swarm_support import Swarm, git
from tests_support import eventually

from swarm.core.model import Containment, TaskState
from swarm.sandbox import cgroup_place, kernel
from swarm.sandbox.probe import what_holds

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
    pytest.mark.skipif(kernel.landlock_abi() < 6, reason="needs Landlock with scopes (Linux 6.12)"),
    pytest.mark.skipif(
        what_holds().containment is not Containment.PID_NAMESPACE, reason="needs PID namespaces"
    ),
]

CANARY = "agentctl-canary-4711"
ATTEMPTS = Path(__file__).parent.parent / "escape_attempts.py"
HELD_BY_NAMESPACE = tuple(
    f"{what} {who}"
    for who in ("daemon", "supervisor")
    for what in ("signal", "trace", "environment of", "memory of", "descriptors of")
)
"""What the namespace keeps a session from, with or without the sandbox."""
AS_ROOT = (
    "capabilities", "environment of init", "memory of init", "trace init", "leave the cgroup",
    "raise the cgroup's limit",
)  # fmt: skip
"""What only root could do anyway."""


class Fortress(Swarm):
    """A swarm of two agents, of a person with secrets in their home and environment."""

    @property
    def person(self) -> Path:
        return self.root / "person"

    @property
    def environ(self) -> dict[str, str]:
        return {**super().environ, "HOME": str(self.person), "LC_SECRET": "", CANARY: CANARY}


@pytest.fixture
def fortress() -> Iterator[Fortress]:
    made = Fortress()
    for name in (".ssh/id", ".aws/credentials", ".config/gcloud/credentials.db", "notes.txt"):
        path = made.person / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("secret")
    (made.repository / "attempts.py").write_text(ATTEMPTS.read_text())
    git(made.repository, "add", "-A")
    git(made.repository, "commit", "-q", "-m", "attempts")
    made.configure(agents=[{"role": "builder", "count": 1}, {"role": "qa", "count": 1}])
    yield made
    made.close()


def role(fortress: Fortress, **settings: object) -> None:
    path = fortress.places.roles / "builder.yaml"
    path.write_text(json.dumps({"runtime": "scripted", **settings}))


class Outside:
    """What a session could reach on the machine: ports, sockets, and the swarm's own places."""

    def __init__(self, fortress: Fortress, held: ExitStack) -> None:
        self.fortress = fortress
        tcp = held.enter_context(socket.create_server(("127.0.0.1", 0)))
        free = held.enter_context(socket.socket())
        free.bind(("127.0.0.1", 0))
        self.port, self.free_port = tcp.getsockname()[1], free.getsockname()[1]
        free.close()
        self.abstract = f"agentctl-escape-{os.getpid()}"
        listening = held.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind(f"\0{self.abstract}")
        listening.listen()
        self.in_run = ""
        if os.access("/run", os.W_OK):  # as that of D-Bus, of docker, of a keyring
            folder = tempfile.mkdtemp(prefix="agentctl-escape-", dir="/run")
            held.callback(shutil.rmtree, folder)
            self.in_run = f"{folder}/socket"
            daemon = held.enter_context(socket.socket(socket.AF_UNIX))
            daemon.bind(self.in_run)
            daemon.listen()

    def targets(self) -> dict[str, Any]:
        """For ``targets.json``; the swarm must be up."""
        fortress, places = self.fortress, self.fortress.places
        (daemon,) = [a for a in fortress.agents() if a["role"] == "builder"]
        own = fortress.root / "agents" / daemon["name"]
        other = fortress.root / "agents" / "swarm-qa-001"
        (hub,) = places.hub.glob("*.git")
        home_id = places.home_id.read_text().strip()
        homes = list(cgroup_place.find().folders(home_id).values())
        read = {
            "ssh key": fortress.person / ".ssh/id",
            "aws credentials": fortress.person / ".aws/credentials",
            "gcloud credentials": fortress.person / ".config/gcloud/credentials.db",
            "identity key": own / ".agentchat/identities" / f"{daemon['name']}.json",
            "owner": own / ".agentctl/owner",
            "another's notes": other / "CLAUDE.md",
            "another's key": other / ".agentchat/identities/swarm-qa-001.json",
            "ledger": places.ledger,
            "token": places.control_token,
            "shadow": "/etc/shadow",
            "configuration": places.config,
            "log": places.service_log("supervisor"),
            "user's source": fortress.repository / ".git/HEAD",
        }
        write = {
            "home": fortress.person,
            "a person's file": fortress.person / "notes.txt",
            "etc": "/etc",
            "usr": "/usr",
            "another workspace": other,
            "own workspace": own,
            "own notes": own / "CLAUDE.md",
            "trusted state": own / ".agentctl",
            "hub refs": hub / "refs/heads",
            "hub objects": hub / "objects",
            "agentctl home": places.home,
            "user's source": fortress.repository,
            "ledger": places.ledger,
        }
        return {
            "read": {name: str(path) for name, path in read.items()},
            "write": {name: str(path) for name, path in write.items() if os.access(path, os.W_OK)},
            "list": {
                "home": str(fortress.person),
                "agentctl home": str(places.home),
                "workspaces": str(fortress.root / "agents"),
            },
            "pids": {"daemon": daemon["pid"], "supervisor": fortress.status()["swarm"]["pid"]},
            "sockets": {"in /run": self.in_run} if self.in_run else {},
            "control": [str(places.control_socket), str(places.control_token)],
            "cgroups": [f"{home}/{name}" for home in homes for name in ("tasks", "cgroup.procs")],
            "limits": homes,
            "port": self.port,
            "free_port": self.free_port,
            "abstract": self.abstract,
        }


@pytest.fixture
def outside(fortress: Fortress) -> Iterator[Outside]:
    with ExitStack() as held:
        yield Outside(fortress, held)


def attempt(outside: Outside, *more: str) -> tuple[dict[str, bool], str]:
    """Run all of them in one session; what got through, and the task."""
    fortress = outside.fortress
    fortress.up()
    eventually(lambda: list(fortress.places.hub.glob("*.git")))
    told = json.dumps(outside.targets())
    task = fortress.add(
        f"write targets.json {told}\n"
        f"run {sys.executable} -I -S attempts.py > results.json 2> errors.txt\ncommit results\n"
        + "\n".join(more)
    )
    (ended,) = fortress.ended([task])

    def left(name: str) -> str:
        return fortress.git("show", f"{ended.branch}:{name}", cwd=fortress.hub())

    assert left("results.json"), (ended, left("errors.txt"))
    return json.loads(left("results.json")), task


def test_nothing_gets_out_of_the_sandbox(outside: Outside) -> None:
    """And git that we run does nothing for a session's repository either."""
    fortress = outside.fortress
    role(fortress, sandbox="required", network=[9])
    canary = fortress.person / "canary"
    touch = f"touch {canary}"
    hooks = " ".join(
        f".git/hooks/{name}" for name in ("post-checkout", "pre-commit", "post-commit")
    )
    results, task = attempt(
        outside,
        "write left.txt uncommitted",
        f"run for h in {hooks}; do printf '#!/bin/sh\\n{touch}\\n' > $h; chmod +x $h; done",
        f"run git config core.fsmonitor '{touch}'; git config filter.x.clean '{touch}; cat'",
        "write .gitattributes * filter=x",
        f"run git config uploadpack.packObjectsHook '{touch}'",
        f"run git config core.sshCommand '{touch}'",
        f"run git config core.alternateRefsCommand '{touch}'; git config gpg.program '{touch}'",
        f"run ln -s {fortress.person}/.ssh/id $AGENTCTL_OUT/needs_human.md",
    )
    assert len(results) > 100
    told = fortress.status()["swarm"]
    assert told["limits_by"] == cgroup_place.find().limits_by
    assert told["containment"] == "pid_namespace"
    assert [name for name, through in results.items() if through] == []
    ended = fortress.task(task)
    assert ended.state is TaskState.DONE, "the link is no question"
    assert "secret" not in (ended.reason or "")
    assert not canary.exists()
    assert "left.txt" in fortress.must("task", "diff", task), "it was saved all the same"
    assert {a["restarts"] for a in fortress.agents()} == {0}


def test_without_the_sandbox_each_attempt_gets_through(outside: Outside) -> None:
    """So each can fail: only the namespace and the token hold without it."""
    role(outside.fortress, sandbox="off")
    results, _ = attempt(outside)
    stopped = {name for name, through in results.items() if not through}
    expected = {name for name in results if name.startswith(HELD_BY_NAMESPACE)}
    expected.add("control without a token")
    if os.getuid() != 0:
        expected |= {name for name in results if name in AS_ROOT or "/proc/1/root" in name}
        expected |= {name for name in results if "handle" in name or name.startswith("mount")}
        expected |= {name for name in results if name.startswith("read shadow")}
    if not cgroup_place.find().version:
        expected |= {"leave the cgroup", "raise the cgroup's limit"}
    may = {name for name in results if "user namespace" in name or "MPTCP" in name}
    assert stopped - may == expected - may


def test_without_a_namespace_the_rest_gets_through(outside: Outside, tmp_path: Path) -> None:
    """Run by the person themselves."""
    fortress = outside.fortress
    fortress.up()
    eventually(lambda: list(fortress.places.hub.glob("*.git")))
    targets = outside.targets() | {"cgroups": [], "limits": [], "write": {}, "list": {}}
    (tmp_path / "targets.json").write_text(json.dumps(targets))
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(ATTEMPTS)],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    results = json.loads(done.stdout)
    held = {
        name: through for name, through in results.items() if name.startswith(HELD_BY_NAMESPACE)
    }
    assert held
    if os.getuid() == 0:
        assert [name for name, through in held.items() if not through] == []
    assert not results["control without a token"]
    assert results["control with the stolen token"]


def test_a_required_sandbox_that_cannot_be_had_promotes_nothing(
    fortress: Fortress, monkeypatch: pytest.MonkeyPatch, check_refusal: Callable[[str, int], str]
) -> None:
    """No Landlock; and a Landlock that knows no ports, for a role that lists some."""
    assert "no Landlock" in check_refusal("required", 0)
    assert "knows no ports" in check_refusal("required", 3)
    assert check_refusal("auto", 3) == ""
    assert check_refusal("required", 4) == ""


@pytest.fixture
def check_refusal(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], str]:
    """Why a daemon whose kernel has Landlock of an ABI refuses to run sessions with ports."""
    from swarm.daemon.launching import Means, can_confine
    from swarm.spawner.workspace import Workspace
    from swarm.wire.spawn import DaemonSpec, RuntimeSpec

    def refusal(sandbox: str, abi: int) -> str:
        monkeypatch.setattr(kernel, "landlock_abi", lambda: abi)
        spec = DaemonSpec(
            name="swarm-builder-001", role="builder", workspace="/w", home="/h", home_id="h",
            chat_url="", channel="#agents", coordinators=(), heartbeat_seconds=30,
            runtime=RuntimeSpec("x", "command", ("x",)), sandbox=sandbox, network=(443,),
        )  # fmt: skip
        return Means(spec, Workspace("/w"), can_confine(spec)).refuses

    return refusal
