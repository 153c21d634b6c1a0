"""``agentctl``: the commands, and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from swarm.cli.lazy import Entry, LazyGroup
from swarm.cli.screen import one_line
from swarm.errors import ConfigError, Interrupted, SwarmError

REPORT_AT = "please report it with what AGENTCTL_DEBUG=1 shows"

HELP = """\
A fleet of coding agents on this machine: start it, give it tasks, watch it work.

\b
Begin here:
  agentctl doctor                         what this machine lacks, and what to do about it
  agentctl demo                           the whole story in a temporary directory, for free
  cd my-project && agentctl swarm up -d   three builders, working on this repository
  agentctl task add "Fix the typo in README.md"
  agentctl swarm status

\b
Exit codes: 0 done, 1 it failed, 2 wrong usage or configuration, 3 a waited-for task failed,
4 no swarm is running, 5 another swarm is running, 124 waited too long, 130 interrupted.
Everything of one swarm lies in AGENTCTL_HOME (default ~/.agentctl).
"""

app = LazyGroup(
    "agentctl",
    {
        "init": Entry("swarm.cli.init:init", "Write a commented swarm.yaml."),
        "demo": Entry("swarm.cli.demo:demo", "See a fleet at work in a temporary home."),
        "chaos": Entry("swarm.cli.chaos:chaos", "A storm over a fleet of its own, with a verdict."),
        "doctor": Entry("swarm.cli.doctor:doctor", "What is missing on this machine."),
        "swarm": Entry("swarm.cli.swarm:swarm", "Start, stop, watch and scale the fleet."),
        "agent": Entry("swarm.cli.agent:agent", "Look at one agent, stop or restart it."),
        "task": Entry("swarm.cli.task:task", "Give the fleet work and see how it goes."),
        "lane": Entry("swarm.cli.lane:lane", "Work the fleet's queue from outside, by lease."),
        "mcp": Entry("swarm.cli.mcp:mcp", "The same as an MCP server, on standard streams."),
        "plan": Entry("swarm.cli.plan:plan", "Many tasks that depend on each other, by a file."),
        "chat": Entry("swarm.cli.chat:chat", "The chat server on its own, and a plain client."),
        "clean": Entry("swarm.cli.clean:clean", "Remove what is past its time; lose no work."),
        "completion": Entry("swarm.cli.complete:completion", "Print a shell completion script."),
    },
    help=HELP,
)


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from swarm import __version__

        click.echo(f"agentctl {__version__}")
        ctx.exit()


app.params.append(
    click.Option(
        ["--version"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_print_version,
        help="Show the version and exit.",
    )
)


def main() -> NoReturn:
    """The console entry: run, and exit with the code the contract gives."""
    _open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a title may not fit the locale
    if os.getpid() == 1:  # signals without a handler do nothing to it (pid_namespaces(7))
        from swarm.cli.interruption import ended_by_signals

        with ended_by_signals():
            code = run(sys.argv[1:])
    else:
        code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError as error:  # the reader went away, or the disk is full
        if not isinstance(error, BrokenPipeError):
            _complain(f"cannot write the output: {error.strerror}")
        code = code or 1
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter complains at its end
    sys.exit(code)


def _open_standard_streams() -> None:
    """Open what a bare init left closed: no file opened later must become standard output."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    # Python knows a stream that was closed as None.
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - lives as long as we
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def run(arguments: Sequence[str]) -> int:
    """Run one command line; every error becomes one line on standard error and an exit code."""
    try:
        result = app.main(list(arguments), prog_name="agentctl", standalone_mode=False)
    except Exception as error:  # noqa: BLE001 - the boundary: a person never sees a traceback
        if os.environ.get("AGENTCTL_DEBUG") == "1":
            import traceback

            traceback.print_exc()
        return explain(error)
    except KeyboardInterrupt:
        return explain(Interrupted("interrupted"))
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 0 if exit_.code is None else 1
    return result if isinstance(result, int) else 0


def explain(error: Exception) -> int:
    """Say what went wrong in one line (a configuration's problems: one each), return the code."""
    match error:
        case ConfigError():
            *others, last = error.problems or (error.what,)
            for problem in others:
                _complain(problem)
            _complain(f"{last}; {error.remedy}" if error.remedy else last)
            return error.exit_code
        case SwarmError():
            _complain(str(error))
            return error.exit_code
        case click.ClickException():
            return _explain_usage(error)
        case click.Abort():
            _complain("interrupted")
            return Interrupted.exit_code
        case BrokenPipeError():
            return 1
        case OSError() if error.strerror:
            nameless = "cannot write the output: " if error.errno == errno.ENOSPC else ""
            about = f"{error.filename}: " if error.filename else nameless
            _complain(f"{about}{error.strerror}{_home_remedy(error)}")
            return 1
        case UnicodeEncodeError() if error.encoding == "utf-8":
            # Python has the bytes of an argument that are no text as lone surrogates (PEP 383).
            _complain(f"{error.object[:80]!r} is not valid Unicode; give it in UTF-8")
            return 2
        case _:
            kind = type(error).__name__
            _complain(f"a defect in agentctl: {kind}: {error}; {REPORT_AT}")
            return 1


def _home_remedy(error: OSError) -> str:
    """What to do about a home that cannot be made, read or written; nothing for other trouble."""
    from swarm.cli.control import here

    wrong = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT}
    try:
        home = here().home
    except SwarmError:
        return ""
    if error.errno not in wrong or not isinstance(error.filename, str):
        return ""
    path = Path(error.filename)
    if path != home and home not in path.parents and path not in home.parents:
        return ""
    if error.errno == errno.ENOENT and os.path.isdir(home):
        return ""
    return "; AGENTCTL_HOME must be a directory you can read and write: see ls -ld, or name another"


def _explain_usage(error: click.ClickException) -> int:
    no_arguments = getattr(click.exceptions, "NoArgsIsHelpError", None)  # click 8.2 and later
    if no_arguments is not None and isinstance(error, no_arguments):
        click.echo(error.format_message(), err=True)  # our own help text
        return 2
    remedy = ""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        remedy = f"; see '{error.ctx.command_path} --help'"
    _complain(f"{error.format_message().rstrip('.')}{remedy}")
    return 2


def _complain(text: str) -> None:
    try:
        click.echo(f"agentctl: {one_line(text)}", err=True)
    except OSError:
        return  # nobody reads standard error


if __name__ == "__main__":
    main()
