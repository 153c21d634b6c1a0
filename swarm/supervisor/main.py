"""The supervisor's life: what is done before the loop, the loop, and what is done after.

Started by the command line as ``python -m swarm.supervisor [--config PATH] [--overrides JSON]
[--ready-fd N]`` with ``AGENTCTL_HOME`` in the environment.  ``overrides`` is an
:class:`~swarm.supervisor.configuration.Overrides`; one JSON line goes to ``ready-fd`` when the
fleet is ready or cannot be.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import msgspec

from swarm import ledger
from swarm.config.places import Places
from swarm.core import fleet_effects as fx
from swarm.core import fleet_events as e
from swarm.core import journal as j
from swarm.core.fleet import Fleet
from swarm.core.fleet_state import API, BY_PERSON, CHAT, COORDINATOR
from swarm.core.gate import Pause
from swarm.errors import Interrupted, SwarmError, UsageError
from swarm.logs import JsonLog
from swarm.sandbox import oom
from swarm.sandbox.cgroup_place import Place
from swarm.sandbox.probe import Capabilities, what_holds
from swarm.spawner.hub import check_source
from swarm.spawner.workspace import taken_names
from swarm.supervisor import handover, startup
from swarm.supervisor.books import Books
from swarm.supervisor.children import Children
from swarm.supervisor.commands import Commands
from swarm.supervisor.configuration import Configuration, Overrides
from swarm.supervisor.console import Console
from swarm.supervisor.control import ControlServer, check_path
from swarm.supervisor.monitor import Monitor
from swarm.supervisor.notify import Notifier
from swarm.supervisor.preflight import check
from swarm.supervisor.resume import Resumed
from swarm.supervisor.sampling import sample_trees
from swarm.supervisor.shell import Shell
from swarm.supervisor.signals import Signals, end_by_signal_from_now_on
from swarm.supervisor.specs import Specs
from swarm.supervisor.spending import read_spending
from swarm.supervisor.status import Snapshot
from swarm.supervisor.upgrade import Upgrade
from swarm.wire.lifeline import Finished
from swarm.zygote.port import Zygote
from swarm.zygote.process import become_subreaper


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything the loop starts from."""

    places: Places
    configuration: Configuration
    overrides: Overrides
    names: startup.Names
    specs: Specs
    reports: list[tuple[str, Finished]]
    taken: frozenset[str]
    capabilities: Capabilities
    pauses: dict[str, ledger.Pause]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a swarm to its end; the exit status (product, "Commands")."""
    arguments = _arguments(argv)
    if arguments.check_handover is not None:
        return check(arguments.check_handover)
    if arguments.resume_fd is not None:
        return _go_on(arguments.resume_fd)
    console = Console(arguments.ready_fd)
    console.manager = Notifier.take(os.environ)
    try:
        end_by_signal_from_now_on()
        overrides = _overrides(arguments.overrides)
        return _run(arguments.config, overrides, console)
    except SwarmError as error:
        console.failed(error)
        return error.exit_code
    except KeyboardInterrupt:
        console.failed(Interrupted("interrupted before it was up"))
        return Interrupted.exit_code


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m swarm.supervisor", description="Started by `agentctl swarm up`."
    )
    parser.add_argument("--config", type=Path, help="another file than AGENTCTL_HOME/swarm.yaml")
    parser.add_argument("--overrides", default="{}", help="JSON: n, roles, source")
    parser.add_argument("--ready-fd", type=int, help="descriptor for the ready line")
    parser.add_argument("--check-handover", type=int, help="descriptor: could we go on from it?")
    parser.add_argument("--resume-fd", type=int, help="descriptor: go on from it")
    return parser.parse_args(argv)


def _overrides(text: str) -> Overrides:
    try:
        return msgspec.json.decode(text, type=Overrides)
    except msgspec.MsgspecError as error:
        raise UsageError(f"--overrides: {error}", "start it with `agentctl swarm up`") from None


def _run(config: Path | None, overrides: Overrides, console: Console) -> int:
    places = Places.of(os.environ)
    check_path(places.control_socket)
    configuration = Configuration.read(places, config, overrides)
    check_source(configuration.repo.source)
    wanted = configuration.wanted(overrides)
    startup.make_home(places)
    with ExitStack() as held:
        lock = startup.Lock.take(places)
        held.callback(lock.release)
        startup.await_clean_up(places, console.say)
        startup.raise_file_limit()
        become_subreaper()
        stderr = startup.open_stderr(places)
        held.callback(os.close, stderr)
        place = startup.settle_cgroups(os.environ)  # where we are, our children will be
        # It imports for some tenths of a second; meanwhile the rest is prepared.
        zygote = Zygote.start(tls=_secure(configuration), stderr=stderr)
        try:
            oom.protect()  # zygotes give it up again
            prepared = _prepare(places, configuration, overrides, place)
            base = Base(
                prepared.specs,
                prepared.names.token,
                prepared.capabilities,
                console,
                lock.fd,
                stderr,
                time.time(),
            )
            beginning = ComingUp(prepared, wanted)
            return asyncio.run(_supervise(base, _fleet(prepared, wanted), zygote, beginning))
        except BaseException:
            zygote.close()
            raise


def _prepare(
    places: Places, configuration: Configuration, overrides: Overrides, place: Place
) -> Prepared:
    """What takes time and needs no loop."""
    names = startup.make_names(places)
    specs = Specs(
        places,
        names.home_id,
        configuration,
        startup.environment_of(os.environ),
        names.coordinator.agent_id,
        names.operator.agent_id,
        chat_url=configuration.boot.chat.url or "",
    )
    specs.cgroups = place.folders(names.home_id)
    startup.sweep_elsewhere(places.home, names.home_id, specs.cgroups)
    killed, removed = startup.sweep_leftovers(specs.base, names.home_id, specs.cgroups)
    if killed or removed:
        JsonLog(places.service_log("supervisor")).write("swept", processes=killed, folders=removed)
    adopted, reports = startup.adopt(specs.base, names.home_id)
    specs.workspaces.update(adopted)
    taken = frozenset(taken_names(str(specs.base))) - adopted.keys()
    return Prepared(
        places,
        configuration,
        overrides,
        names,
        specs,
        reports,
        taken,
        what_holds(place),
        Books(places).pauses(),
    )


def _fleet(prepared: Prepared, wanted: dict[str, int]) -> Fleet:
    """A fleet that is all down; its clock is the loop's, which is the monotonic one."""
    configuration = prepared.configuration
    epoch = time.time() - time.monotonic()
    return Fleet(
        configuration.fleet(),
        services=_services(configuration),
        wanted=wanted,
        coordinator_id=prepared.specs.coordinator_id,
        epoch=epoch,
        reports=prepared.reports,
        pauses={
            scope: Pause(one.reason, None if one.until is None else one.until - epoch)
            for scope, one in prepared.pauses.items()
        },
    )


