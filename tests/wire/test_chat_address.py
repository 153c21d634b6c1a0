"""Chat addresses: what is one, and what it says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import ChatError
from swarm.wire.address import ChatAddress, read_address


@pytest.mark.parametrize(
    ("url", "means", "authority"),
    [
        ("ws://127.0.0.1:6667", ChatAddress(False, "127.0.0.1", 6667, "/"), "127.0.0.1:6667"),
        ("wss://chat.example", ChatAddress(True, "chat.example", 443, "/"), "chat.example"),
        ("ws://h/a/b?c=d", ChatAddress(False, "h", 80, "/a/b?c=d"), "h"),
        ("wss://h:80/", ChatAddress(True, "h", 80, "/"), "h:80"),
        ("ws://[::1]:6667", ChatAddress(False, "::1", 6667, "/"), "[::1]:6667"),
    ],
)
def test_addresses(url: str, means: ChatAddress, authority: str):
    found = read_address(url)
    assert found == means
    assert found.authority == authority
    assert read_address(found.url) == found


@pytest.mark.parametrize(
    "url",
    ["", "ws", "ws:/h", "http://h", "WS://h", "ws://", "ws:///x", "ws://h:", "ws://h:0", "ws://h:65536",
     "ws://u:p@h", "ws://h/#part", "ws://h/ x", "ws://h\r\nX: y", "ws://h/\n", "ws://h?x", "ws://ü"],
)  # fmt: skip
def test_what_is_none(url: str):
    with pytest.raises(ChatError, match="no chat address"):
        read_address(url)


@given(
    st.text(max_size=40) | st.text(alphabet="ws:/[]@#?.h0\r\n ", max_size=20).map("ws://".__add__)
)
def test_any_text_is_an_address_or_a_chat_error(url: str):
    try:
        found = read_address(url)
    except ChatError:
        return
    assert found.authority.isprintable()
    assert 0 < found.port < 65536
    assert found.path.startswith("/")
