"""The control socket: how ``agentctl`` talks to a running supervisor.

A client connects to ``AGENTCTL_HOME/control.sock``, writes one :class:`Request` line and reads
lines until a :class:`Done` or :class:`Refused`; :class:`Progress` lines may come before it.  The
socket is 0600, the peer's uid is checked, and the request carries the token of
``AGENTCTL_HOME/control.token`` (0600), which no sandboxed session can read: Landlock does not
stop ``connect()`` (rules, "The sandbox").
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from swarm.errors import BadMessage

VERSION = 1
MAX_REQUEST = 64 * 1024
"""Bytes of one request line."""


class _Command(msgspec.Struct, frozen=True, tag_field="command", omit_defaults=True):
    """What is asked; the tag is the snake-case verb."""


class Status(_Command, frozen=True, tag="status"):
    """The supervisor's part of ``swarm status --json``."""


class WaitReady(_Command, frozen=True, tag="wait_ready"):
    """Answered when every daemon is ready, or with the reasons why not."""


class Scale(_Command, frozen=True, tag="scale"):
    """Either ``total`` (roles keep their proportions) or ``roles``; ``total: 0`` is stop."""

    total: int | None = None
    roles: dict[str, int] = {}


class Reload(_Command, frozen=True, tag="reload"):
    """Read the config again; with ``dry_run`` only say what would change."""

    dry_run: bool = False


class Pause(_Command, frozen=True, tag="pause"):
    """No promotions until ``resume``; running sessions go on."""

    reason: str = ""


class Resume(_Command, frozen=True, tag="resume"):
    """Promotions again."""


class Stop(_Command, frozen=True, tag="stop"):
    """End the swarm.  ``drain``: seconds active sessions may go on, 0 is for ever, null is no."""

    now: bool = False
    drain: float | None = None


class AgentShow(_Command, frozen=True, tag="agent_show"):
    """One agent, in depth."""

    agent: str


class AgentStop(_Command, frozen=True, tag="agent_stop"):
    """Stop one agent; its task, if any, is queued again."""

    agent: str


class AgentRestart(_Command, frozen=True, tag="agent_restart"):
    """Restart one agent, also a degraded or stopped one; its restart count starts again."""

    agent: str


class AgentKillSession(_Command, frozen=True, tag="agent_kill_session"):
    """End the session of one agent; its attempt is ``cancelled``."""

    agent: str
    reason: str = ""


class Upgrade(_Command, frozen=True, tag="upgrade"):
    """Execute the newly installed program in this very process; children and sessions go on.

    ``Done`` comes from the new program, ``Refused`` from the old one, which goes on.  ``data``
    holds ``generation`` (what ``status`` shows as ``swarm.generation``), the versions ``before``
    and ``after``, and how many ``agents`` and ``sessions`` went on.
    """


class PokeLedger(_Command, frozen=True, tag="poke"):
    """The ledger changed; the coordinator should look at it."""


Command: TypeAlias = (
    Status | WaitReady | Scale | Reload | Pause | Resume | Stop
    | AgentShow | AgentStop | AgentRestart | AgentKillSession | PokeLedger | Upgrade
)  # fmt: skip


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line from a client."""

    token: str
    do: Command
    version: int = VERSION


class Progress(msgspec.Struct, frozen=True, tag_field="type", tag="progress"):
    """One line for people while long work goes on."""

    text: str


class Done(msgspec.Struct, frozen=True, tag_field="type", tag="done"):
    """It was done; ``data`` is the answer, ``lines`` say it to people."""

    data: dict[str, Any] = {}
    lines: tuple[str, ...] = ()


class Refused(msgspec.Struct, frozen=True, tag_field="type", tag="refused"):
    """It was not done, and nothing changed."""

    error: str
    remedy: str = ""
    exit_code: int = 1


Answer: TypeAlias = Progress | Done | Refused

_encoder = msgspec.json.Encoder()
_request: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_answer: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)


def encode(message: Request | Answer) -> bytes:
    """One line with its newline."""
    return _encoder.encode(message) + b"\n"


def read_request(line: bytes) -> Request:
    """Raises :class:`~swarm.errors.BadMessage` on anything that is no request."""
    try:
        return _request.decode(line)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadMessage(f"not a control request: {error}") from error


def read_answer(line: bytes) -> Answer:
    """Raises :class:`~swarm.errors.BadMessage` on anything that is no answer."""
    try:
        return _answer.decode(line)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadMessage(f"not a control answer: {error}") from error
