"""Kinds of command-line arguments, each with its completion, and how an answer is shown."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from swarm.cli.screen import say
from swarm.core.budget import Amount
from swarm.core.model import is_role, split_agent_name
from swarm.errors import UsageError
from swarm.wire import control

if TYPE_CHECKING:
    from typing import Any

    _Text = click.ParamType[str]
    _Pair = click.ParamType[tuple[str, int]]
    _Whole = click.ParamType[int]
    _Number = click.ParamType[float]
else:  # click before 8.2 has no type parameter here
    _Text = _Pair = _Whole = _Number = click.ParamType

_UNITS = {"k": 1000, "m": 1_000_000}

MAX_AGENTS = 10_000
"""Agents one command may ask for: more is a slip of the finger."""


class RoleCount(_Pair):
    """``ROLE=N`` → ``(role, n)``."""

    name = "ROLE=N"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """Raises :class:`UsageError` naming what is wrong."""
        if isinstance(value, tuple):
            return value
        role, equals, count = str(value).partition("=")
        if not equals or not is_role(role):
            raise UsageError(f"{str(value)[:80]!r} is not ROLE=N", "write it as in builder=3")
        if not (count.isascii() and count.isdigit()) or int(count) > MAX_AGENTS:
            raise UsageError(
                f"{count[:80]!r} is no number of {role} agents", f"give 0 to {MAX_AGENTS}"
            )
        return role, int(count)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        """``builder=`` and so on."""
        from swarm.cli.complete import known_roles

        return [CompletionItem(f"{r}=") for r in known_roles() if r.startswith(incomplete)]


class RoleName(_Text):
    """The name of a role, by its form; whether it exists is checked where it is used."""

    name = "ROLE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Raises :class:`UsageError` for what can name no role."""
        if not is_role(str(value)):
            raise UsageError(f"{str(value)[:80]!r} can name no role", "roles: a-z 0-9 _ -, 22 long")
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        """The roles of this home."""
        from swarm.cli.complete import known_roles

        return [CompletionItem(role) for role in known_roles() if role.startswith(incomplete)]


class AgentName(_Text):
    """``swarm-<role>-NNN``; the ``swarm-`` may be left out."""

    name = "AGENT"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """Raises :class:`UsageError` for what can name no agent."""
        text = str(value)
        for name in (text, f"swarm-{text}"):
            if split_agent_name(name) is not None:
                return name
        raise UsageError(
            f"{text[:80]!r} names no agent", "names are like swarm-builder-003; see 'swarm status'"
        )

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        """The agents of the running swarm."""
        from swarm.cli.complete import known_agents

        return [CompletionItem(name) for name in known_agents() if name.startswith(incomplete)]


class TaskName(_Text):
    """A task's id or the beginning of one."""

    name = "ID"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        """The newest tasks of the ledger."""
        from swarm.cli.complete import known_tasks

        return [
            CompletionItem(task, help=title)
            for task, title in known_tasks()
            if task.startswith(incomplete)
        ]


class Tokens(_Whole):
    """A budget in tokens: ``50000``, ``50_000``, ``50k`` or ``2M``."""

    name = "N"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Raises :class:`UsageError` for what is no number of tokens."""
        text = str(value).strip().replace("_", "")
        unit = _UNITS.get(text[-1:].lower(), 1)
        digits = text[:-1] if unit > 1 else text
        # Long digits are told as too many by the ledger, very long ones must not be read at all.
        if not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
            raise UsageError(
                f"{str(value)[:40]!r} is no number of tokens", "give it as in 50000, 50k or 2M"
            )
        return checked_budget(Amount(tokens=int(digits) * unit)).tokens or 0


class Dollars(_Number):
    """A budget in dollars: ``2`` or ``0.50``, with or without a dollar sign."""

    name = "X"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Raises :class:`UsageError` for what is no sum of money."""
        text = str(value).strip().removeprefix("$")
        try:
            amount = float(text)
        except ValueError:
            amount = math.nan
        if not math.isfinite(amount):
            raise UsageError(f"{str(value)[:40]!r} is no sum of dollars", "give it as in 0.50")
        return checked_budget(Amount(usd=amount)).usd or 0.0


class Number(click.FloatRange):
    """A number in its bounds: not ``nan``, which lies in any, nor ``inf``, which no JSON holds."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Fails as any wrong usage does for what is no finite number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


def checked_budget(budget: Amount) -> Amount:
    """A task's budget in its bounds.  Raises :class:`UsageError`."""
    from swarm.ledger.intake import check_budget

    check_budget(budget)
    return budget


token_budget = click.option(
    "--token-budget",
    type=Tokens(),
    metavar="N",
    help="Tokens that all its attempts together may use: 50000, 50k, 2M.",
)
usd_budget = click.option(
    "--usd-budget",
    type=Dollars(),
    metavar="X",
    help="Dollars that all its attempts together may cost.",
)


def show_done(done: control.Done, otherwise: str) -> None:
    """Print what the supervisor says it did, or ``otherwise`` when it says nothing."""
    for line in done.lines or (otherwise,):
        say(line)
