"""Lock, names, leftovers; settings and overrides; what is said to the person."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from swarm.config.places import Places
from swarm.core import journal as j
from swarm.core.fleet_effects import CleanTree
from swarm.core.fleet_events import TreeCleaned
from swarm.core.model import Outcome
from swarm.daemon import outbox
from swarm.errors import AlreadyRunning, ConfigError, SwarmError, UsageError
from swarm.spawner.git import PERSONS_UMASK
from swarm.spawner.identity import load_or_create
from swarm.spawner.workspace import Brief, make_workspace
from swarm.supervisor import startup
from swarm.supervisor.cleaning import clean, find_report
from swarm.supervisor.configuration import Configuration, Overrides
from swarm.supervisor.console import Console
from swarm.supervisor.main import main
from swarm.supervisor.specs import Specs
from swarm.wire.lifeline import Finished
from swarm.wire.spawn import DaemonSpec, ServiceSpec


@pytest.fixture(autouse=True)
def _own_umask(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A start sets this process's umask and notes it for its children."""
    monkeypatch.setenv(PERSONS_UMASK, "")
    monkeypatch.delenv(PERSONS_UMASK)
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def places(home: Path) -> Places:
    made = Places(home)
    startup.make_home(made)
    return made


def read(places: Places, text: str = "", **overrides: object) -> tuple[Configuration, Overrides]:
    if text:
        places.config.write_text(text)
    said = msgspec.convert(overrides, Overrides)
    return Configuration.read(places, None, said), said


# -- lock and names -------------------------------------------------------------------------------


def test_the_lock_is_one_and_the_second_names_the_first(places: Places) -> None:
    lock = startup.Lock.take(places)
    with pytest.raises(AlreadyRunning, match=str(os.getpid())):
        startup.Lock.take(places)
    lock.release()
    startup.Lock.take(places).release()
    assert places.pid_file.exists()


def test_a_stale_pid_file_does_not_matter(places: Places) -> None:
    places.pid_file.write_text("1 1\n")
    startup.Lock.take(places).release()


def test_somebody_who_only_looks_does_not_keep_us_out(places: Places) -> None:
    with open(places.pid_file, "w") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        with pytest.raises(AlreadyRunning):
            startup.Lock.take(places)
    startup.Lock.take(places).release()


def test_ids_and_identities_stay_and_the_token_is_new_each_time(places: Places) -> None:
    one, two = startup.make_names(places), startup.make_names(places)
    assert one.home_id == two.home_id
    assert one.operator.agent_id == two.operator.agent_id
    assert one.coordinator.agent_id == two.coordinator.agent_id
    assert one.token != two.token
    assert places.control_token.stat().st_mode & 0o077 == 0


def test_the_persons_umask_is_noted_once_and_ours_is_077(home: Path) -> None:
    startup.make_home(Places(home))
    startup.make_home(Places(home))  # as after an upgrade
    assert os.environ[PERSONS_UMASK] == "022"
    assert os.umask(0o077) == 0o077


def test_a_home_that_cannot_be_made_is_named(home: Path) -> None:
    (home / "file").write_text("")
    with pytest.raises(SwarmError, match="cannot be made"):
        startup.make_home(Places(home / "file" / "below"))


def test_own_workspaces_are_adopted_with_their_reports(places: Places, home: Path) -> None:
    base = home / "w"
    mine = make_workspace(str(base), "swarm-builder-001", "me", Brief("builder"))
    make_workspace(str(base), "swarm-builder-002", "somebody", Brief("builder"))
    report = Finished("t-1", 2, Outcome.SUCCEEDED)
    outbox.append(mine.outbox, outbox.Reported(report))
    assert startup.adopt(base, "me") == (
        {"swarm-builder-001": mine.path},
        [("swarm-builder-001", report)],
    )


# -- a dead daemon's outbox -----------------------------------------------------------------------


async def test_a_report_counts_only_for_its_own_fence(home: Path) -> None:

    workspace = make_workspace(str(home / "w"), "swarm-builder-001", "me", Brief("builder"))
    report = Finished("t-1", 2, Outcome.SUCCEEDED)
    outbox.append(workspace.outbox, outbox.Reported(report))
    assert find_report(workspace.path, "t-1", 3) is None
    cleaned = await clean(CleanTree("a", "t-1", 2, None), "me", workspace.path)
    assert cleaned == TreeCleaned("a", "t-1", 2, report)
    cleaned = await clean(CleanTree("a", "t-9", 1, None), "me", str(home / "nowhere"))
    assert cleaned == TreeCleaned("a", "t-9", 1)


# -- settings -------------------------------------------------------------------------------------


def test_no_file_at_all_gives_the_defaults(places: Places) -> None:
    configuration, overrides = read(places)
    assert configuration.path is None
    assert configuration.wanted(overrides) == {"builder": 3}


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        ({}, {"builder": 4, "qa": 2}),
        ({"n": 3}, {"builder": 2, "qa": 1}),
        ({"roles": {"general": 1}}, {"builder": 0, "qa": 0, "general": 1}),
    ],
)
def test_the_command_line_goes_before_the_file(places: Places, overrides, wanted) -> None:
    text = "agents: [{role: builder, count: 4}, {role: qa, count: 2}]"
    configuration, said = read(places, text, **overrides)
    assert configuration.wanted(said) == wanted


