"""Carries the machine's effects out.  Every effect that asks for work ends as one later event."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import assert_never

import msgspec

from swarm.core.model import Outcome
from swarm.daemon import concluding, memory, outbox
from swarm.daemon.chore import Chore
from swarm.daemon.claims import is_task_id
from swarm.daemon.cloning import confinement_of, make_clone, read_merged
from swarm.daemon.concluding import Home, Left, Witnessed
from swarm.daemon.launching import Means, limits_of, start
from swarm.daemon.link import resolve
from swarm.daemon.loop import Loop
from swarm.daemon.outbox import Entry, Reported
from swarm.daemon.session import Session
from swarm.daemon.state import (
    CloneFailed,
    CloneMade,
    CloseChat,
    Effect,
    Exit,
    Job,
    Kill,
    Launch,
    LaunchFailed,
    MakeClone,
    Note,
    Record,
    Recorded,
    RecordFailed,
    Recovered,
    SaveFences,
    Say,
    Secure,
    Secured,
    SessionBegan,
    SessionOver,
    Settle,
    Tell,
    Terminate,
)
from swarm.errors import SpawnError, SwarmError, WorkspaceError
from swarm.logs import JsonLog
from swarm.sandbox.launch import Confinement
from swarm.spawner import clone as clones
from swarm.spawner.context import Earlier, end_task
from swarm.spawner.workspace import Workspace
from swarm.wire import work
from swarm.wire.lifeline import Prepare, RepoWork
from swarm.wire.pacing import CLAIMING, SETTLING, STATUS
from swarm.wire.work import Claim, Heartbeat, Status, Unclaim, WorkMessage

_encode_addresses = msgspec.json.Encoder().encode
_SECURE_AFTER = (0.0, 0.2, 1.0)
"""Seconds to wait before each try to bring work home."""


class Performer:
    """The hands of one daemon."""

    def __init__(self, loop: Loop, means: Means, log: JsonLog) -> None:
        self._loop = loop
        self._means = means
        self._log = log
        self._session: Session | None = None
        self._seen: Witnessed | None = None
        """What the session that ended last left to judge."""

    @property
    def _workspace(self) -> Workspace:
        return self._means.workspace

    def perform(self, effect: Effect) -> None:
        """Carry one effect out; never blocks for long, never raises for what the world does."""
        match effect:
            case Tell(line):
                self._loop.line.send(line)
            case Say(message):
                self._say(message)
            case Note(kind, text):
                self._log.write(kind, text=text)
            case CloseChat():
                self._loop.post_chat(self._loop.link.close(self._loop.clock()))
            case Record() | Settle() | SaveFences():
                self._on_disk(effect)
            case Exit():
                pass  # the loop's own
            case _:
                self._on_session(effect)

    def _on_session(self, effect: Launch | Terminate | Kill | MakeClone | Secure) -> None:
        match effect:
            case Launch(job):
                self._launch(job)
            case Terminate():
                if self._session is not None:
                    self._session.terminate()
            case Kill():
                if self._session is not None:
                    self._session.kill()
            case MakeClone() | Secure():
                self._begin_chore(effect)
            case _:
                assert_never(effect)

    def _on_disk(self, effect: Record | Settle | SaveFences) -> None:
        match effect:
            case Record(entry, title):
                self._record(entry, title)
            case Settle(task, fence):
                self._settle(task, fence)
            case SaveFences(fences):
                try:
                    memory.save_fences(self._workspace, fences)
                except OSError as error:
                    self._log.write("not_saved", text=f"fences: {error.strerror}")
            case _:
                assert_never(effect)

    # -- chat ----------------------------------------------------------------------------------

    def _say(self, message: WorkMessage) -> None:
        key, priority = _key(message)
        loop = self._loop
        content, to = work.encode(message), loop.daemon.tuning.coordinators
        loop.post_chat(loop.link.say(key, content, priority, loop.clock(), to))

    def look_up(self, host: str, port: int) -> None:
        """Resolve a chat server's name in a helper process."""

        def done(answer: bytes, error: str) -> None:
            found: list[tuple[int, str]] = []
            if not error:
                found = msgspec.json.decode(answer, type=list[tuple[int, str]])
            self._loop.post_chat(self._loop.link.found(found, self._loop.clock()))

        self._chore(lambda: _encode_addresses(resolve(host, port)), done)

    # -- the session ---------------------------------------------------------------------------

    def _launch(self, job: Job) -> None:
        """Start it; one that cannot be started ends as it would have: failed, then over."""
        self._seen = None
        try:
            session = start(self._means, job, limits_of(self._loop.daemon.tuning))
        except WorkspaceError as error:
            self._loop.post(LaunchFailed(str(error), unprepared=True), SessionOver())
            return
        except (SpawnError, OSError) as error:
            self._loop.post(LaunchFailed(_why(error), ours=True), SessionOver())
            return
        except SwarmError as error:
            self._loop.post(LaunchFailed(str(error)), SessionOver())
            return
        if session.trouble:
            self._log.write("no_cgroup", text=session.trouble)
        self._session = session
        for fd in session.descriptors:
            self._loop.watch(fd, partial(self._readable, session, fd))

    def _readable(self, session: Session, fd: int) -> None:
        if fd == session.tree.pidfd:  # its end: nothing is polled any more, then all is closed
            for each in session.descriptors:
                self._loop.unwatch(each)
        events, ended = session.readable(fd, time.time())
        if ended:
            self._loop.unwatch(fd)
        began = any(isinstance(event, SessionBegan) for event in events)
        if began and not session.job.probe:
            self._mark_in_use(session.job.work.repo)
        if session.over:
            self._session = None
            self._witness(session)
        self._loop.post(*events)

    def _mark_in_use(self, repo: RepoWork | None) -> None:
        author = (repo.author_name, repo.author_email) if repo is not None else ("", "")
        try:
            clones.mark_in_use(self._workspace, author)
        except OSError as error:  # its branch is checked out, which says the same
            self._log.write("not_saved", text=f"in-use: {error.strerror}")

    def _witness(self, session: Session) -> None:
        task = session.job.work.task
        self._seen = Witnessed(
            session.summary,
            session.exit_status,
            session.tells_result,
            session.failure,
            concluding.read_question(self._workspace, task),
            concluding.read_answer(self._workspace, task, session.job.work.kind),
        )
        if session.stderr_tail:
            text = session.stderr_tail.decode("utf-8", "replace")
            self._log.write("stderr", task=task, fence=session.job.fence, text=text)
        if session.summary.session_id is not None and not session.job.probe:
            try:
                memory.save_used(self._workspace, session.summary.session_id, session.summary.usage)
            except OSError as error:
                self._log.write("not_saved", text=f"usage: {error.strerror}")

    # -- helper processes ----------------------------------------------------------------------

    def _begin_chore(self, effect: MakeClone | Secure) -> None:
        match effect:
            case MakeClone(hub, _, _, begin):
                workspace, confinement = self._workspace, self._confinement()

                def made(answer: bytes, error: str) -> None:
                    self._loop.post(
                        CloneFailed(hub, error, begin)
                        if error
                        else CloneMade(hub, begin, read_merged(answer))
                    )

                self._chore(lambda: make_clone(workspace, effect, confinement), made)
            case Secure(job, ended_by, reason):

                def home(answer: bytes, error: str) -> None:
                    came = Home(problem=error) if error else concluding.read_home(answer)
                    self._conclude(job, came, ended_by, reason)

                work = job.work
                if work.repo is None and not work.folder:
                    self._conclude(job, Home(), ended_by, reason)
                else:
                    holder = ended_by not in (Outcome.LOST, Outcome.CANCELLED)
                    left = Left(job.key, work.attempt, work.repo, work.folder, job.merged, holder)
                    self._secure(left, home)

    def recover(self, current: memory.Current) -> None:
        """Secure what the session of an earlier life left; its task is others' by now."""

        def done(answer: bytes, error: str) -> None:
            problem = error or concluding.read_home(answer).problem
            memory.clear_current(self._workspace)
            branch = current.repo.branch if current.repo is not None else ""
            words = "Interrupted: the agent was restarted."
            self._remember(current.task, Outcome.LOST.value, current.title, branch, words)
            self._log.write("recovered", task=current.task, fence=current.fence, text=problem)
            trouble = f"work of {current.task} is still only in the clone: {problem}"
            self._loop.post(Recovered(trouble if problem else ""))

        # It may have been killed before its branch was checked out.
        repo = current.repo if clones.may_hold_leftovers(self._workspace) else None
        if repo is None and not current.folder:
            memory.clear_current(self._workspace)
            self._loop.post(Recovered())
        else:
            key = (current.task, current.fence)
            self._secure(Left(key, current.attempt, repo, current.folder), done)

    def _secure(self, left: Left, done: Callable[[bytes, str], None], tried: int = 0) -> None:
        """Bring the work home; tried again, as a killed helper or a full disk may be over soon."""
        spec, workspace, confinement = self._means.spec, self._workspace, self._confinement()

        def work() -> bytes:
            time.sleep(_SECURE_AFTER[tried])  # in the helper: the daemon itself beats on
            return concluding.secure(workspace, spec.name, spec.home_id, left, confinement)

        def over(answer: bytes, error: str) -> None:
            problem = error or concluding.read_home(answer).problem
            if problem and tried + 1 < len(_SECURE_AFTER):
                task, fence = left.key
                self._log.write("secured_again", task=task, fence=fence, text=problem)
                self._secure(left, done, tried + 1)
            else:
                done(answer, error)

        self._chore(work, over)

    def _conclude(self, job: Job, home: Home, ended_by: Outcome | None, reason: str) -> None:
        seen = self._seen
        assert seen is not None, "secured without a session"
        finished = concluding.conclude(
            job,
            seen,
            home,
            ended_by,
            reason,
            now=time.time(),
            utc_offset=time.localtime().tm_gmtoff,
        )
        self._seen = None
        self._loop.post(Secured(finished))

    def _confinement(self) -> Confinement:
        return confinement_of(self._workspace, self._means.sandboxed)

    def _chore(self, what: Callable[[], bytes], done: Callable[[bytes, str], None]) -> None:
        """Run ``what`` in a helper process, then call ``done`` with its answer or its error."""
        try:
            chore = Chore(what)
        except OSError as error:
            done(b"", _why(error))
        else:
            self._wait_for(chore, done)

    def adopt_clone(self, wanted: Prepare, chore: Chore) -> None:
        """A clone that was begun while the daemon dozed."""

        def made(_: bytes, error: str) -> None:
            self._loop.post(CloneFailed(wanted.hub, error) if error else CloneMade(wanted.hub))

        self._wait_for(chore, made)

    def _wait_for(self, chore: Chore, done: Callable[[bytes, str], None]) -> None:
        def ready() -> None:
            if not chore.read():
                return
            self._loop.unwatch(chore.fd)
            try:
                answer = chore.finish()
            except SwarmError as error:
                done(b"", str(error))
            else:
                done(answer, "")

        self._loop.watch(chore.fd, ready)

    # -- the disk ------------------------------------------------------------------------------

    def _record(self, entry: Entry, title: str) -> None:
        """Write it down; a report first into the agent's own memory, then into the outbox."""
        if isinstance(entry, Reported):
            done = entry.finished
            words = "\n".join(part for part in (done.reason, done.result) if part)
            self._remember(done.task, done.outcome.value, title, done.branch or "", words)
        try:
            outbox.append(self._workspace.outbox, entry)
        except OSError as error:
            self._loop.post(RecordFailed(entry.key, _why(error)))
            return
        if isinstance(entry, Reported):
            memory.clear_current(self._workspace)
        self._loop.post(Recorded(entry.key))

    def _remember(self, task: str, outcome: str, title: str, branch: str, words: str) -> None:
        """Into ``context.md``, which the agent's next session reads."""
        try:
            end_task(self._workspace, Earlier(task, outcome, time.time(), title, branch, words))
        except SwarmError as error:
            self._log.write("not_saved", text=str(error))

    def _settle(self, task: str, fence: int) -> None:
        self._loop.link.forget(f"report:{task}:{fence}")
        try:
            outbox.settle(self._workspace.outbox, task, fence)
        except OSError as error:
            # Said again by the next life of this daemon, and settled again.
            self._log.write("not_saved", text=f"outbox: {_why(error)}")


def _key(message: WorkMessage) -> tuple[str, int]:
    """What a newer message replaces, and how urgent it is."""
    match message:
        case Claim():
            return "claim", CLAIMING
        case Status(phase="started"):
            return f"started:{message.task.id}:{message.fence}", STATUS
        case Status():
            return "status", STATUS
        case Unclaim() if not is_task_id(message.task.id):
            return "refused", STATUS  # whoever sends such assignments by the hundred hears of one
        case Heartbeat():
            return f"heartbeat:{message.task.id}", SETTLING
        case _:
            return f"report:{message.task.id}:{getattr(message, 'fence', 0)}", SETTLING


def _why(error: SwarmError | OSError) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)
