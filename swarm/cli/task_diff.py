"""``agentctl task diff``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from swarm.cli.arguments import TaskName
from swarm.cli.control import here
from swarm.cli.hubs import git, hub_of, work_ref
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


def read_diff(places: Places, task: Task, *how: str) -> bytes:
    """Git's diff of the task's commits.

    Raises :class:`SwarmError` for a task that has none, :class:`GitError` when git fails.
    """
    hub = hub_of(places, task)
    if hub is None and task.has_landed:
        raise SwarmError(
            f"the branch of {task.id} was cleaned away after it had landed",
            f"in your repository: git show {task.landed}",
        )
    if hub is None or task.branch is None:
        raise SwarmError(
            f"{task.id} has no branch yet: it is {task.state}", "see 'agentctl task show'"
        )
    if not task.commits:
        raise SwarmError(f"{task.id} left no commits", "see its answer in 'agentctl task show'")
    options = ("--no-color", "--no-ext-diff", "--no-textconv", "--end-of-options")
    base = root_of(hub, task) or f"{task.commits[0]}^"
    tip = work_ref(hub, task) or f"refs/heads/{task.branch}"
    done = git(hub, "diff", *how, *options, base, tip, "--")
    if done.returncode != 0:
        raise GitError(
            f"git diff in {hub}: {done.stderr.decode(errors='replace')[:500]}",
            "is the hub damaged? git fsck tells",
        )
    return done.stdout


def root_of(hub: Path, task: Task) -> str | None:
    """The commit a task's work stands on: where it began, or what was merged into it since.

    ``None`` when it has no commits, or its first one has no parent.
    """
    own = frozenset(task.commits or ())
    if not own:
        return None
    told = "\n".join(sorted(own)).encode()
    done = git(hub, "rev-list", "--no-walk", "--parents", "--stdin", stdin=told)
    parents = {word for line in done.stdout.decode().splitlines() for word in line.split()[1:]}
    outside = sorted(parents - own)
    if len(outside) < 2:
        return outside[0] if outside else None
    # Each merge of the target brought in one more; the newest of them holds the others.
    newest = git(hub, "merge-base", "--independent", *outside).stdout.decode().split()
    return newest[0] if newest else outside[0]


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
