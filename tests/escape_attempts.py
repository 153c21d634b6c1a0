"""What a session that should not be trusted would try.  Run inside one, by ``test_escape``.

``targets.json`` beside it says where everything is; it prints one JSON object: attempt → whether
it got through.  Nothing is harmed where one does: signals are number 0, files made are removed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Callable

LIBC = ctypes.CDLL(None, use_errno=True)
MS_BIND = 4096
PTRACE_SEIZE, PTRACE_DETACH = 0x4206, 17
DANGEROUS = {"dac_read_search": 2, "net_admin": 12, "net_raw": 13, "sys_module": 16,
             "sys_rawio": 17, "sys_ptrace": 19, "sys_admin": 21, "sys_resource": 24,
             "mknod": 27, "perfmon": 38, "bpf": 39}  # fmt: skip
MPTCP = 262


def got(attempt: Callable[[], object]) -> bool:
    try:
        return bool(attempt())
    except (OSError, ValueError):
        return False


def read(path: str) -> bool:
    with open(path, "rb") as file:
        return bool(file.read(4096))


def write(path: str) -> bool:
    """A new file, or one more byte of a file that is there and was there before."""
    if os.path.isdir(path):
        path = os.path.join(path, f"agentctl-escape-{os.getpid()}")
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        os.unlink(path)
    else:
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND))
    return True


def signalled(pid: int) -> bool:
    os.kill(pid, 0)
    return True


def signalled_by_pidfd(pid: int) -> bool:
    fd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(fd, 0)
    finally:
        os.close(fd)
    return True


def traced(pid: int) -> bool:
    LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if LIBC.ptrace(PTRACE_SEIZE, pid, None, None) != 0:
        return False
    LIBC.ptrace(PTRACE_DETACH, pid, None, None)
    return True


def linked(make: Callable[[str, str], None], target: str) -> bool:
    here = f"trick-{make.__name__}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(here)
    make(target, here)
    try:
        return read(here)
    finally:
        os.unlink(here)


def opened_by_handle(path: str) -> bool:
    class Handle(ctypes.Structure):
        _fields_ = (("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("f", ctypes.c_ubyte * 128))

    handle, mount = Handle(128), ctypes.c_int()
    if (
        LIBC.name_to_handle_at(-100, path.encode(), ctypes.byref(handle), ctypes.byref(mount), 0)
        < 0
    ):
        return False
    base = os.open(".", os.O_RDONLY)
    try:
        fd = LIBC.open_by_handle_at(base, ctypes.byref(handle), os.O_RDONLY)
        if fd < 0:
            return False
        try:
            return bool(os.read(fd, 10))
        finally:
            os.close(fd)
    finally:
        os.close(base)


def mounted(source: str) -> bool:
    """A hidden folder where we may read."""
    os.makedirs("mnt", exist_ok=True)
    if LIBC.mount(source.encode(), b"mnt", None, MS_BIND, None) != 0:
        return False
    try:
        return bool(os.listdir("mnt"))
    finally:
        LIBC.umount2(b"mnt", 2)


def mounted_as_another_root(source: str) -> bool:
    """The same in a user namespace of our own, where we have every capability."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if LIBC.unshare(0x10000000 | 0x00020000) == 0:
                code = 0 if got(lambda: mounted(source)) else 1
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


def left_its_cgroup(places: list[str]) -> bool:
    """Into the cgroup above, where no limit holds."""
    for place in places:
        with contextlib.suppress(OSError):
            fd = os.open(place, os.O_WRONLY)
            try:
                os.write(fd, b"0")
            finally:
                os.close(fd)
            return True
    return False


def raised_its_limit(homes: list[str]) -> bool:
    for home in homes:
        for name in os.listdir(home):
            for limit in ("memory.limit_in_bytes", "memory.max"):
                with contextlib.suppress(OSError):
                    os.close(os.open(f"{home}/{name}/{limit}", os.O_WRONLY))
                    return True
    return False


