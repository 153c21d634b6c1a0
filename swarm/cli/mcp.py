"""``agentctl mcp``."""

from __future__ import annotations

import os

import click

from swarm.cli.control import here


@click.command("mcp")
@click.option(
    "--as", "name", default="", metavar="NAME", help="Who claims, unless the client says otherwise."
)
@click.option(
    "--decide", is_flag=True, help="Its client may approve, reject and answer in your name."
)
def mcp(name: str, decide: bool) -> None:
    """Serve the Model Context Protocol on standard input and output.

    For an agent that speaks it: tools to hand work to the fleet, to wait for it, to take tasks by
    lease and to answer them.  Ends when the client closes the input.  Works with and without a
    running swarm.

    \b
    Examples:
      claude mcp add agentctl -- agentctl mcp
      claude mcp add reviewers -- agentctl mcp --as ada-review
      codex mcp add agentctl -- agentctl mcp

    \b
    codex begins a session without a server that is not there within a second, unless its
    config.toml says so under [mcp_servers.agentctl]:  required = true
    """
    import asyncio
    import signal

    from swarm.desk.mcp import serve_mcp
    from swarm.desk.names import outsider_name

    # A thread of the SDK's reads the input, and an exception would wait for it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    asyncio.run(serve_mcp(here(), outsider_name(name, os.environ), decides=decide))
