"""What goes into an agent CLI's run and what comes out, the same for every CLI.

An adapter turns a :class:`LaunchRequest` into a :class:`Launch` and the CLI's output into
:data:`SessionEvent` values; :class:`Summary` is their fold.  All of it is data: who writes the
files, starts the process and reads its pipe is the daemon.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol, TypeAlias

from swarm.core.model import Usage
from swarm.wire.spawn import RuntimeSpec

MAX_TEXT = 16_000
"""Characters kept of one piece of text, result or error; what follows is cut."""

MAX_TAIL = 4_000
"""Characters kept of output that is no stream, and of standard error."""

NOTHING = Usage()

MAX_INLINE_PROMPT = 100 * 1024
"""Bytes of a prompt given as an argument.  Linux takes at most 128 KiB in one argument
(``MAX_ARG_STRLEN``, execve(2)); a longer one goes by file."""


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """One session that is wanted.  Every path is absolute."""

    runtime: RuntimeSpec
    prompt: str
    """Made by :func:`swarm.sessions.prompt.compose`; any text, NUL bytes are left out."""
    prompt_file: str
    """Where the prompt is written (it is in :attr:`Launch.files`) when the CLI needs a file."""
    workspace: str
    """The clone, the session's working directory."""
    out_dir: str
    """``out/<task>/``, where it leaves results and questions."""
    state_dir: str
    """Per-agent directory for the CLI's own state; kept from task to task."""
    task_id: str
    model: str = ""
    """Empty: the CLI's own default."""
    resume_session: str | None = None
    """The CLI's id of an earlier session in this same workspace."""
    bypass_permissions: bool = False
    """Turn the CLI's own permission prompts off (rules, "The sandbox")."""
    input_dir: str = ""
    """What was handed in with the task, for reading; empty when there is nothing."""
    environ: Mapping[str, str] = field(default_factory=dict)
    """The person's environment: says where their logins lie (``HOME``, ``CODEX_HOME``, …)."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start it.  Standard input is always ``/dev/null``: two CLIs read a pipe to its end."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    """Set over the scrubbed environment; the runtime's own ``env`` wins over it."""
    directories: tuple[str, ...] = ()
    """Made first (0700, parents too) when missing."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Path → text, written (0600) before the start."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Path → target: symbolic links made, or made anew, where the target exists: logins and
    settings of the person, read-only to the session because the sandbox grants no more."""
    read_paths: tuple[str, ...] = ()
    """What the sandbox lets it read beyond the usual; paths that do not exist are skipped."""
    write_paths: tuple[str, ...] = ()
    """What it may also write: the CLI's state."""


class ProblemKind(StrEnum):
    """What went wrong, as far as it decides what to do next."""

    QUOTA = "quota"
    OVERFLOW = "overflow"
    DENIED = "denied"
    SERVER = "server"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Text:
    """Something said.  ``raw``: a line that is not the CLI's stream format, as it came."""

    text: str
    raw: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """A word beside the work: a line of standard error, a warning.  For logs and reasons only."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool the agent uses; ``summary`` is one line of at most 200 characters."""

    name: str
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Spend:
    """Usage so far: a running total of this session.  An unknown cost is ``None``, never 0."""

    usage: Usage
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """The CLI reports trouble.

    ``fatal`` says that waiting is pointless: a quota which the CLI would retry for ever.  The
    daemon then ends the session itself, with ``Outcome.QUOTA`` (rules, "Outcomes").
    """

    kind: ProblemKind
    text: str
    fatal: bool = False
    reset_at: float | None = None
    """Unix seconds, where the stream gives them as a number; else the text may hold a time."""


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """The CLI's own id of the session, with which it can be resumed."""

    session_id: str


@dataclass(frozen=True, slots=True)
class Result:
    """The CLI's closing word."""

    text: str
    is_error: bool


SessionEvent: TypeAlias = Text | Note | ToolCall | Spend | Problem | SessionStarted | Result


class Parser(Protocol):
    """Turns one session's output into events.  Takes any bytes; never raises."""

    def feed(self, data: bytes) -> list[SessionEvent]:
        """The events of the lines that ``data`` completes."""
        ...

    def feed_stderr(self, data: bytes) -> list[SessionEvent]:
        """The same for standard error: notes, and the trouble some CLIs tell only there."""
        ...

    def finish(self) -> list[SessionEvent]:
        """The events of what was left without a newline, and those only the end brings."""
        ...


class Adapter(Protocol):
    """One kind of agent CLI."""

    @property
    def name(self) -> str:
        """As in a runtime's ``adapter``."""
        ...

    @property
    def tells_result(self) -> bool:
        """Whether a run without a :class:`Result` was cut short, whatever its exit status."""
        ...

    def launch(self, request: LaunchRequest) -> Launch:
        """How to start it.  Raises :class:`~swarm.errors.SessionError` for an empty command."""
        ...

    def parser(self, before: Usage = NOTHING) -> Parser:
        """A parser for one run; ``before`` is what earlier runs of the resumed session used.

        Some CLIs count a resumed session from its first run on; our totals are of this run.
        """
        ...


@dataclass(frozen=True, slots=True)
class Summary:
    """The fold of a session's events: all an outcome needs to know of them."""

    session_id: str | None = None
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = None
    result: Result | None = None
    problem: Problem | None = None
    """The trouble that stands: the last one reported, cleared when the work went on after it."""
    denied: str = ""
    """What a tool or path was refused for; stands until the end."""
    last_text: str = ""
    """What the agent said last, raw lines left out."""
    raw_tail: str = ""
    """The end of what came as raw lines: where there is no stream, this is all there is."""
    notes_tail: str = ""
    """The end of the notes."""
    tool_calls: int = 0

    def heard(self, event: SessionEvent) -> Summary:
        """The summary with one more event."""
        match event:
            case SessionStarted(session_id):
                return replace(self, session_id=session_id)
            case Spend(usage, cost):
                return replace(self, usage=usage, cost_usd=cost)
            case Problem(ProblemKind.DENIED, text):
                return replace(self, denied=text)
            case Problem():
                return replace(self, problem=_weightier(self.problem, event))
            case Text(text, raw=True):
                return replace(self, raw_tail=_tail(self.raw_tail, text))
            case Note(text):
                return replace(self, notes_tail=_tail(self.notes_tail, text))
            case Text(text):
                return replace(self, last_text=text, problem=None)
            case ToolCall():
                return replace(self, tool_calls=self.tool_calls + 1, problem=None)
            case Result():
                return replace(self, result=event, problem=self.problem if event.is_error else None)


def _weightier(old: Problem | None, new: Problem) -> Problem:
    """The problem that stands after ``new``: a vague one does not hide one with a meaning."""
    if old is None or old.kind is ProblemKind.OTHER:
        return new
    if new.kind is ProblemKind.OTHER:
        return old
    if new.kind is old.kind and new.reset_at is None and old.reset_at is not None:
        return replace(new, reset_at=old.reset_at)
    return new


def _tail(before: str, line: str) -> str:
    return f"{before}\n{line}"[-MAX_TAIL:] if before else line[-MAX_TAIL:]


def shortened(text: str, limit: int = MAX_TEXT) -> str:
    """``text``, cut to ``limit`` characters with a mark that says so."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def one_line(text: str, limit: int = 200) -> str:
    """``text`` on one line, its white space and control characters made single spaces."""
    clean = "".join(c if c.isprintable() else " " for c in text[: limit * 4])
    return shortened(" ".join(clean.split()), limit)
