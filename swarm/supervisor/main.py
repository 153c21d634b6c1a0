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
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec

from swarm import ledger
from swarm.config.places import Places
from swarm.core import fleet_effects as fx
from swarm.core import fleet_events as e
from swarm.core import journal as j
from swarm.core.fleet import Fleet
from swarm.core.fleet_state import CHAT, COORDINATOR
from swarm.core.gate import Pause
from swarm.errors import Interrupted, SwarmError, UsageError
from swarm.logs import JsonLog
from swarm.sandbox.probe import Capabilities, what_holds
from swarm.spawner.hub import check_source
from swarm.spawner.workspace import taken_names
from swarm.supervisor import startup
from swarm.supervisor.books import Books
from swarm.supervisor.children import Children
from swarm.supervisor.commands import Commands
from swarm.supervisor.configuration import Configuration, Overrides
from swarm.supervisor.console import Console
from swarm.supervisor.control import ControlServer, check_path
from swarm.supervisor.monitor import Monitor
from swarm.supervisor.shell import Shell
from swarm.supervisor.signals import Signals
from swarm.supervisor.specs import Specs
from swarm.supervisor.status import Snapshot
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
    console = Console(arguments.ready_fd)
    try:
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
        held.callback(startup.Lock.take(places).release)
        startup.raise_file_limit()
        become_subreaper()
        stderr = os.open(
            places.logs / "stderr.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        held.callback(os.close, stderr)
        tls = (configuration.boot.chat.url or "").startswith("wss:")
        # It imports for some tenths of a second; meanwhile the rest is prepared.
        zygote = Zygote.start(tls=tls, stderr=stderr)
        try:
            prepared = _prepare(places, configuration, overrides)
            loop_result = asyncio.run(_supervise(prepared, wanted, zygote, stderr, console))
        except BaseException:
            zygote.close()
            raise
        return loop_result


def _prepare(places: Places, configuration: Configuration, overrides: Overrides) -> Prepared:
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
    killed, removed = startup.sweep_leftovers(specs.base, names.home_id)
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
        what_holds(),
        Books(places).pauses(),
    )


async def _supervise(
    prepared: Prepared, wanted: dict[str, int], zygote: Zygote, stderr: int, console: Console
) -> int:
    loop = asyncio.get_running_loop()
    configuration, places, specs = prepared.configuration, prepared.places, prepared.specs
    embedded = configuration.boot.chat.url is None
    epoch = time.time() - loop.time()
    fleet = Fleet(
        configuration.fleet(),
        services=(CHAT, COORDINATOR) if embedded else (COORDINATOR,),
        wanted=wanted,
        coordinator_id=specs.coordinator_id,
        epoch=epoch,
        reports=prepared.reports,
        pauses={
            scope: Pause(one.reason, None if one.until is None else one.until - epoch)
            for scope, one in prepared.pauses.items()
        },
    )
    shell = Shell(loop, fleet, specs, console, places)
    shell.children = Children(loop, zygote, shell, stderr=stderr)
    loop.set_exception_handler(lambda _loop, what: _unexpected(shell, what))
    monitor = Monitor(JsonLog(places.service_log("health")))
    started_at = time.time()

    def snapshot() -> Snapshot:
        return Snapshot(fleet, specs, monitor.samples, prepared.capabilities, started_at)

    commands = Commands(shell, snapshot)
    server = ControlServer(loop, places.control_socket, prepared.names.token, commands.carry_out)
    signals = Signals(loop, shell, commands.reload)
    sampling = loop.create_task(_sample(shell, monitor))
    try:
        _announce(prepared, shell, sum(wanted.values()))
        shell.children.start()
        shell.post(e.Up(prepared.taken))
        await shell.ended.wait()
    finally:
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
    for pause in prepared.pauses.values():
        console.say(f"still paused: {pause.reason or 'no reason given'}")
        shell.perform(fx.Note(j.Paused(pause.reason)))


async def _sample(shell: Shell, monitor: Monitor) -> None:
    """Sample every tree each ``health.sample_seconds``, as it is set at the time."""
    while True:
        await asyncio.sleep(shell.specs.configuration.settings.health.sample_seconds)
        roots = {name: child.pid for name, child in shell.children.live.items()}
        fleet = shell.fleet
        busy = {name for name, agent in fleet.agents.items() if agent.busy}
        shell.post(e.MemoryIs(monitor.sample(roots, frozenset(busy | fleet.services.keys()))))
        _check_budget(shell)


def _check_budget(shell: Shell) -> None:
    """Tell the fleet what was spent, where there is a budget; warn once it is near its end."""
    limits = shell.specs.configuration.settings.limits
    if limits.token_budget is None and limits.usd_budget is None:
        return
    try:
        spending = shell.books.spending(daily=limits.budget_window == "day")
    except SwarmError as error:
        shell.log.write("ledger", error=str(error))
        return
    shell.post(e.SpendingIs(spending.tokens, spending.usd, spending.resets_at))
    shell.warn_of_budget(spending.share(limits), limits.warn_at)


def _unexpected(shell: Shell, what: dict[str, object]) -> None:
    """A defect in a callback: on the record with its traceback; the swarm goes on."""
    error = what.get("exception")
    shell.log.write("defect", message=what.get("message"), error=repr(error))
    if isinstance(error, BaseException):
        sys.excepthook(type(error), error, error.__traceback__)