def test_every_problem_is_told(places: Places) -> None:
    with pytest.raises(ConfigError) as bad:
        read(places, "bogus: 1\nlimits: {max_active: many}\n")
    assert len(bad.value.problems) == 2
    with pytest.raises(ConfigError, match="nobody"):
        read(places, "agents: [{role: nobody}]")
    (places.home / "roles").mkdir()
    (places.home / "roles" / "odd.yaml").write_text("runtime: nowhere\n")
    with pytest.raises(ConfigError, match="role odd: there is no runtime 'nowhere'"):
        read(places, "agents: [{role: odd}]")


def test_too_many_agents_are_refused(places: Places) -> None:
    configuration, said = read(places, "", n=100_000)
    with pytest.raises(UsageError):
        configuration.wanted(said)


def test_the_repository_of_the_command_line_stays_over_a_reload(places: Places) -> None:
    configuration, _said = read(places, "version: 1\n", source="/somewhere")
    assert configuration.repo.source == "/somewhere"
    new, plan = configuration.reread()
    assert plan.changes == ()
    assert new.repo.source == "/somewhere"


def test_a_reload_keeps_what_scale_did_unless_the_file_changed_it(places: Places) -> None:
    text = "agents: [{role: builder, count: 2}, {role: qa, count: 1}]\n"
    configuration, _said = read(places, text)
    running = {"builder": 7, "qa": 1, "general": 2}
    places.config.write_text(text.replace("count: 1", "count: 3"))
    new, _plan = configuration.reread()
    assert configuration.counts_after(new, running) == {"builder": 7, "qa": 3, "general": 2}


def test_specs_hold_what_a_child_needs(places: Places) -> None:
    (places.home / "roles").mkdir()
    role = "runtime: scripted\nsecrets: {KEY: 'env:MY_KEY'}\nlimits: {max_task_minutes: 2}\n"
    (places.home / "roles" / "builder.yaml").write_text(role)
    configuration, _said = read(places, f"workspace_base: {places.home}/w\n")
    load_or_create(places.coordinator_identity, "coordinator")
    environ = {"MY_KEY": "s3cret", "PATH": "/bin", "LC_HUGE": "x" * 100_000}
    specs = Specs(places, "me", configuration, environ, "c" * 16, "o" * 16, chat_url="ws://h:1")
    daemon = msgspec.json.decode(specs.daemon("swarm-builder-001"), type=DaemonSpec)
    assert daemon.secrets == {"KEY": "s3cret"}
    # What a session may see, and bounded: it is one packet.  The secret has its own place.
    assert daemon.environ == {"PATH": "/bin"}
    assert daemon.workspace == f"{places.home}/w/swarm-builder-001"
    assert daemon.coordinators == ("c" * 16,)
    assert specs.tuning("swarm-builder-001").max_task_seconds == 120.0
    assert specs.rules().announcers == ("o" * 16,)
    coordinator = msgspec.json.decode(specs.service("coordinator"), type=ServiceSpec)
    assert coordinator.config["chat_url"] == "ws://h:1"
    chat = msgspec.json.decode(specs.service("chat"), type=ServiceSpec)
    assert chat.config["badge"] == daemon.badge != ""
    environ.pop("MY_KEY")
    with pytest.raises(ConfigError, match="MY_KEY is not set"):
        specs.daemon("swarm-builder-001")


# -- what the person sees -------------------------------------------------------------------------


def test_the_ready_pipe_gets_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    console = Console(writer)
    console.say("chat ws://x")
    console.ready(2)
    console.say("later")
    with os.fdopen(reader, "rb") as pipe:
        answer = msgspec.json.decode(pipe.read())
    assert answer == {
        "ready": True,
        "pid": os.getpid(),
        "lines": ["chat ws://x", "ready: 2 agents"],
    }
    assert capfd.readouterr().out == ""


def test_errors_are_one_line_each_and_what_happens_is_shown(
    capfd: pytest.CaptureFixture[str],
) -> None:
    console = Console(None)
    console.entry(j.ChildBackoff("swarm-builder-001", "crashed, signal 9", 1.0))
    console.failed(ConfigError(["a.yaml:1: x", "a.yaml:2: y"], "mend it"))
    said = capfd.readouterr()
    assert said.out == "swarm-builder-001: crashed, signal 9; restarts in 1 s\n"
    assert said.err.splitlines() == ["agentctl: a.yaml:1: x", "agentctl: a.yaml:2: y",
                                     "agentctl: mend it"]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--overrides", "{"], 2, "--overrides"),
        (["--overrides", '{"bogus": 1}'], 2, "bogus"),
        (["--config", "/nonexistent/swarm.yaml"], 2, "there is no file"),
    ],
)
def test_bad_arguments_end_with_the_right_code_and_make_nothing(
    home: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], code: int, says: str
) -> None:
    assert main(arguments) == code
    assert says in capfd.readouterr().err
    assert os.listdir(home) == []


def test_a_source_that_is_no_repository_is_refused(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (home / "swarm.yaml").write_text("repo: {source: /nonexistent/repo}\n")
    assert main([]) == 2
    assert "/nonexistent/repo" in capfd.readouterr().err
    assert os.listdir(home) == ["swarm.yaml"]


def test_a_socket_path_too_long_is_refused_before_anything_is_made(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGENTCTL_HOME", str(home / ("x" * 100)))
    assert main([]) == 2
    assert "choose a shorter AGENTCTL_HOME" in capfd.readouterr().err
    assert os.listdir(home) == []
