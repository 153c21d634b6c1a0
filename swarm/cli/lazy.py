"""Groups that import a command only when it is asked for, so that ``agentctl`` starts fast."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass

import click


@dataclass(frozen=True, slots=True)
class Entry:
    """One command of a group that is not imported yet."""

    where: str
    """``module:attribute`` of the click command."""
    short: str
    """What the group's help says about it."""
    alias_of: str = ""
    """The command this is another name for; aliases are left out of the list."""


class LazyGroup(click.Group):
    """A group whose commands are named by :class:`Entry`, in the order they are listed."""

    def __init__(self, name: str, entries: Mapping[str, Entry], help: str) -> None:  # noqa: A002 - click's own word
        super().__init__(name=name, help=help, context_settings={"max_content_width": 100})
        self._entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command that is no alias, in the order of the entries."""
        return [name for name, entry in self._entries.items() if not entry.alias_of]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command, or ``None`` when there is none of that name."""
        entry = self._entries.get(cmd_name)
        if entry is None:
            return None
        module, attribute = entry.where.split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from their entries; nothing is imported for it."""
        rows = []
        for name, entry in self._entries.items():
            if not entry.alias_of:
                aliases = [n for n, e in self._entries.items() if e.alias_of == name]
                rows.append((", ".join([name, *aliases]), entry.short))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a suggestion from our own names when there is no such command."""
        name = args[0]
        if name in self._entries or name.startswith("-"):
            return super().resolve_command(ctx, args)
        import difflib

        near = [entry for entry in self._entries if entry.startswith(name)]
        near = near or difflib.get_close_matches(name, self._entries, n=1)
        known = [n for n, entry in self._entries.items() if not entry.alias_of]
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
        raise click.UsageError(f"no such command {name!r}: {hint}", ctx)
