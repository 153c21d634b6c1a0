"""What a session's processes are born as: ports, sockets, capabilities, mounts, oom score."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from swarm.sandbox import kernel, landlock, mounts, oom, sockets
from swarm.sandbox.grants import DEVICES, SYSTEM
from swarm.sandbox.landlock import LandlockRules
from swarm.sandbox.launch import Command, Confinement
from swarm.sandbox.run import Done, run

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
    pytest.mark.skipif(kernel.landlock_abi() < 4, reason="this Landlock knows no ports"),
]
ENV = {"PATH": "/usr/bin:/bin"}
RULES = LandlockRules(read=(*SYSTEM, sys.base_prefix, sys.prefix), devices=DEVICES)


def python(script: str, rules: LandlockRules | None, **more: object) -> Done:
    command = Command((sys.executable, "-I", "-S", "-c", script), "/", ENV)
    return run(command, Confinement(landlock=rules, **more))  # type: ignore[arg-type]


@pytest.fixture
def server() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


CONNECT = """
import socket
def can(kind, protocol, port):
    try:
        with socket.socket(socket.AF_INET, kind, protocol) as s:
            s.settimeout(5); s.connect(("127.0.0.1", port)); return True
    except OSError:
        return False
S, D = socket.SOCK_STREAM, socket.SOCK_DGRAM
"""


def test_only_listed_ports_can_be_connected_to(server: int) -> None:
    script = f"{CONNECT}print(can(S, 0, {server}), can(S, 6, {server}), can(S, 262, {server}))"
    assert python(script, replace(RULES, ports=(server,))).out == b"True True False\n"
    assert python(script, replace(RULES, ports=(9,))).out == b"False False False\n"
    assert python(script, replace(RULES, ports=())).out == b"False False False\n"
    assert python(script, RULES).out.startswith(b"True True"), "no list is any port"


def test_mutant_landlock_alone_lets_multipath_tcp_through(
    server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted bug: no filter of sockets."""
    script = f"{CONNECT}print(can(S, 262, {server}))"
    monkeypatch.setattr("swarm.sandbox.steps.restrict_sockets", lambda: None)
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).close()
    except OSError:
        pytest.skip("no Multipath TCP here")
    assert python(script, replace(RULES, ports=(9,))).out == b"True\n"


def test_what_stays_possible_with_a_list() -> None:
    """Names are looked up by UDP, servers of a test listen on a port the kernel picks."""
    script = (
        "import socket\n"
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()\n"
        "socket.socket(socket.AF_UNIX).close(); socket.socketpair()[0].close()\n"
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()\n"
        "s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1] > 0)\n"
        "try: socket.create_server(('127.0.0.1', 45999)); print('listens')\n"
        "except PermissionError: print('refused')\n"
    )
    assert python(script, replace(RULES, ports=(443,))).out == b"True\nrefused\n"


@pytest.mark.parametrize(
    "make",
    ["socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132)", "socket.socket(40, 1, 0)",
     "socket.socket(socket.AF_INET, socket.SOCK_SEQPACKET)", "socket.socket(17, 3, 0)",
     "socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 262)"],
)  # fmt: skip
def test_other_kinds_of_sockets_cannot_be_made(make: str) -> None:
    script = f"import socket\ntry: {make}\nexcept OSError as e: print(e.errno)"
    done = python(script, replace(RULES, ports=(443,)))
    assert int(done.out) in (93, 97), done


def test_there_is_no_io_uring_with_a_list() -> None:
    script = (
        "import ctypes\nc = ctypes.CDLL(None, use_errno=True)\n"
        "print(c.syscall(425, 1, None), ctypes.get_errno())"
    )
    assert python(script, replace(RULES, ports=())).out == b"-1 38\n"


def test_the_filter_jumps_to_where_it_says() -> None:
    """Every comparison goes forward to a line that there is; each end is reached."""
    program = sockets.assembled(sockets._program(0xC000003E, 41))
    assert len(program) % 8 == 0
    lines = [program[at : at + 8] for at in range(0, len(program), 8)]
    for at, line in enumerate(lines):
        if line[0] in (0x15, 0x35):
            assert at + 1 + max(line[2], line[3]) < len(lines)
    assert [line[0] for line in lines[-4:]] == [6, 6, 6, 6]


