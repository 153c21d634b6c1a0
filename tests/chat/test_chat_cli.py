"""``agentctl chat``: what is printed, and with which exit code."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from chat_sockets import foreigner
from hostile_peers import frame, message, turncoat
from tests_support import eventually

from swarm.chat.server import FLEET_LIMITS, serve_chat
from swarm.cli import chat as chat_module
from swarm.cli.chat import ADDRESS_FILE, chat_address
from swarm.cli.main import run
from swarm.config.places import Places
from swarm.config.settings import ChatSettings, Settings
from swarm.errors import NotRunning
from swarm.spawner.identity import load_identity

pytestmark = pytest.mark.usefixtures("home")


async def agentctl(*arguments: str) -> int:
    """The exit code of one command line, run beside the test's own loop."""
    return await asyncio.to_thread(run, ["chat", *arguments])


def serving():
    return serve_chat(port=0, limits=FLEET_LIMITS)


async def test_send_is_done_when_its_echo_has_come(home: Path, capsys):
    async with serving() as running, foreigner(running.address) as other:
        await other.sign_in()
        await other.join()
        assert await agentctl("send", "--url", running.address, "TASK", "builder:", "fix it") == 0
        heard = await other.until("MSG", content="TASK builder: fix it")
        identity = load_identity(home / "identity.json")
        assert heard["from"] == "@" + identity.agent_id
        assert "sig" not in heard, "a server of ours vouches for the sender"
        assert stat.S_IMODE((home / "identity.json").stat().st_mode) == 0o600
        assert await agentctl("send", "--url", running.address, "once more") == 0
        again = await other.until("MSG", content="once more")
        assert again["from"] == heard["from"], "the identity is kept"
    assert capsys.readouterr() == ("", "")


async def test_send_reads_standard_input(monkeypatch: pytest.MonkeyPatch, tmp_path):
    text = tmp_path / "text"
    text.write_text("two\nlines\n")
    async with serving() as running, foreigner(running.address) as other:
        await other.sign_in()
        await other.join()
        with open(text) as file:
            monkeypatch.setattr(sys, "stdin", file)
            assert await agentctl("send", "--url", running.address, "-") == 0
        await other.until("MSG", content="two\nlines")


async def test_tail_ends_on_a_server_that_does_not_say_who_is_there(
    capsys, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(chat_module, "PATIENCE", 0.5)
    with turncoat() as server:
        server.mute = True
        server.attack = lambda _guest: frame(
            json.dumps(message("a" * 16, "ann", "\x9b2Jevil", replay=True, msg_id="1")), mask=False
        )
        assert await agentctl("tail", "--url", server.url) == 0
        assert "ann: \\u009b2Jevil" in capsys.readouterr().out
        assert await agentctl("tail", "--json", "--url", server.url) == 0
        (line, *_) = capsys.readouterr().out.splitlines()
        assert "\x9b" not in line
        assert json.loads(line)["content"] == "\x9b2Jevil", "escaped, it means the same"


async def test_tail_shows_the_last_messages_made_harmless(capsys):
    async with serving() as running, foreigner(running.address, "ann") as other:
        await other.sign_in()
        await other.join()
        for text in ("first", "second", "evil \x1b[2J\x07\u202e title"):
            await other.say(text)
            await other.until("MSG", content=text)
        assert await agentctl("tail", "--url", running.address, "-n", "2") == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split(" ", 1)[1] for line in lines] == [
            "ann: second", "ann: evil \\x1b[2J\\x07\\u202e title"
        ]  # fmt: skip
        assert await agentctl("tail", "--url", running.address, "-n", "0") == 0
        assert capsys.readouterr().out == ""
        assert await agentctl("tail", "--url", running.address, "--json") == 0
        first, *_ = (json.loads(line) for line in capsys.readouterr().out.splitlines())
        assert first.pop("ts").endswith("Z")
        assert first.pop("msg_id")
        assert first == {
            "from": other.identity.agent_id, "from_name": "ann", "content": "first", "replay": True
        }  # fmt: skip


