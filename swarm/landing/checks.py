"""``repo.checks`` on what is about to land: in a checkout of its own, contained, with limits.

The checks run what a session wrote, so they get what a session gets: a scrubbed environment, a
file-system sandbox, a process tree that dies with them and may not use up the machine.  The
checkout is a repository of their own that borrows the hub's objects; nothing of ours runs in it
afterwards.
"""

from __future__ import annotations

import os
import re
import select
import sys
import time
from dataclasses import dataclass, field
from typing import BinaryIO, TypeAlias

from swarm.errors import GitError
from swarm.landing.bounds import Bounds
from swarm.landing.model import Job
from swarm.sandbox import oom
from swarm.sandbox.cgroups import Limits
from swarm.sandbox.environment import session_environment
from swarm.sandbox.grants import session_rules
from swarm.sandbox.launch import Command, Confinement, Tree, kill, read_status, reap
from swarm.sandbox.limited import Place, launch_limited
from swarm.sandbox.trees import marker
from swarm.spawner.folders import write_whole
from swarm.spawner.git import FETCH_SECONDS, git, safe_ref, try_git
from swarm.spawner.merger import Merger

LANDING_TASK = "landing-"
"""With the task behind it, what a check's tree is marked with in a task's place: nobody who ends
the tree of a session means it."""
MAX_LOG = 8 * 1024 * 1024
"""Bytes of output kept in the log, of all checks together."""
MAX_TEXT = 4000
"""Characters of a failed check's last output that are told."""
_TAIL = 4 * MAX_TEXT
_LONG = 300
_CHUNKS = 16
"""Reads in a row of one pipe: all it can hold, and who prints for ever is not waited for."""
_SHELL = 'exec 2>&1; exec /bin/sh -c "$1"'
"""One stream, in the order it was printed; the check itself is an argument, never part of this."""
_CONTROL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_TOO_ODD = ("File name too long", "invalid path")
"""What git says of a tree that no checkout of can be made on this machine."""


@dataclass(frozen=True, slots=True)
class Passed:
    """Every check ended with 0."""


@dataclass(frozen=True, slots=True)
class Failed:
    """One did not."""

    text: str
    """Which, how it ended, and its last output."""


@dataclass(frozen=True, slots=True)
class NotRun:
    """It could not be tried: the fault is ours or the machine's."""

    reason: str


Checked: TypeAlias = Passed | Failed | NotRun


@dataclass(slots=True)
class _Output:
    """Where the output goes: a log with a cap, and its end kept for telling."""

    log: BinaryIO
    written: int = 0
    tail: bytearray = field(default_factory=bytearray)

    def take(self, data: bytes) -> None:
        self.tail += data
        del self.tail[:-_TAIL]
        room = MAX_LOG - self.written
        if room <= 0:
            return
        self.log.write(data[:room])
        self.written += len(data)
        if len(data) >= room:
            self.log.write(b"\n[the rest is left out]\n")
        self.log.flush()  # somebody may be reading along

    def begin(self, check: str) -> None:
        self.tail.clear()
        self.take(f"$ {check}\n".encode("utf-8", "replace"))
        self.tail.clear()


