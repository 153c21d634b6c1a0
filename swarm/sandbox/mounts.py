"""What a tree mounts over the machine's own, in its own mount namespace, so as not to see it.

Landlock stops neither ``connect()`` to a unix socket nor, for root, the reading of what lies in
``/etc`` beside everything that is needed of it.  Where mounts are refused these are left as they
are; the tree runs all the same.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import suppress

from swarm.sandbox import kernel

RUN = "/run"
"""The sockets of D-Bus, systemd, docker, agents and keyrings lie here: each could start programs
or give out secrets outside of the sandbox."""
KEPT = ("/run/nscd", "/run/systemd/userdb")
"""Who is who, for the names of users and hosts."""
SECRETS = (
    "/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/ssl/private",
    "/etc/sudoers", "/etc/sudoers.d", "/etc/krb5.keytab",
    "/etc/NetworkManager/system-connections", "/etc/wireguard", "/etc/docker", "/etc/rancher",
    "/etc/kubernetes", "/etc/letsencrypt",
)  # fmt: skip
"""Readable by root alone on most machines; a session of root needs none of it."""
HOST_KEYS = "/etc/ssh"
_FLAGS = kernel.MS_NOSUID | kernel.MS_NODEV


def own_shared_memory(path: str) -> None:
    """An empty ``/dev/shm``.  Raises ``OSError``."""
    kernel.mount("tmpfs", path, "tmpfs", _FLAGS, "mode=1777")


def hide_sockets(granted: Iterable[str]) -> bool:
    """Show of ``/run`` only what is ``granted``, and the name services; whether that is so.

    What is granted is the same file or directory, at the same path.
    """
    wanted = [path for path in (*KEPT, *granted) if _below(path, RUN)]
    if any(path == RUN for path in wanted) or not os.path.isdir(RUN) or os.path.islink(RUN):
        return False
    opened: dict[str, int] = {}
    try:
        for path in sorted(dict.fromkeys(wanted)):
            with suppress(OSError):  # it is not there, or not ours to see
                opened[path] = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            kernel.mount("tmpfs", RUN, "tmpfs", _FLAGS, "mode=755")
        except OSError:
            return False
        try:
            for path, fd in opened.items():
                _show(path, fd)
        except OSError:
            kernel.unmount(RUN)
            return False
    finally:
        for fd in opened.values():
            os.close(fd)
    return True


def hide_secrets() -> None:
    """Empty the files and folders of ``/etc`` that only root can read, for a session of root."""
    if os.geteuid() != 0:
        return
    for path in (*SECRETS, *_host_keys()):
        with suppress(OSError):  # not there, or mounts are refused
            if stat.S_ISDIR(os.lstat(path).st_mode):
                kernel.mount("tmpfs", path, "tmpfs", _FLAGS, "mode=700,size=4k")
            elif stat.S_ISREG(os.lstat(path).st_mode):
                kernel.mount(os.devnull, path, None, kernel.MS_BIND)


def _host_keys() -> list[str]:
    try:
        names = os.listdir(HOST_KEYS)
    except OSError:
        return []
    return [f"{HOST_KEYS}/{name}" for name in names if name.endswith("_key")]


def _show(path: str, fd: int) -> None:
    """Bind what ``fd`` is open on to ``path``, which is made."""
    if os.path.lexists(path):
        return  # below another that was shown
    try:
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            os.mkdir(path, 0o755)
        else:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise OSError(errno.EIO, f"{path} cannot be shown") from error
    kernel.mount(f"/proc/self/fd/{fd}", path, None, kernel.MS_BIND | kernel.MS_REC)


def _below(path: str, top: str) -> bool:
    return path == top or path.startswith(f"{top}/")