async def test_who_lists_the_others(capsys):
    async with serving() as running, foreigner(running.address, "ann") as other:
        await other.sign_in()
        await other.join()
        await other.send({"type": "SET_PRESENCE", "status": "busy", "status_text": "building"})
        await other.send({"type": "PING"})
        await other.until("PONG")
        assert await agentctl("who", "--url", running.address) == 0
        header, line = capsys.readouterr().out.splitlines()
        assert header.split() == ["NAME", "ID", "PRESENCE", "STATUS"]
        assert line.split() == ["ann", other.identity.agent_id, "busy", "building"]
        assert await agentctl("who", "--url", running.address, "--json", "--identify") == 0
        assert json.loads(capsys.readouterr().out) == {
            "version": 1,
            "channel": "#agents",
            "agents": [
                {"id": other.identity.agent_id, "name": "ann", "presence": "busy",
                 "status_text": "building", "verified": False}
            ],
        }  # fmt: skip


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("verb", [["send", "x"], ["tail"], ["who"]])
def test_no_server_is_one_line(verb: list[str], capsys):
    assert run(["chat", *verb, "--url", f"ws://127.0.0.1:{closed_port()}"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("agentctl: cannot reach the chat server at ws://127.0.0.1:")
    assert "agentctl chat serve" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["send", "--url", "http://x", "y"], 2, "no chat address"),
        (["send", "--channel", "no channel", "y"], 2, "is no channel"),
        (["send", "  "], 2, "nothing to send"),
        (["send"], 2, "TEXT"),
        (["send", "x" * (256 * 1024 + 1)], 2, "longer than"),
        (["tail", "-n", "999"], 2, "999"),
        (["serve", "--listen", "nowhere"], 2, "cannot listen on 'nowhere'"),
        (["serve", "--channel", "x"], 2, "is no channel"),
        (["serve", "--trust", "me"], 2, "no agent id"),
        (["serve", "--rate", "0"], 2, "0"),
        (["shout"], 2, "shout"),
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], code: int, says: str, capsys, home: Path):
    assert run(["chat", *arguments]) == code
    err = capsys.readouterr().err
    assert says in err
    assert "Traceback" not in err
    assert not (home / "identity.json").exists(), "nothing is changed"


async def test_an_unknown_channel_is_told(capsys):
    async with serving() as running:
        assert await agentctl("send", "--url", running.address, "-c", "#nope", "x") == 1
    assert "Channel #nope not found" in capsys.readouterr().err


def test_which_server_is_meant(home: Path):
    places = Places(home)
    default = Settings()
    assert chat_address(places, default) == "ws://127.0.0.1:6667"
    free = Settings(chat=ChatSettings(listen="127.0.0.1:0"))
    with pytest.raises(NotRunning):
        chat_address(places, free)
    (home / ADDRESS_FILE).write_text("ws://127.0.0.1:41234\n")
    assert chat_address(places, free) == "ws://127.0.0.1:41234"
    assert chat_address(places, default) == "ws://127.0.0.1:41234"
    named = Settings(chat=ChatSettings(url="wss://chat.example"))
    assert chat_address(places, named) == "wss://chat.example"


class Agentctl:
    """``agentctl`` as a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "swarm.cli", "chat", *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"},
        )  # fmt: skip

    def __enter__(self) -> Agentctl:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def end(self, number: signal.Signals) -> tuple[int, str, str]:
        self.process.send_signal(number)
        try:
            out, err = self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # where it hangs is told on standard error
            raise AssertionError(self.process.communicate()[1][-3000:]) from None
        return self.process.returncode, out, err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_serve_says_where_and_ends_cleanly(number: signal.Signals, code: int):
    with Agentctl("serve", "--listen", "127.0.0.1:0", "--channel", "#work") as server:
        line = server.line()
        assert line.startswith("listening on ws://127.0.0.1:"), line
        address = line.split()[2].rstrip(";")
        assert run(["chat", "send", "--url", address, "-c", "#work", "hello"]) == 0
        got, out, err = server.end(number)
        assert got == code
        assert out == ""
        assert "Traceback" not in err


def test_serve_on_a_port_in_use_is_one_line(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run(["chat", "serve", "--listen", f"127.0.0.1:{port}"]) == 1
    assert "something else does already" in capsys.readouterr().err


def test_follow_goes_on_until_interrupted_over_a_restart_too():
    port = closed_port()
    url = f"ws://127.0.0.1:{port}"
    with Agentctl("serve", "--listen", f"127.0.0.1:{port}", "--rate", "50") as server:
        assert "listening" in server.line()
        with Agentctl("tail", "-f", "--url", url) as tail:
            eventually(lambda: run(["chat", "send", "--url", url, "are you there"]) == 0)
            assert tail.line().endswith("operator: are you there\n")
            server.end(signal.SIGTERM)
            with Agentctl("serve", "--listen", f"127.0.0.1:{port}") as again:
                assert "listening" in again.line()
                assert run(["chat", "send", "--url", url, "back again"]) == 0
                assert tail.line().endswith("operator: back again\n")
            code, _, err = tail.end(signal.SIGINT)
    assert code == 130
    assert "trying again" in err
    assert "Traceback" not in err