def run_checks(merger: Merger, folder: str, job: Job, new: str, tip: str, home_id: str) -> Checked:
    """Check ``new``, the target's tip so far being ``tip``.

    ``folder`` is ours, private and on the hub's file system.  The checks are on a branch named as
    the target, and ``origin/<target>`` is ``tip``.  Raises ``OSError`` for a full disk,
    :class:`~swarm.errors.SwarmError` where nothing can be contained.
    """
    for name in ("repo", "tmp", "home"):
        os.mkdir(os.path.join(folder, name), 0o700)
    odd = _check_out(merger, os.path.join(folder, "repo"), job.target, new, tip)
    if odd:
        return Failed(f"what would land cannot be checked out: {odd}")
    os.makedirs(os.path.dirname(job.log), mode=0o700, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    end = time.monotonic() + job.check_seconds if job.check_seconds > 0 else None
    with open(os.open(job.log, flags, 0o600), "wb") as log:
        output = _Output(log)
        for check in job.checks:
            output.begin(check)
            found = _run(check, folder, merger, (job, home_id), output, end)
            if not isinstance(found, Passed):
                return found
    return Passed()


def _check_out(merger: Merger, repo: str, target: str, new: str, tip: str) -> str:
    """A repository with ``new`` checked out; says why its tree cannot be.

    Git reads no configuration but the one written here, so that attributes of the content name
    filters that are not there.  Raises :class:`~swarm.errors.GitError` for all else.
    """
    gitdir = os.path.join(repo, ".git")
    for name in ("objects/info", "refs/heads"):
        os.makedirs(os.path.join(gitdir, name), mode=0o700)
    write_whole(os.path.join(gitdir, "objects", "info", "alternates"), f"{merger.objects}\n")
    write_whole(os.path.join(gitdir, "config"), "[core]\n\trepositoryformatversion = 0\n")
    for name, one in ((f"heads/{target}", new), (f"remotes/origin/{target}", tip)):
        path = os.path.join(gitdir, "refs", safe_ref(name))
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        write_whole(path, f"{one}\n")
    write_whole(os.path.join(gitdir, "HEAD"), f"ref: refs/heads/{target}\n")
    ran = try_git(git(repo, "read-tree", "--reset", "-u", "HEAD", timeout=FETCH_SECONDS))
    if ran.exit == 0:
        return ""
    said = [line for line in ran.error.splitlines() if line.strip()]
    odd = next((line for line in said if any(word in line for word in _TOO_ODD)), "")
    if odd:
        odd = plain(odd)
        return odd if len(odd) <= _LONG else f"{odd[: _LONG // 2]} … {odd[-_LONG // 2 :]}"
    raise GitError(f"what would land cannot be checked out: {plain((said or ['?'])[0])[:300]}")


def _run(
    check: str,
    folder: str,
    merger: Merger,
    whose: tuple[Job, str],
    output: _Output,
    end: float | None,
) -> Checked:
    """One check to its end, and then to the end of all that it started."""
    job, home_id = whose
    repo, tmp, home = (os.path.join(folder, name) for name in ("repo", "tmp", "home"))
    env = session_environment(
        os.environ, home=home, tmp=tmp, runtime_env={}, pass_env=(), secrets={}, extra={}
    )
    person = os.environ.get("HOME", "")
    argv = ("/bin/sh", "-c", _SHELL, "sh", check)
    rules = session_rules(
        repo=repo,
        out=tmp,
        tmp=tmp,
        state=home,
        notes=(),
        programs=("/bin/sh",),
        env=env,
        borrowed=(merger.objects, os.path.join(merger.hub, "objects")),
        hidden=(merger.hub, *((person,) if person else ())),
        ports=job.ports,
    )
    within = Confinement(
        landlock=rules,
        marker=marker(home_id, LANDING_TASK + job.task, job.n) if home_id else "",
        tmp=tmp,
        oom_score=oom.SESSION,
    )
    limits = Limits(job.memory_mb, job.max_processes, job.cpu_percent)
    place = Place(job.cgroups, LANDING_TASK + job.task, job.n)
    tree, uncaged = launch_limited(Command(argv, repo, env), (), within, place, limits)
    if uncaged:
        print(f"agentctl-lander: a check of {job.task}: {uncaged}", file=sys.stderr)
    bounds = Bounds(tree, job)
    late, status, trouble = _follow(tree, output, end, bounds)
    if bounds.over:
        return Failed(_told(check, f"was stopped: it {bounds.over}", output))
    if late:
        limit = f"the limit of {job.check_seconds:g} s for all checks was reached"
        return Failed(_told(check, f"was stopped: {limit}", output))
    if trouble or status is None:
        return NotRun(f"check {check!r} could not be run: {trouble or 'it was killed'}")
    if status == 0:
        return Passed()
    how = f"exit {status}" if status > 0 else f"killed by signal {-status}"
    return Failed(_told(check, f"failed: {how}", output))


def _follow(
    tree: Tree, output: _Output, end: float | None, bounds: Bounds
) -> tuple[bool, int | None, str]:
    """Until the tree is gone: whether time ran out, its exit status, why it was not started."""
    told: dict[int, bytearray] = {tree.status: bytearray(), tree.stderr: bytearray()}
    late = False
    try:
        late = not _watch(tree, told, output, end, bounds)
    finally:
        kill(tree)
        select.select([tree.pidfd], [], [])
        _drain(tree, told, output)
        bounds.close()
        reap(tree)
    status, trouble = None, ""
    for line in bytes(told[tree.status]).splitlines():
        heard = read_status(line)
        status = heard.exit if heard.exit is not None else status
        trouble = heard.failed or trouble
    return late, status, trouble


def _watch(
    tree: Tree,
    told: dict[int, bytearray],
    output: _Output,
    end: float | None,
    bounds: Bounds,
) -> bool:
    """Until it is over, or over a limit; false when time runs out first."""
    poll = select.poll()
    for fd in (tree.pidfd, tree.stdout, *told, *bounds.descriptors):
        poll.register(fd, select.POLLIN)
    now = time.monotonic()
    look = None if bounds.look_seconds is None else now
    while end is None or now < end:
        if look is not None and bounds.look_seconds is not None and now >= look:
            bounds.look()
            look = time.monotonic() + bounds.look_seconds
        if bounds.over:
            return True
        until = min((at for at in (end, look) if at is not None), default=None)
        left = None if until is None else max(0.0, until - time.monotonic()) * 1000
        ready = [fd for fd, _ in poll.poll(left)]
        for fd in _drain(tree, told, output):
            if fd in ready:
                poll.unregister(fd)
        for fd in set(bounds.descriptors).intersection(ready):
            bounds.alarmed(fd)
        if tree.pidfd in ready:
            return True
        now = time.monotonic()
    return False


def _drain(tree: Tree, told: dict[int, bytearray], output: _Output) -> list[int]:
    """Take what is there; returns those that are at their end."""
    ended = []
    for fd in (tree.stdout, *told):
        for _ in range(_CHUNKS):
            try:
                data = os.read(fd, 65536)
            except BlockingIOError:
                break
            if not data:
                ended.append(fd)
                break
            if fd == tree.stdout:
                output.take(data)
            elif len(told[fd]) < _TAIL:
                told[fd] += data
    return ended


def _told(check: str, how: str, output: _Output) -> str:
    last = plain(bytes(output.tail).decode("utf-8", "replace")).strip()[-MAX_TEXT:]
    text = f"The check `{plain(check)[:300]}` {how}."
    return f"{text}  Its last output:\n\n{last}" if last else f"{text}  It printed nothing."


def plain(text: str) -> str:
    """``text`` without what would command a terminal or turn the order of words round."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _UNPRINTABLE.sub("", _CONTROL.sub("", text))
