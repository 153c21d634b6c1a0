"""Control requests, as events for the fleet or answered at once."""

from __future__ import annotations

from collections.abc import Callable

from swarm.core import fleet_effects as fx
from swarm.core import fleet_events as e
from swarm.core import journal as j
from swarm.core.plan import Plan
from swarm.errors import ConfigError, SwarmError, UsageError
from swarm.spawner.workspace import taken_names
from swarm.supervisor.configuration import Configuration, check_count
from swarm.supervisor.control import Caller
from swarm.supervisor.shell import Shell
from swarm.supervisor.spending import read_spending
from swarm.supervisor.status import Snapshot
from swarm.wire import control


class Commands:
    """Carries out one request; every caller gets exactly one last answer."""

    def __init__(self, shell: Shell, snapshot: Callable[[], Snapshot]) -> None:
        self._shell = shell
        self._snapshot = snapshot
        self.upgrade: Callable[[Caller], None]
        """Hands this swarm over to the installed program; set by whoever made both."""

    def carry_out(self, command: control.Command, caller: Caller) -> None:
        """Answer ``caller``, now or when it is done."""
        try:
            self._carry_out(command, caller)
        except ConfigError as error:
            caller.refuse("\n".join(error.problems), error.remedy, error.exit_code)
        except SwarmError as error:
            caller.refuse(error.what, error.remedy, error.exit_code)

    def _carry_out(self, command: control.Command, caller: Caller) -> None:  # noqa: C901 - flat
        shell = self._shell
        match command:
            case control.Status():
                caller.answer(control.Done(data=self._snapshot().whole()))
            case control.AgentShow(agent=name):
                self._show(name, caller)
            case control.Scale():
                self._scale(command, caller)
            case control.Reload(dry_run=dry_run):
                self._reload(caller, dry_run)
            case control.Stop(now=now, drain=drain):
                if drain is not None and not drain >= 0:
                    raise UsageError("drain is a number of seconds", "give 0 or more")
                shell.post(e.StopAsked(shell.reply_to(caller), now, drain))
            case control.WaitReady():
                shell.post(e.ReadyAsked(shell.reply_to(caller)))
            case control.Pause(reason=reason):
                shell.post(e.PauseAsked(shell.reply_to(caller), _one_line(reason)))
            case control.Resume():
                shell.post(e.ResumeAsked(shell.reply_to(caller)))
            case control.AgentStop(agent=name):
                shell.post(e.AgentStopAsked(shell.reply_to(caller), name))
            case control.AgentRestart(agent=name):
                shell.post(e.AgentRestartAsked(shell.reply_to(caller), name))
            case control.AgentKillSession(agent=name, reason=reason):
                shell.post(e.KillSessionAsked(shell.reply_to(caller), name, _one_line(reason)))
            case control.Upgrade():
                self.upgrade(caller)
            case control.PokeLedger():
                shell.post(e.PokeAsked(shell.reply_to(caller)))

    def _show(self, name: str, caller: Caller) -> None:
        agent = self._shell.fleet.agents.get(name)
        if agent is None:
            raise SwarmError(
                f"there is no agent {name[:64]!r}", "`agentctl swarm status` lists the agents"
            )
        caller.answer(control.Done(data=self._snapshot().depth(agent)))

    def _scale(self, command: control.Scale, caller: Caller) -> None:
        shell = self._shell
        if command.total is None and not command.roles:
            raise UsageError("scale needs a number", "scale N, or scale ROLE=N")
        if any(count < 0 for count in (command.total or 0, *command.roles.values())):
            raise UsageError("a fleet has no negative size", "give 0 or more")
        for role in command.roles:
            shell.specs.configuration.role(role)
        after = {**shell.fleet.wanted, **command.roles}
        total = sum(after.values()) if command.total is None else command.total
        check_count(total)
        if total == 0:
            # Rules, "Fleet commands": scale 0 is stop.
            shell.post(e.StopAsked(shell.reply_to(caller)))
            return
        reply = shell.reply_to(caller)
        # Roles that only this brings in are known from here on.
        settings = shell.specs.configuration.fleet()
        roles = dict(command.roles)
        shell.post(e.ScaleAsked(reply, command.total, roles, self._taken(), settings))

    def _taken(self) -> frozenset[str]:
        """Workspace names there are: those indexes are not used again."""
        return frozenset(taken_names(str(self._shell.specs.base)))

    # -- reload -----------------------------------------------------------------------------------

    def reload(self) -> None:
        """SIGHUP: the same as the command, with nobody to answer."""
        with self._shell.console.manager.reloading():
            try:
                new, plan = self._reread()
            except ConfigError:
                return
            self._adopt(new, plan, 0)

    def _reload(self, caller: Caller, dry_run: bool) -> None:
        if dry_run:
            _new, plan = self._reread(keep=False)
            caller.answer(control.Done(lines=tuple(_lines(plan)), data={"changes": _changes(plan)}))
            return
        with self._shell.console.manager.reloading():
            new, plan = self._reread()
            self._adopt(new, plan, self._shell.reply_to(caller))

    def _reread(self, keep: bool = True) -> tuple[Configuration, Plan]:
        shell = self._shell
        try:
            return shell.specs.configuration.reread()
        except ConfigError as error:
            if keep:
                shell.specs.configuration.problems = error.problems
                shell.perform(fx.Note(j.ReloadRefused(error.problems)))
                shell.console.say("reload: " + "; ".join(error.problems))
            raise

    def _adopt(self, new: Configuration, plan: Plan, reply: int) -> None:
        shell = self._shell
        roles = shell.specs.configuration.counts_after(new, shell.fleet.wanted)
        check_count(sum(roles.values()))
        shell.specs.configuration = new
        lines = (*_lines(plan), *_still_in_review(shell, plan))
        if not reply:
            for line in lines:
                shell.console.say(f"reload: {line}")
        shell.post(e.Reloaded(reply, new.fleet(), roles, self._taken(), lines))
        read_spending(shell)


def _lines(plan: Plan) -> list[str]:
    """One line a change that says when it counts: ``limits.max_active 5 → 10 (live)``."""
    return [
        f"{line} (live)" if change.applies.value == "live" else line
        for change, line in zip(plan.changes, plan.lines(), strict=False)
    ] or list(plan.lines())


def _still_in_review(shell: Shell, plan: Plan) -> list[str]:
    """What a change of ``review`` does not release, and who does."""
    if not any(one.path.endswith(".review") for one in plan.changes):
        return []
    try:
        tasks = shell.books.still_in_review()
    except SwarmError as error:
        shell.log.write("ledger", error=str(error))
        return []
    if not tasks:
        return []
    count = f"{len(tasks)} task{'s' * (len(tasks) > 1)}"
    verb = "waits" if len(tasks) == 1 else "wait"
    how = f"agentctl task approve {tasks[0]}" if len(tasks) == 1 else "agentctl task approve ID"
    which = "" if len(tasks) == 1 else "; agentctl task list --state review"
    return [f"{count} in review still {verb} for a person: {how}{which}"]


def _changes(plan: Plan) -> list[dict[str, str]]:
    return [
        {"path": one.path, "old": one.old, "new": one.new, "applies": one.applies.value}
        for one in plan.changes
    ]


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]
