"""``agentctl chat``: the embedded server on its own, and a plain client of any agentchat server."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from swarm.cli.arguments import Number
from swarm.cli.control import ask, here, not_running
from swarm.cli.screen import harmless_json, note, one_line, print_json, say, show_table
from swarm.cli.settings import settings_or_defaults
from swarm.config.places import Places
from swarm.config.settings import Settings
from swarm.core.model import bare_id, is_agent_id, is_channel
from swarm.errors import ChatError, SwarmError, UsageError
from swarm.wire import control
from swarm.wire.address import read_address
from swarm.wire.work import MAX_CONTENT

if TYPE_CHECKING:
    from swarm.chat.client import ChatClient
    from swarm.wire.agentchat.session import Said

HELP = """\
The chat the fleet meets on: talk and listen, or run its server on its own.

\b
Examples:
  agentctl chat send "TASK builder: fix the typo in README.md"
  agentctl chat tail -f                   what the fleet says, as it says it
  agentctl chat who
  agentctl chat serve --listen 127.0.0.1:6667

Without --url the running swarm's server is meant, else the one the configuration names.
"""

OPERATOR = "operator"
"""The name of a new identity at ``AGENTCTL_HOME/identity.json``."""
ADDRESS_FILE = "chat.address"
"""In the home: the address the embedded server really got, written by the supervisor."""
PATIENCE = 30.0
"""Seconds a joined channel may take to answer."""
_T = TypeVar("_T")


def _channel_name(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not is_channel(value):
        raise UsageError(
            f"{value[:80]!r} is no channel", "a channel is # and 1-31 of A-Z a-z 0-9 _ -"
        )
    return value


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--url", metavar="URL", help="ws:// or wss:// address of the server."),
        click.option(
            "-c", "--channel", metavar="#NAME", callback=_channel_name,
            help="Default: chat.channel of the configuration.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


@click.group("chat", help=HELP)
def chat() -> None:
    """The group; its text for people is :data:`HELP`."""


@chat.command("serve")
@click.option("--listen", metavar="HOST:PORT", help="Default: chat.listen; port 0 is any free one.")
@click.option(
    "--channel", "channels", metavar="#NAME", multiple=True, help="Beside #general and #agents."
)
@click.option("--trust", metavar="ID", multiple=True, help="An agent id without rate limit.")
@click.option(
    "--rate", type=Number(min=0, min_open=True, max=10_000), default=1.0,
    show_default=True, help="Messages a second an agent may send.",
)  # fmt: skip
def serve(
    listen: str | None, channels: tuple[str, ...], trust: tuple[str, ...], rate: float
) -> None:
    """Run the embedded chat server on its own, until Ctrl-C or SIGTERM."""
    from swarm.chat.server import read_listen

    for name in channels:
        if not is_channel(name):
            raise UsageError(f"{name[:80]!r} is no channel", "write it as in '#work'")
    for agent in trust:
        if not is_agent_id(agent):
            raise UsageError(f"{agent[:80]!r} is no agent id", "an id has 16 hex digits")
    where = listen or settings_or_defaults(here()).chat.listen
    host, port = _given(read_listen, where)
    asyncio.run(_serve(host, port, channels, tuple(bare_id(a) for a in trust), rate))


async def _serve(
    host: str, port: int, channels: tuple[str, ...], trusted: tuple[str, ...], rate: float
) -> None:
    from dataclasses import replace

    from swarm.chat.server import PROTOCOL_LIMITS, serve_chat

    frames = max(PROTOCOL_LIMITS.frames_after, int(rate * 20))
    limits = replace(PROTOCOL_LIMITS, messages_per_second=rate, frames_after=frames)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with serve_chat(host, port, limits=limits, channels=channels, trusted=trusted) as running:
        say(f"listening on {running.address}; Ctrl-C ends it")
        sys.stdout.flush()
        await ended.wait()


@chat.command("send")
@_options
@click.option(
    "--timeout", type=Number(min=0, min_open=True), default=90.0, show_default=True,
    metavar="SECONDS", help="Longest wait for the echo.",
)  # fmt: skip
@click.argument("text", nargs=-1, required=True)
def send(url: str | None, channel: str | None, timeout: float, text: tuple[str, ...]) -> None:
    """Send TEXT (or - for standard input) as the operator; done when its echo has come."""
    words = sys.stdin.read(MAX_CONTENT + 1) if text == ("-",) else " ".join(text)
    content = words.strip()
    if not content:
        raise UsageError("there is nothing to send", "give a text, or - and standard input")
    if len(content.encode()) > MAX_CONTENT:
        raise UsageError(f"the message is longer than {MAX_CONTENT} bytes", "send less at once")

    async def told(client: ChatClient) -> None:
        client.ignore_events()
        await client.joined(timeout)
        await client.tell(content, within=timeout)

    _with_client(url, channel, told, operator=True)


@chat.command("tail")
@_options
@click.option("-n", "lines", type=click.IntRange(0, 200), default=20, show_default=True,
              help="How many earlier messages to show.")  # fmt: skip
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C, over reconnects too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--identify", is_flag=True, help="Sign in as the operator, not as a nameless reader.")
def tail(
    url: str | None, channel: str | None, lines: int, follow: bool, as_json: bool, identify: bool
) -> None:
    """Show what is said on the channel."""

    async def listen(client: ChatClient) -> None:
        await _listen(client, lines, follow, _json_line if as_json else _line)

    _with_client(url, channel, listen, operator=identify, once=not follow)


async def _listen(
    client: ChatClient, lines: int, follow: bool, show: Callable[[Said], None]
) -> None:
    """Print the last ``lines`` of the replay, then, following, everything new.

    The replay is over when the server answers who is there, which it does after it, or, where it
    never does, with the first new message or :data:`PATIENCE`.
    """
    earlier: deque[Said] = deque(maxlen=lines)
    try:
        async with asyncio.timeout(None if follow else PATIENCE):
            await _show_events(client, earlier, follow, show)
    except TimeoutError:
        if not client.connected:
            raise ChatError("the server did not let us in in time", "try again later") from None
        for said in earlier:
            show(said)


async def _show_events(
    client: ChatClient, earlier: deque[Said], follow: bool, show: Callable[[Said], None]
) -> None:
    from swarm.chat.client import Disconnected
    from swarm.wire.agentchat.session import Joined, Members, Refused, Said

    caught_up = False
    async for event in client.events():
        over = isinstance(event, Members) or (
            follow and isinstance(event, Said) and not event.replay
        )
        if over and not caught_up:
            caught_up = True
            for said in earlier:
                show(said)
        match event:
            case Joined() if not caught_up:
                await client.ask_who()  # its answer comes after the replay
            case Said() if caught_up:
                show(event)
            case Said():
                earlier.append(event)
            case Members() if not follow:
                return
            case Disconnected(reason=reason):
                note(f"{reason}; trying again")
            case Refused(message=message):
                note(f"the server refused something: {message}")
            case _:
                pass


def _line(said: Said) -> None:
    at = _moment(said.ts).astimezone().strftime("%H:%M:%S")
    who = one_line(said.sender_name or said.sender, 32)
    say(f"{at} {who}: {one_line(said.content)}")
    sys.stdout.flush()


def _json_line(said: Said) -> None:
    import msgspec

    record = {
        "ts": _moment(said.ts).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "from": said.sender,
        "from_name": said.sender_name,
        "content": said.content,
        "msg_id": said.msg_id,
        "replay": said.replay,
    }
    click.echo(harmless_json(msgspec.json.encode(record).decode()))
    sys.stdout.flush()


def _moment(milliseconds: int) -> datetime:
    """A server's ``ts``, whatever it sent there."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


