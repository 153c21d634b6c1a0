"""Shell completion: the script for a shell, and the names it completes to."""

from __future__ import annotations

import os

import click

from swarm.cli.control import ask, here
from swarm.errors import SwarmError
from swarm.wire import control

VARIABLE = "_AGENTCTL_COMPLETE"
"""Set by the script when the shell wants completions; click looks for it."""


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    Examples:
      eval "$(agentctl completion bash)"                      in ~/.bashrc
      eval "$(agentctl completion zsh)"                       in ~/.zshrc
      agentctl completion fish > ~/.config/fish/completions/agentctl.fish
    """
    click.echo(script(shell))


def script(shell: str) -> str:
    """The script for ``bash``, ``zsh`` or ``fish``."""
    from click.shell_completion import ShellComplete, get_completion_class

    from swarm.cli.main import app

    kind = get_completion_class(shell)
    assert kind is not None
    made = kind(app, {}, "agentctl", VARIABLE)
    return ShellComplete.source(made)  # bash's own one runs bash to learn its version


def known_agents() -> list[str]:
    """Agents of the running swarm; none when there is none or it does not answer at once."""
    try:
        agents = ask(here(), control.Status(), patience=1.0).data.get("agents", [])
        return [str(agent["name"]) for agent in agents]
    except (SwarmError, OSError, KeyError, TypeError):
        return []


def known_roles() -> list[str]:
    """Roles shipped and of this home."""
    from swarm.config.roles import available_roles

    try:
        return sorted(available_roles(here().roles))
    except (SwarmError, OSError):
        return []


def known_tasks() -> list[tuple[str, str]]:
    """Ids and titles of the newest tasks."""
    if not os.path.exists(here().ledger):
        return []
    from swarm.ledger import open_ledger

    try:
        with open_ledger(here().ledger) as ledger:
            return [(task.id, task.title) for task in ledger.tasks(limit=100)]
    except (SwarmError, OSError):
        return []