def _services(configuration: Configuration) -> tuple[str, ...]:
    """In the order they start; they stop in the reverse one."""
    chat = (CHAT,) if configuration.boot.chat.url is None else ()
    api = (API,) if configuration.boot.api.listen is not None else ()
    return (*chat, COORDINATOR, *api)


class ComingUp:
    """The beginning of a swarm: everything is still to be started."""

    listening = None

    def __init__(self, prepared: Prepared, wanted: dict[str, int]) -> None:
        self._prepared = prepared
        self._agents = sum(wanted.values())

    def adopt(self, shell: Shell, server: ControlServer) -> None:
        """There is nothing to take over."""

    def begin(self, shell: Shell) -> None:
        """Bring the fleet up."""
        _announce(self._prepared, shell, self._agents)
        shell.children.start()
        shell.post(e.Up(self._prepared.taken))
        read_spending(shell)


def _announce(prepared: Prepared, shell: Shell, agents: int) -> None:
    """Say what is being started, on the record and to the person."""
    configuration, console = prepared.configuration, shell.console
    console.expected = agents
    shell.perform(fx.Note(j.SwarmStarted(os.getpid(), agents)))
    if configuration.path is not None:
        console.say(f"config {configuration.path}")
    else:
        console.say(f"no {prepared.places.config}: the defaults are used")
    if configuration.repo.source is not None:
        console.say(f"repo {configuration.repo.source}")
    for warning in configuration.warnings(prepared.specs.environ):
        console.say(f"warning: {warning}")
    for problem in prepared.capabilities.problems:
        console.say(f"warning: {problem}")
    for name in sorted(prepared.specs.workspaces):
        shell.perform(fx.Note(j.WorkspaceAdopted(name)))
    for scope, pause in prepared.pauses.items():
        console.say(f"still paused: {pause.reason or 'no reason given'}")
        if scope == BY_PERSON:  # what a quota parks, the fleet notes itself
            shell.perform(fx.Note(j.Paused(pause.reason)))