@chat.command("who")
@_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object, version 1.")
@click.option("--identify", is_flag=True, help="Sign in as the operator, not as a nameless reader.")
def who(url: str | None, channel: str | None, as_json: bool, identify: bool) -> None:
    """List who is on the channel, this reader left out."""
    from swarm.wire.agentchat.session import Joined, Members

    async def members(client: ChatClient) -> tuple[str | None, Members]:
        await client.joined()
        try:
            async with asyncio.timeout(PATIENCE):
                async for event in client.events():
                    match event:
                        case Joined():
                            await client.ask_who()
                        case Members():
                            return client.agent_id, event
                        case _:
                            pass
        except TimeoutError:
            pass  # the same as an end without an answer
        raise ChatError("the server did not say who is there", "try again later")

    me, found = _with_client(url, channel, members, operator=identify)
    agents = [m for m in found.members if bare_id(m.id) != me]
    if as_json:
        print_json(
            {
                "version": 1,
                "channel": found.channel,
                "agents": [
                    {
                        "id": bare_id(m.id),
                        "name": m.name,
                        "presence": m.presence if isinstance(m.presence, str) else None,
                        "status_text": m.status_text if isinstance(m.status_text, str) else None,
                        "verified": m.verified,
                    }
                    for m in agents
                ],
            }
        )
        return
    rows = [
        (
            m.name or "-",
            bare_id(m.id),
            m.presence if isinstance(m.presence, str) else "-",
            m.status_text if isinstance(m.status_text, str) else "",
        )
        for m in agents
    ]
    show_table(("NAME", "ID", "PRESENCE", "STATUS"), rows)


def _given(read: Callable[[str], _T], text: str) -> _T:
    """What ``read`` makes of an address; a wrong one is wrong usage, not a server's refusal."""
    try:
        return read(text)
    except ChatError as error:
        raise UsageError(error.what, error.remedy) from None


def _with_client(
    url: str | None,
    channel: str | None,
    work: Callable[[ChatClient], Coroutine[Any, Any, _T]],
    *,
    operator: bool,
    once: bool = True,
) -> _T:
    """Run ``work`` with a client of the server that is meant; Ctrl-C is a KeyboardInterrupt."""
    from swarm.chat.client import ChatClient
    from swarm.spawner.identity import load_or_create

    places = here()
    settings = settings_or_defaults(places)
    address = url or chat_address(places, settings)
    _given(read_address, address)  # a bad one is told before an identity is made
    identity = load_or_create(places.operator_identity, OPERATOR) if operator else None

    async def run() -> _T:
        async with ChatClient(
            address, identity, channel or settings.chat.channel, quiet=True, once=once
        ) as client:
            return await work(client)

    return asyncio.run(run())


def chat_address(places: Places, settings: Settings) -> str:
    """The chat server that is meant when no ``--url`` says it.

    ``chat.url`` of the configuration, else what the running swarm says, else what its supervisor
    wrote down, else ``chat.listen``.  Raises ``NotRunning`` when that names no port.
    """
    if settings.chat.url:
        return settings.chat.url
    try:
        status = ask(places, control.Status(), patience=3.0).data
    except SwarmError:
        status = {}  # none is running, or it does not answer: the server may be there all the same
    swarm = status.get("swarm")
    told = swarm.get("chat_url") if isinstance(swarm, dict) else status.get("chat_url")
    if isinstance(told, str) and told:
        return told
    try:
        with open(places.home / ADDRESS_FILE, encoding="utf-8", errors="replace") as file:
            written = file.read(1024).strip()
    except OSError:
        written = ""
    if not written and settings.chat.listen.endswith(":0"):
        raise not_running(places)  # any free port, and nobody there who could tell which
    return written or f"ws://{settings.chat.listen}"