def test_older_kernels_are_not_asked_for_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(kernel, "landlock_abi", lambda: 3)
    monkeypatch.setattr(kernel, "landlock_create", lambda _attr, size: asked.append(size) or 1)
    monkeypatch.setattr(kernel, "landlock_restrict", lambda _ruleset: None)
    monkeypatch.setattr(landlock.os, "close", lambda _fd: None)
    landlock.restrict(LandlockRules(ports=(443,)))
    assert asked == [8]


@pytest.mark.skipif(os.getuid() != 0, reason="only root has capabilities to lose")
def test_a_sandboxed_root_keeps_few_capabilities() -> None:
    script = "print(next(l.split()[1] for l in open('/proc/self/status') if l[:6] == 'CapEff'))"
    kept = int(python(script, RULES).out, 16)
    for number in (2, 12, 13, 16, 17, 19, 21, 24, 39):
        assert not kept >> number & 1
    assert kept >> 1 & 1, "files of others can be written, where the rules let it"
    assert int(python(script, None).out, 16) >> 21 & 1, "without the sandbox all are kept"


def test_a_tree_sees_of_run_what_is_granted() -> None:
    if not os.access("/run", os.W_OK):
        pytest.skip("/run is not writable for this user")
    folder = Path("/run", f"agentctl-test-{os.getpid()}")
    (folder / "granted").mkdir(parents=True)
    (folder / "file").write_text("here")
    (folder / "hidden").write_text("there")
    look = f"import os; print(sorted(os.listdir({str(folder)!r})))"
    use = (
        f"import os\nprint(open({str(folder / 'file')!r}).read())\n"
        f"open({str(folder / 'granted' / 'new')!r}, 'w').close()\n"
        f"print(os.path.exists({str(folder / 'hidden')!r}))"
    )
    rules = replace(
        RULES, read=(*RULES.read, str(folder / "file")), write=(str(folder / "granted"),)
    )
    try:
        assert python(use, rules).out == b"here\nFalse\n"
        assert (folder / "granted" / "new").exists(), "it is the same folder, not a copy"
        everything = replace(RULES, read=(*RULES.read, "/run"))
        assert b"hidden" in python(look, everything).out, "a role that is granted all of it has it"
    finally:
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()


@pytest.mark.skipif(os.getuid() != 0, reason="nobody else could read them")
def test_a_sandboxed_root_reads_no_secrets_of_the_machine() -> None:
    files = [path for path in mounts.SECRETS if os.path.isfile(path)]
    script = f"print([path for path in {files!r} if open(path).read()])"
    assert python(script, RULES).out == b"[]\n"
    assert Path("/etc/shadow").read_text()


def test_a_session_is_taken_before_its_daemon() -> None:
    script = "print(open('/proc/self/oom_score_adj').read())"
    own = oom.score()
    wanted = min(1000, own + oom.SESSION)
    assert int(python(script, RULES, oom_score=oom.SESSION).out) == wanted
    assert int(python(script, None).out) == own


def test_protection_is_given_up_by_children(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Against a file like the kernel's: taking it takes a privilege."""
    file = tmp_path / "oom_score_adj"
    monkeypatch.setattr(oom, "_FILE", str(file))
    for before, protected in ((0, -500), (200, -500), (-900, -900)):
        file.write_text(str(before))
        assert oom.protect()
        assert oom.score() == protected or file.read_text().startswith(str(protected))
        file.write_text(str(protected))
        oom.forgo()
        assert file.read_text().startswith("0")
    file.write_text("300")
    oom.forgo()
    assert file.read_text() == "300", "what was not ours is left"
    monkeypatch.setattr(oom, "_FILE", str(tmp_path / "nowhere"))
    assert not oom.protect()
    assert oom.score() == 0