# -- going on in the place of another program -----------------------------------------------------


def _go_on(memory: int) -> int:
    """Take over what the document in descriptor ``memory`` describes, and run it to its end."""
    resumed = Resumed(memory)
    document, fleet = resumed.document, handover.fleet_of(resumed.document)
    console = Console.going_on(document.console)
    console.manager = Notifier.take(os.environ)
    become_subreaper()  # it survives the exec; said again, as nothing works without
    specs = replace(document.specs, environ=startup.environment_of(os.environ))
    base = Base(
        specs,
        document.token,
        what_holds(startup.settle_cgroups({})),
        console,
        document.lock,
        document.stderr,
        document.started_at,
        resumed.generation,
    )
    status = asyncio.run(_supervise(base, fleet, None, resumed))
    os.close(document.stderr)
    startup.Lock(document.lock).release()
    return status


# -- the loop -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Base:
    """What the loop stands on, whether made anew or handed over."""

    specs: Specs
    token: str
    capabilities: Capabilities
    console: Console
    lock: int
    """Descriptors: the lock on ``swarm.pid``, and what children print."""
    stderr: int
    started_at: float
    generation: int = 1


class Beginning(Protocol):
    """How this program comes to its swarm."""

    @property
    def listening(self) -> socket.socket | None:
        """The control socket, where there is one already."""

    def adopt(self, shell: Shell, server: ControlServer) -> None:
        """Take over what there is already."""

    def begin(self, shell: Shell) -> None:
        """The loop runs: start, or go on."""


async def _supervise(base: Base, fleet: Fleet, zygote: Zygote | None, beginning: Beginning) -> int:
    loop = asyncio.get_running_loop()
    specs, console, places = base.specs, base.console, base.specs.places
    shell = Shell(loop, fleet, specs, console, places)
    tls = _secure(specs.configuration)
    shell.children = Children(loop, zygote, shell, tls=tls, stderr=base.stderr)
    loop.set_exception_handler(lambda _loop, what: _unexpected(shell, what))
    monitor = Monitor(JsonLog(places.service_log("health")), shell.free_disk_mb)

    def snapshot() -> Snapshot:
        return Snapshot(
            fleet, specs, monitor.samples, base.capabilities, base.started_at, base.generation
        )

    commands = Commands(shell, snapshot)
    path, listening = places.control_socket, beginning.listening
    server = ControlServer(loop, path, base.token, commands.carry_out, listening)
    upgrade = Upgrade(
        shell, server, base.token, base.started_at, base.lock, base.stderr, base.generation
    )
    commands.upgrade = upgrade.asked
    beginning.adopt(shell, server)
    signals = Signals(loop, shell, commands.reload)
    sampling = loop.create_task(sample_trees(shell, monitor))
    shell.orphans_ended()  # as pid 1 we may have inherited some that ended before
    console.manager.attach(loop, fleet)
    try:
        beginning.begin(shell)
        await shell.ended.wait()
    finally:
        upgrade.close()
        console.manager.close()
        sampling.cancel()
        shell.close()
        shell.children.close()
        await server.close()
        signals.close()
    if shell.failed is not None:
        raise shell.failed
    if signals.interrupted and console.starting:
        raise Interrupted("interrupted before it was ready")
    console.say("stopped")
    return 0


def _secure(configuration: Configuration) -> bool:
    return (configuration.boot.chat.url or "").startswith("wss:")


def _unexpected(shell: Shell, what: dict[str, object]) -> None:
    """A defect in a callback: on the record with its traceback; the swarm goes on."""
    error = what.get("exception")
    shell.log.write("defect", message=what.get("message"), error=repr(error))
    if isinstance(error, BaseException):
        sys.excepthook(type(error), error, error.__traceback__)
