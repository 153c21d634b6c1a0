"""Git as we run it: fixed options, no prompt, a time limit, nothing of a person's configuration.

Every command is a value; :func:`run_git` starts it without a shell and without the ``subprocess``
module (which would bring threads into the daemon).  References and commit ids are checked before
they come near an argument list (rules, "Git").
"""

from __future__ import annotations

import os
import re
import select
import signal
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from types import ModuleType
from typing import NoReturn

from swarm.errors import GitError
from swarm.sandbox import kernel
from swarm.sandbox.programs import find_program
from swarm.sandbox.steps import KILL_SIGNAL

MAX_OUTPUT = 64 * 1024 * 1024
"""Bytes of output kept of one command; one that prints more is ended with an error."""
MAX_ERROR = 16 * 1024
FETCH_SECONDS = 900.0
"""Longest fetch or clone; other commands have :data:`SECONDS`."""
SECONDS = 60.0
_SPARE_SECONDS = 5.0
"""How much longer than its limit its guard leaves it to us to end it."""
MAX_REF = 200

OPTIONS = (
    "--no-pager",
    "-c", "core.hooksPath=/dev/null",
    "-c", "core.fsmonitor=false",
    "-c", "core.attributesFile=/dev/null",
    "-c", "core.excludesFile=/dev/null",
    "-c", "gc.auto=0",
    "-c", "maintenance.auto=false",
    "-c", "commit.gpgSign=false",
    "-c", "protocol.ext.allow=never",
    "-c", "advice.detachedHead=false",
    "-c", "core.quotePath=false",
)  # fmt: skip
"""Options before the verb of every command."""

_REF_BAD = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(?:/|\Z)|\A[-./]|[./]\Z")
_COMMIT = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")
PERSONS_UMASK = "AGENTCTL_UMASK"
"""Environment variable: the umask (octal) of the person who started the swarm, whose own is 077."""
_LOCAL_GIT = re.compile(r"GIT_(?!SSH|SSL|PROXY|CONFIG_GLOBAL|CONFIG_SYSTEM|CONFIG_NOSYSTEM|TRACE)")


@dataclass(frozen=True, slots=True)
class GitCommand:
    """One run of git: the whole argument list, where, with what environment, for how long."""

    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str] = field(default_factory=dict)
    timeout: float = SECONDS
    stdin: bytes = b""
    guarded: bool = False
    """What it starts, such as hooks of a person's repository or ``ssh``, ends with us too."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How it ended; a negative ``exit`` is a signal."""

    exit: int
    out: bytes
    error: str


def is_safe_ref(name: str) -> bool:
    """Whether ``name`` may be a branch or reference: git's own rules, and never like an option."""
    return (
        0 < len(name) <= MAX_REF
        and name not in ("@", "HEAD")
        and _REF_BAD.search(name) is None
        and name.isprintable()
    )


def is_commit_id(text: str) -> bool:
    """Whether ``text`` is a full hexadecimal object id."""
    return _COMMIT.match(text) is not None


def safe_ref(name: str) -> str:
    """``name`` itself; :class:`~swarm.errors.GitError` when it may not be a reference."""
    if not is_safe_ref(name):
        raise GitError(f"{name[:80]!r} cannot be a branch", "use letters, digits, '-', '_', '/'")
    return name


def commit_id(text: str) -> str:
    """``text`` itself; :class:`~swarm.errors.GitError` when it is no full object id."""
    if not is_commit_id(text):
        raise GitError(f"{text[:80]!r} is no commit id", "give all 40 hexadecimal digits")
    return text


def git(cwd: str, *words: str, timeout: float = SECONDS, stdin: bytes = b"") -> GitCommand:
    """A command that reads no configuration but the repository's own."""
    return GitCommand(("git", *OPTIONS, *words), cwd, trusted_environment(), timeout, stdin)


def persons_git(cwd: str, *words: str, timeout: float = FETCH_SECONDS) -> GitCommand:
    """A command with the person's own configuration and logins: only to talk to *their* source."""
    argv = ("git", *OPTIONS, *words)
    return GitCommand(argv, cwd, persons_environment(), timeout, guarded=True)


