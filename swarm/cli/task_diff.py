"""``agentctl task diff``."""

from __future__ import annotations

import sys

import click

from swarm.cli.arguments import TaskName
from swarm.cli.control import here
from swarm.cli.hubs import git, hub_of
from swarm.cli.screen import many_lines, on_terminal
from swarm.cli.tasks import opened
from swarm.config.places import Places
from swarm.errors import GitError, SwarmError
from swarm.ledger import Task


@click.command("diff")
@click.argument("task_id", type=TaskName(), metavar="ID")
@click.option("--stat", is_flag=True, help="Only which files, and how much.")
def diff(task_id: str, stat: bool) -> None:
    """What a task's branch changes, from where it began.

    On a terminal it is coloured and paged; piped, it is git's own output, fit for git apply.
    """
    places = here()
    with opened(places) as ledger:
        task = ledger.find(task_id)
    output = read_diff(places, task, "--stat" if stat else "--patch")
    if on_terminal():
        click.echo_via_pager(coloured(output.decode(errors="replace")))
    else:
        sys.stdout.buffer.write(output)


def read_diff(places: Places, task: Task, how: str) -> bytes:
    """Git's diff of the task's commits.

    Raises :class:`SwarmError` for a task that has none, :class:`GitError` when git fails.
    """
    hub = hub_of(places, task)
    if hub is None or task.branch is None:
        raise SwarmError(
            f"{task.id} has no branch yet: it is {task.state}", "see 'agentctl task show'"
        )
    if not task.commits:
        raise SwarmError(f"{task.id} left no commits", "see its answer in 'agentctl task show'")
    done = git(
        hub,
        "diff",
        how,
        "--no-color",
        "--no-ext-diff",
        "--no-textconv",
        "--end-of-options",
        f"{task.commits[0]}^",
        f"refs/heads/{task.branch}",
        "--",
    )
    if done.returncode != 0:
        raise GitError(
            f"git diff in {hub}: {done.stderr.decode(errors='replace')[:500]}",
            "is the hub damaged? git fsck tells",
        )
    return done.stdout


def coloured(text: str) -> str:
    """A diff made harmless, then coloured as git does."""
    return "".join(f"{_coloured_line(line)}\n" for line in many_lines(text).split("\n")[:-1])


def _coloured_line(line: str) -> str:
    if line.startswith(("diff ", "index ", "--- ", "+++ ")):
        return click.style(line, bold=True)
    if line.startswith("@@"):
        return click.style(line, fg="cyan")
    if line.startswith("+"):
        return click.style(line, fg="green")
    return click.style(line, fg="red") if line.startswith("-") else line