def is_let_live_longer() -> bool:
    """Less likely to be taken by the kernel than it was born."""
    with open("/proc/self/oom_score_adj", "r+b", buffering=0) as file:
        born = int(file.read())
        file.write(str(born - 1).encode())
    return True


def has_capabilities() -> bool:
    with open("/proc/self/status") as file:
        effective = next(int(line[7:], 16) for line in file if line.startswith("CapEff"))
    return any(effective >> number & 1 for number in DANGEROUS.values())


def asked(path: str, token: str) -> bool:
    """The control socket, for the status; whether it was answered."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(path)
        sock.sendall(json.dumps({"token": token, "do": {"command": "status"}}).encode() + b"\n")
        return b'"agents"' in sock.recv(65536)


def stolen(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


def connected(port: int, protocol: int = 0) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol) as sock:
        sock.settimeout(5)
        sock.connect(("127.0.0.1", port))
        return True


def listened(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        return True


def talked(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(path)
        return True


def talked_abstract(name: str) -> bool:
    return talked(f"\0{name}")


def main() -> None:
    with open("targets.json") as file:
        to = json.load(file)
    attempts: dict[str, Callable[[], object]] = {}
    for name, path in to["read"].items():
        attempts[f"read {name}"] = lambda path=path: read(path)
        attempts[f"read {name} by /proc/self/root"] = lambda p=path: read(f"/proc/self/root{p}")
        attempts[f"read {name} by /proc/1/root"] = lambda path=path: read(f"/proc/1/root{path}")
        attempts[f"read {name} by symbolic link"] = lambda p=path: linked(os.symlink, p)
        attempts[f"read {name} by hard link"] = lambda path=path: linked(os.link, path)
        attempts[f"read {name} by handle"] = lambda path=path: opened_by_handle(path)
    for name, path in to["write"].items():
        attempts[f"write {name}"] = lambda path=path: write(path)
    for name, path in to["list"].items():
        attempts[f"list {name}"] = lambda path=path: os.listdir(path)
        attempts[f"mount {name}"] = lambda path=path: mounted(path)
        attempts[f"mount {name} in a user namespace"] = lambda p=path: mounted_as_another_root(p)
    for name, pid in to["pids"].items():
        attempts[f"signal {name}"] = lambda pid=pid: signalled(pid)
        attempts[f"signal {name} by pidfd"] = lambda pid=pid: signalled_by_pidfd(pid)
        attempts[f"trace {name}"] = lambda pid=pid: traced(pid)
        attempts[f"environment of {name}"] = lambda pid=pid: read(f"/proc/{pid}/environ")
        attempts[f"memory of {name}"] = lambda p=pid: os.close(os.open(f"/proc/{p}/mem", 2)) or 1
        attempts[f"descriptors of {name}"] = lambda pid=pid: os.listdir(f"/proc/{pid}/fd")
    for name, path in to["sockets"].items():
        attempts[f"socket {name}"] = lambda path=path: talked(path)
    socket_path, token = to["control"]
    attempts |= {
        "environment of init": lambda: read("/proc/1/environ"),
        "memory of init": lambda: os.close(os.open("/proc/1/mem", os.O_RDWR)) or 1,
        "trace init": lambda: traced(1),
        "control without a token": lambda: asked(socket_path, ""),
        "control with the stolen token": lambda: asked(socket_path, stolen(token)),
        "leave the cgroup": lambda: left_its_cgroup(to["cgroups"]),
        "raise the cgroup's limit": lambda: raised_its_limit(to["limits"]),
        "oom score": is_let_live_longer,
        "capabilities": has_capabilities,
        "connect to another port": lambda: connected(to["port"]),
        "connect to another port by MPTCP": lambda: connected(to["port"], MPTCP),
        "listen on a known port": lambda: listened(to["free_port"]),
        "abstract socket": lambda: talked_abstract(to["abstract"]),
    }
    json.dump({name: got(attempt) for name, attempt in attempts.items()}, sys.stdout)


if __name__ == "__main__":
    main()