def trusted_environment() -> dict[str, str]:
    """Environment in which git reads no system and no user configuration and never asks."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "file",
        "GIT_AUTHOR_NAME": "agentctl swarm",
        "GIT_AUTHOR_EMAIL": "swarm@localhost",
        "GIT_COMMITTER_NAME": "agentctl swarm",
        "GIT_COMMITTER_EMAIL": "swarm@localhost",
    }


def persons_environment() -> dict[str, str]:
    """The person's environment without what ties git to one repository, and without prompts."""
    env = {k: v for k, v in os.environ.items() if not _LOCAL_GIT.match(k)}
    env |= {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "SSH_ASKPASS_REQUIRE": "never"}
    env.setdefault("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
    env.pop("GIT_ASKPASS", None)
    env.pop("SSH_ASKPASS", None)
    return env


def run_git(command: GitCommand) -> bytes:
    """Its standard output.  Raises :class:`~swarm.errors.GitError` for any other exit than 0."""
    ran = try_git(command)
    if ran.exit != 0:
        verb = " ".join(_words(command))
        said = ran.error.strip().splitlines()
        why = next((line for line in said if line.startswith(("fatal:", "error:"))), None)
        text = (why or (said[-1] if said else f"exit {ran.exit}"))[:300]
        raise GitError(f"git {verb} in {command.cwd}: {text}")
    return ran.out


def try_git(command: GitCommand) -> Ran:
    """Run to the end, whatever its exit.

    Raises :class:`~swarm.errors.GitError` when git is not there or cannot be started, takes longer
    than its limit or prints more than :data:`MAX_OUTPUT`.
    """
    program = find_program(command.argv[0], command.env.get("PATH", ""))
    if program is None:
        raise GitError("git is not on PATH", "install git")
    if not os.path.isdir(command.cwd):
        raise GitError(f"{command.cwd} is no directory")
    try:
        forked = _is_single()
        pid, out_r, err_r = _begin(program, command)
    except OSError as failed:  # out of descriptors or processes
        raise GitError(f"git cannot be started: {failed.strerror}", "it is tried again") from None
    try:
        try:
            out, error = _collect(command, out_r, err_r)
        except BaseException:
            if command.guarded:  # it ends when nothing is left
                _send(pid, KILL_SIGNAL if forked else signal.SIGTERM)
            else:
                _kill_group(pid)
            os.waitpid(pid, 0)
            raise
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(out_r)
        os.close(err_r)
    return Ran(os.waitstatus_to_exitcode(status), out, error.decode(errors="replace"))


def _begin(program: str, command: GitCommand) -> tuple[int, int, int]:
    """Start it: its pid, and the ends to read what it prints.  Raises ``OSError``."""
    with ExitStack() as ours, ExitStack() as its:
        out_r, out_w = os.pipe()
        ours.callback(os.close, out_r)
        its.callback(os.close, out_w)
        err_r, err_w = os.pipe()
        ours.callback(os.close, err_r)
        its.callback(os.close, err_w)
        stdin = _stdin(command.stdin)
        its.callback(os.close, stdin)
        pid = _start(program, command, stdin, out_w, err_w)
        ours.pop_all()
    return pid, out_r, err_r


def _words(command: GitCommand) -> list[str]:
    """The verb and its plain words, for an error a person reads."""
    rest = list(command.argv[1 + len(OPTIONS) :])
    return [word for word in rest if not word.startswith("-")][:3]


def _stdin(data: bytes) -> int:
    if not data:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    fd = os.memfd_create("stdin", os.MFD_CLOEXEC)
    try:
        done = 0
        while done < len(data):
            done += os.write(fd, data[done:])  # no room for it where RLIMIT_FSIZE is small
        os.lseek(fd, 0, os.SEEK_SET)
    except OSError:
        os.close(fd)
        raise
    return fd


def _start(program: str, command: GitCommand, stdin: int, out: int, err: int) -> int:
    """Fork when nothing else runs in this process, so that git dies with us; spawn otherwise."""
    argv = _in_directory(command)
    if not _is_single():
        if command.guarded:
            argv = (*_guards().guard_command(command.timeout + _SPARE_SECONDS), *argv)
            program = argv[0]
        actions = [(os.POSIX_SPAWN_DUP2, fd, n) for n, fd in enumerate((stdin, out, err))]
        return os.posix_spawn(
            program,
            argv,
            command.env,
            file_actions=actions,
            setpgroup=0,
            setsigmask=(),
            setsigdef=(signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
        )
    keep_guard = _guards().keep_guard if command.guarded else None
    parent = os.getpid()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            ends = (stdin, out, err)
            if keep_guard is not None:
                keep_guard(parent, lambda guard: _become(program, argv, command.env, guard, ends))
            _become(program, argv, command.env, parent, ends)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def _guards() -> ModuleType:
    from swarm.sandbox import guard  # daemons talk to no source, and are kept small

    return guard


def _is_single() -> bool:
    """Whether this process has no other thread, and may fork."""
    return len(os.listdir("/proc/self/task")) == 1


def _in_directory(command: GitCommand) -> tuple[str, ...]:
    return (command.argv[0], "-C", command.cwd, *command.argv[1:])


def _become(
    program: str,
    argv: tuple[str, ...],
    env: Mapping[str, str],
    parent: int,
    ends: tuple[int, int, int],
) -> NoReturn:
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.setpgid(0, 0)
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            for place, fd in enumerate(ends):
                os.dup2(fd, place, inheritable=True)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.execve(program, argv, env)  # noqa: S606 - no shell is the point
    finally:
        os._exit(127)


def _collect(command: GitCommand, out: int, err: int) -> tuple[bytes, bytes]:
    """Read both pipes to their ends, within the time and size limits."""
    kept = {out: bytearray(), err: bytearray()}
    caps = {out: MAX_OUTPUT, err: MAX_ERROR}
    poll = select.poll()
    for fd in kept:
        poll.register(fd, select.POLLIN)
    end = time.monotonic() + command.timeout
    waiting = set(kept)
    verb = " ".join(_words(command)[:1])
    while waiting:
        left = end - time.monotonic()
        if left <= 0:
            raise GitError(f"git {verb} in {command.cwd} took longer than {command.timeout:.0f} s")
        for fd, _ in poll.poll(left * 1000):
            data = os.read(fd, 65536)
            if not data:
                poll.unregister(fd)
                waiting.discard(fd)
            elif len(kept[fd]) + len(data) <= caps[fd]:
                kept[fd] += data
            elif fd == out:
                raise GitError(f"git {verb} in {command.cwd} prints more than {MAX_OUTPUT} bytes")
    return bytes(kept[out]), bytes(kept[err])


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError):  # it has no group of its own yet, or ended by itself
        os.killpg(pid, signal.SIGKILL)
    _send(pid, signal.SIGKILL)


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):  # it ended by itself
        os.kill(pid, number)
