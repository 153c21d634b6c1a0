"""The address of an agentchat server: ``ws://host:port/path`` or ``wss://…``.

A small reader of its own: ``urllib.parse`` would cost each daemon memory for schemes it never
meets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from swarm.errors import ChatError

_URL = re.compile(
    r"(?P<scheme>wss?)://"
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+))"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[!-\"$-~]*)?\Z"
)


@dataclass(frozen=True, slots=True)
class ChatAddress:
    """A server to connect to."""

    secure: bool
    """``wss``: TLS with a verified certificate for ``host``."""
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The ``Host`` header: the port is left out where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _default_port(self.secure) else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The address as text again."""
        return f"{'wss' if self.secure else 'ws'}://{self.authority}{self.path}"


def read_address(url: str) -> ChatAddress:
    """Parse ``url``; :class:`~swarm.errors.ChatError` says what is wrong with it."""
    match = _URL.match(url)
    port = int(match["port"]) if match and match["port"] else None
    if match is None or port == 0 or (port or 0) > 65535:
        raise ChatError(
            f"{url[:200]!r} is no chat address", "write ws://host:port or wss://host[:port][/path]"
        )
    secure = match["scheme"] == "wss"
    return ChatAddress(
        secure=secure,
        host=match["v6"] or match["host"],
        port=port or _default_port(secure),
        path=match["path"] or "/",
    )


def _default_port(secure: bool) -> int:
    return 443 if secure else 80
