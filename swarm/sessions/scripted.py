r"""A stand-in agent CLI without a model: it does what its prompt literally says.

    scripted.py [--task ID] [--out DIR] [--state DIR] [--resume ID] [--prompt-file FILE | -- PROMPT]

It reads directives from the prompt, one a line, and performs them in order; when the prompt holds
a <task> section, only that section is read.  Lines that are no directive are passed over.  With
no directive at all it writes a small note named after the task and commits it.

  work        write PATH TEXT       write a file (\n in TEXT is a new line)
              append PATH TEXT      add a line to a file
              read PATH             say what a file holds, or why it cannot be read
              run COMMAND           run a shell command and say what it printed
              commit MESSAGE        git add -A, git commit
              out NAME TEXT         leave a result in the task's out directory
              ask QUESTION          leave a question for a person (needs_human.md)
              review VERDICT [unless PATH]
                                    what a reviewer of this task answers: VERDICT (or nonsense, or
                                    mute), but accept when what it reviews has PATH
              answer TEXT           what the final result says
              env NAME              say what an environment variable holds
  time        think SECONDS         no output, no processor time
              burn SECONDS          processor time, no output
              hang                  think for ever
  output      print N [TEXT]        say N lines
              raw TEXT              a line that is not of the stream format
              stderr TEXT           a line on standard error
              spam KIB              so many KiB of bytes that are no text, then a new line
  usage       usage IN OUT [COST]   report so many tokens, and dollars
  endings     fail [TEXT]           an error result, exit 1
              status N              end as usual, but with exit status N
              exit N                exit at once with status N and no result
              crash                 die by SIGSEGV
              quota [RESET]         usage limit; RESET as in "5pm" or "2026-11-20T17:00Z"
              overflow              the context is full
              deny [TOOL]           a tool was refused
              retrying STATUS       retry an HTTP status for ever
  processes   ignore-term           SIGTERM is ignored from here on
              setsid SECONDS        a child in a session of its own lives on so long
              daemonize SECONDS     the same, forked twice and with an empty environment
              fork N [SECONDS]      N children (for an hour, if nothing else is said)
              alloc MB              hold so much memory
  attempts    once DIRECTIVE        only in the first attempt at the task
              again DIRECTIVE       only in a later one
              prompt NAME           leave the whole prompt as a result

Asked to "Reply with the single word …" it does that.  While the file that the environment variable
SCRIPTED_QUOTA names is there, every run ends as by `quota` and what the file holds: a provider.

It prints the stream format of `claude -p --output-format stream-json --verbose`.  Paths stay
inside the working directory and the out directory.

One file, long as it is, and standard library only with few imports: it is run by its path with
`python -I -S`, which takes 20 ms and sees nothing of what is installed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable

REPLY = "Reply with the single word "
REVIEW = "Review commit "
_RETRY_EVERY = 0.05
"""Seconds between two retries of ``retrying``: a test need not wait for real ones."""


class Ended(Exception):
    """The run is over with this exit status; its result line, if any, is printed."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Run:
    """One run: what it was told, and what it has said so far."""

    def __init__(self, task: str, out: str, state: str, resume: str, first: bool) -> None:
        self.task = task
        self.out = out
        self.state = state
        self.session = resume if _plain(resume) else _new_id()
        self.first = first and not resume
        self.prompt = ""
        self.reviews = False
        self.answer = ""
        self.status = 0
        self.tokens = [0, 0]
        self.cost = 0.0
        self.calls = 0
        self.messages = 0
        self.denials: list[dict[str, object]] = []
        self.held: list[bytearray] = []

    # -- speaking ---------------------------------------------------------------------------

    def emit(self, **record: object) -> None:
        """Print one record."""
        put(1, json.dumps({**record, "session_id": self.session}).encode() + b"\n")

    def begin(self) -> None:
        """The first record; remembers that the session and the task have been seen."""
        seen = max(self._count(self.session), self._count(f"task-{self.task}"))
        self.first = self.first and seen == 0
        self.emit(
            type="system",
            subtype="init",
            cwd=os.getcwd(),
            tools=["Bash", "Read", "Write"],
            model="scripted",
            permissionMode="bypassPermissions",
            apiKeySource="none",
            run=seen + 1,
        )

    def say(self, text: str, usage: tuple[int, int] = (0, 0), error: str = "") -> None:
        """The agent says something."""
        self._message({"type": "text", "text": text}, usage, error)

    def tool(self, name: str, given: dict[str, object], output: str, failed: bool = False) -> None:
        """A tool was used, and this came of it."""
        self.calls += 1
        call = f"toolu_{self.calls:02d}"
        self._message({"type": "tool_use", "id": call, "name": name, "input": given}, (0, 0), "")
        result = {
            "tool_use_id": call,
            "type": "tool_result",
            "content": output,
            "is_error": failed,
        }
        self.emit(type="user", message={"role": "user", "content": [result]})

    def result(self, text: str, status: int | None = None, reason: str = "completed") -> None:
        """The closing record; ``status`` is the HTTP status of an error."""
        self.emit(
            type="result",
            subtype="success",
            is_error=status is not None,
            api_error_status=status or None,
            num_turns=self.messages,
            result=text,
            total_cost_usd=self.cost,
            usage=_usage(self.tokens[0], self.tokens[1]),
            permission_denials=self.denials,
            terminal_reason=reason,
        )

    def fail(self, text: str, status: int, error: str, reason: str = "completed") -> Ended:
        """Say an error of the provider and close; to be raised."""
        self.say(text, error=error)
        self.result(text, status, reason)
        return Ended(1)

    def _message(self, block: dict[str, object], usage: tuple[int, int], error: str) -> None:
        self.messages += 1
        message = {
            "id": f"msg_{self.session[:8]}_{self.messages:04d}",
            "type": "message",
            "role": "assistant",
            "model": "scripted",
            "content": [block],
            "usage": _usage(*usage),
        }
        if error:
            self.emit(type="assistant", message=message, error=error)
        else:
            self.emit(type="assistant", message=message)

    def _count(self, name: str) -> int:
        """How often ``name`` was counted before this time, in the state directory."""
        if not self.state:
            return 0
        os.makedirs(self.state, mode=0o700, exist_ok=True)
        path = os.path.join(self.state, f"{_file_name(name)}.runs")
        with open(path, "ab") as file:
            before = file.tell()
            file.write(b".")
        return before

    # -- files ------------------------------------------------------------------------------

    def place(self, path: str) -> str:
        """``path`` inside the working or the out directory; ends the run for any other."""
        full = os.path.realpath(path)
        for root in (os.getcwd(), self.out):
            if root and full.startswith(os.path.realpath(root) + os.sep):
                os.makedirs(os.path.dirname(full), exist_ok=True)
                return full
        self.result(f"{path} is outside the workspace", 0)
        raise Ended(1)

    def leave(self, name: str, text: str) -> None:
        """Write ``name`` in the out directory."""
        self.write("Write", os.path.join(self.out or ".", name), text, "w")

    def write(self, tool: str, path: str, text: str, mode: str) -> None:
        """Write or append, as the agent's tool would."""
        with open(self.place(path), mode, encoding="utf-8") as file:
            file.write(text.replace("\\n", "\n") + "\n")
        self.tool(tool, {"file_path": path}, f"wrote {path}")


# -- directives -----------------------------------------------------------------------------------


def do_write(run: Run, rest: str) -> None:
    """``write PATH TEXT``."""
    path, _, text = rest.partition(" ")
    run.write("Write", path, text, "w")


def do_append(run: Run, rest: str) -> None:
    """``append PATH TEXT``."""
    path, _, text = rest.partition(" ")
    run.write("Edit", path, text, "a")


def do_read(run: Run, rest: str) -> None:
    """``read PATH``: anywhere, as it is for finding out what the sandbox allows."""
    try:
        with open(rest, "rb") as file:
            found, failed = file.read(4000).decode("utf-8", "replace"), False
    except OSError as error:
        found, failed = f"{rest}: {error.strerror}", True
    run.tool("Read", {"file_path": rest}, found, failed)
    run.say(f"read {rest}: {found}")


def do_run(run: Run, rest: str) -> None:
    """``run COMMAND``: by the shell, with its output said."""
    status, output = command(["/bin/sh", "-c", rest])
    run.tool("Bash", {"command": rest}, f"{output}exit {status}", status != 0)
    run.say(f"{output.strip()[-2000:]} (exit {status})".strip())


def do_commit(run: Run, rest: str) -> None:
    """``commit MESSAGE``: everything, also when nothing changed."""
    os.environ.setdefault("GIT_AUTHOR_NAME", "scripted agent")
    os.environ.setdefault("GIT_AUTHOR_EMAIL", "scripted@localhost")
    os.environ.setdefault("GIT_COMMITTER_NAME", os.environ["GIT_AUTHOR_NAME"])
    os.environ.setdefault("GIT_COMMITTER_EMAIL", os.environ["GIT_AUTHOR_EMAIL"])
    status, output = command(["git", "add", "-A"])
    if status == 0:
        message = rest or f"work on {run.task or 'a task'}"
        status, output = command(["git", "commit", "-q", "--allow-empty", "-m", message])
    run.tool("Bash", {"command": f"git commit -m {rest!r}"}, f"{output}exit {status}", status != 0)
    if status != 0:
        run.result(f"git commit failed: {output.strip()}", 0)
        raise Ended(1)


def do_out(run: Run, rest: str) -> None:
    """``out NAME TEXT``."""
    name, _, text = rest.partition(" ")
    run.leave(name, text)


def do_ask(run: Run, rest: str) -> None:
    """``ask QUESTION``."""
    run.leave("needs_human.md", rest)


def do_review(run: Run, rest: str) -> None:
    """``review VERDICT [unless PATH]``: only in a review does it mean anything."""
    words = rest.split()
    verdict, path = words[0], words[2] if words[1:2] == ["unless"] and len(words) > 2 else ""
    if path and os.path.exists(os.path.join(os.getcwd(), path)):
        verdict = "accept"
    if not run.reviews or verdict == "mute":
        return
    blocks = int(verdict == "needs-revision")
    said = [{"file": path or "a.txt", "line": 1, "text": f"{path or 'something'} is missing"}]
    answer = {
        "verdict": verdict,
        "counts": {"blocking": blocks, "important": 0, "minor": 0},
        "comments": said * blocks,
    }
    run.leave("review.json", json.dumps(answer))


def do_answer(run: Run, rest: str) -> None:
    """``answer TEXT``."""
    run.answer = rest


def do_env(run: Run, rest: str) -> None:
    """``env NAME``."""
    run.say(f"{rest}={os.environ.get(rest, '(not set)')}")


def do_think(_run: Run, rest: str) -> None:
    """``think SECONDS``."""
    time.sleep(_number(rest))


def do_burn(_run: Run, rest: str) -> None:
    """``burn SECONDS``."""
    end = time.process_time() + _number(rest)
    while time.process_time() < end:
        pass


def do_hang(_run: Run, _rest: str) -> None:
    """``hang``: a signal whose handler returns does not end it either."""
    while True:
        time.sleep(3600)


def do_print(run: Run, rest: str) -> None:
    """``print N [TEXT]``."""
    number, _, text = rest.partition(" ")
    for n in range(int(_number(number))):
        run.say(text or f"line {n + 1}")


def do_raw(_run: Run, rest: str) -> None:
    """``raw TEXT``."""
    put(1, rest.encode() + b"\n")


def do_stderr(_run: Run, rest: str) -> None:
    """``stderr TEXT``."""
    put(2, rest.encode() + b"\n")


def do_spam(_run: Run, rest: str) -> None:
    """``spam KIB``: bytes that are neither UTF-8 nor JSON."""
    for _ in range(int(_number(rest))):
        put(1, b"{\xff\x00\xfe" * 256)
    put(1, b"\n")


def do_usage(run: Run, rest: str) -> None:
    """``usage IN OUT [COST]``: said at once, counted to the end."""
    words = [*rest.split(), "0", "0", "0"]
    spent = int(_number(words[0])), int(_number(words[1]))
    run.tokens = [run.tokens[0] + spent[0], run.tokens[1] + spent[1]]
    run.cost += _number(words[2])
    run.say("so much was used", spent)


def do_fail(run: Run, rest: str) -> None:
    """``fail [TEXT]``."""
    run.result(rest or "it did not work", 0)
    raise Ended(1)


def do_status(run: Run, rest: str) -> None:
    """``status N``."""
    run.status = int(_number(rest)) & 0xFF


def do_exit(_run: Run, rest: str) -> None:
    """``exit N``."""
    raise Ended(int(_number(rest)) & 0xFF)


def do_crash(_run: Run, _rest: str) -> None:
    """``crash``: without a core file."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(3600)  # an init of a PID namespace is spared by a signal it sends itself


def do_quota(run: Run, rest: str) -> None:
    """``quota [RESET]``."""
    resets = f". Resets at {rest}" if rest else ""
    text = f"API Error: Request rejected (429) · You have hit your usage limit{resets}"
    raise run.fail(text, 429, "rate_limit")


def do_overflow(run: Run, _rest: str) -> None:
    """``overflow``."""
    text = "Prompt is too long · the request is ~250000 tokens (limit 200000)"
    raise run.fail(text, 400, "invalid_request", "prompt_too_long")


def do_deny(run: Run, rest: str) -> None:
    """``deny [TOOL]``: told in the result, as a CLI does that may not ask."""
    run.denials.append({"tool_name": rest or "Bash", "tool_use_id": "toolu_00", "tool_input": {}})
    run.answer = run.answer or f"I may not use {rest or 'Bash'}."


def do_retrying(run: Run, rest: str) -> None:
    """``retrying STATUS``."""
    status, attempt = int(_number(rest)), 0
    while True:
        attempt += 1
        run.emit(
            type="system",
            subtype="api_retry",
            attempt=attempt,
            max_retries=10,
            retry_delay_ms=_RETRY_EVERY * 1000,
            error_status=status,
            error="rate_limit" if status == 429 else "server_error",
        )
        time.sleep(_RETRY_EVERY)


def do_ignore_term(_run: Run, _rest: str) -> None:
    """``ignore-term``."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def do_setsid(run: Run, rest: str) -> None:
    """``setsid SECONDS``."""
    run.say(f"a child in its own session: {sleeper(rest, own_session=True)}")


def do_daemonize(run: Run, rest: str) -> None:
    """``daemonize SECONDS``: the child between exits, so the sleeper loses its parent."""
    between = os.fork()
    if between == 0:
        sleeper(rest, own_session=True, environ={})
        os._exit(0)
    os.waitpid(between, 0)
    run.say("a process without parent and environment was left")


def do_fork(run: Run, rest: str) -> None:
    """``fork N [SECONDS]``."""
    words = [*rest.split(), "3600"]
    for _ in range(int(_number(words[0]))):
        sleeper(words[1])
    run.say(f"forked {words[0]}")


def do_alloc(run: Run, rest: str) -> None:
    """``alloc MB``: touched, so that it is really there."""
    for _ in range(int(_number(rest))):
        run.held.append(bytearray(b"x") * (1 << 20))
    run.say(f"holding {len(run.held)} MB")


def do_once(run: Run, rest: str) -> None:
    """``once DIRECTIVE``."""
    found = directive(rest)
    if found is not None and run.first:
        found[0](run, found[1])


def do_again(run: Run, rest: str) -> None:
    """``again DIRECTIVE``."""
    found = directive(rest)
    if found is not None and not run.first:
        found[0](run, found[1])


def do_prompt(run: Run, rest: str) -> None:
    """``prompt NAME``: as it came, so that a test sees what a session is told."""
    with open(run.place(os.path.join(run.out or ".", rest)), "w", encoding="utf-8") as file:
        file.write(run.prompt)


VERBS: dict[str, Callable[[Run, str], None]] = {
    name.removeprefix("do_").replace("_", "-"): verb
    for name, verb in list(globals().items())
    if name.startswith("do_")
}
_ALONE = frozenset(("hang", "crash", "overflow", "ignore-term"))
_MAY_BE_ALONE = frozenset(("fail", "quota", "deny", "commit"))
_NUMBERED = frozenset(
    ("think", "burn", "print", "spam", "usage", "status", "exit", "retrying", "setsid")
) | {"daemonize", "fork", "alloc"}
_TWO_WORDS = frozenset(("write", "append", "out"))
_NESTING = frozenset(("once", "again"))
_VERDICTS = frozenset(("accept", "accept-with-follow-ups", "needs-revision", "nonsense", "mute"))


def directive(line: str) -> tuple[Callable[[Run, str], None], str] | None:
    """The verb and its argument in ``line``, or ``None`` for a line of plain words."""
    word, _, rest = line.strip().partition(" ")
    rest = rest.strip()
    verb = VERBS.get(word)
    if verb is None:
        return None
    if word in _ALONE:
        fits = not rest
    elif word in _NUMBERED:
        fits = rest[:1].isdigit()
    elif word in _TWO_WORDS:
        fits = " " in rest
    elif word == "review":
        fits = rest.partition(" ")[0] in _VERDICTS
    elif word in _NESTING:
        fits = not rest.startswith(tuple(_NESTING)) and directive(rest) is not None
    else:
        fits = bool(rest) or word in _MAY_BE_ALONE
    return (verb, rest) if fits else None


# -- the program ----------------------------------------------------------------------------------


def section(prompt: str) -> str:
    """The task in ``prompt``: what lies between the first ``<task …>`` line and the last end."""
    lines = prompt.split("\n")
    starts = [i for i, line in enumerate(lines) if line.startswith("<task")]
    ends = [i for i, line in enumerate(lines) if line.startswith("</task>")]
    if not starts or not ends or ends[-1] < starts[0]:
        return prompt
    return "\n".join(lines[starts[0] + 1 : ends[-1]])


def refuse(run: Run) -> None:
    """End the run where the provider's quota is used up."""
    try:
        with open(os.environ.get("SCRIPTED_QUOTA", ""), encoding="utf-8") as file:
            resets = file.read().strip()
    except OSError:
        return
    do_quota(run, resets)


def perform(run: Run, prompt: str) -> int:
    """Do what ``prompt`` says; the exit status."""
    task = section(prompt)
    run.prompt = prompt
    run.first = run.first and "\n<earlier>\n" not in prompt
    run.begin()
    lines = task.split("\n")
    run.reviews = task.startswith(REVIEW)
    if run.reviews:  # what is reviewed is quoted: of that only how to judge it is meant for us
        lines = [line[2:] for line in lines if line.startswith("> review ")] or ["review accept"]
    found = [d for d in map(directive, lines) if d is not None]
    try:
        refuse(run)
        if task.startswith(REPLY):
            run.answer = task[len(REPLY) :].strip().rstrip(".")
            found = [(do_print, "0")]
        for verb, rest in found:
            verb(run, rest)
        if not found:
            name = f"{_file_name(run.task) or 'note'}.md"
            do_write(run, f"{name} {' '.join(task.split())[:2000] or 'nothing was asked'}")
            do_commit(run, f"note on {run.task or 'a task'}")
        answer = run.answer or f"Done: {len(found)} directives, {run.calls} tool calls."
        run.say(answer)
        run.result(answer)
    except Ended as ended:
        return ended.status
    except OSError as error:
        run.result(f"{error.filename or 'the system'}: {error.strerror}", 0)
        return 1
    return run.status


def main(arguments: list[str]) -> int:
    """Read the command line and run; the exit status."""
    given = {"--task": "", "--out": "", "--state": "", "--resume": "", "--prompt-file": ""}
    words = list(arguments)
    while words and words[0] in given and len(words) > 1:
        given[words[0]] = words[1]
        del words[:2]
    if words[:1] in (["--help"], ["-h"]):
        put(1, (__doc__ or "").encode() + b"\n")
        return 0
    if words[:1] == ["--"]:
        del words[0]
    elif words and words[0].startswith("-"):
        put(2, f"scripted: unknown option {words[0]}; see --help\n".encode())
        return 2
    prompt = os.fsencode(" ".join(words)).decode("utf-8", "replace")
    if given["--prompt-file"]:
        try:
            with open(given["--prompt-file"], encoding="utf-8", errors="replace") as file:
                prompt = file.read()
        except OSError as error:
            put(2, f"scripted: {given['--prompt-file']}: {error.strerror}\n".encode())
            return 2
    prompt = prompt.replace("\0", "")
    out = os.path.abspath(given["--out"]) if given["--out"] else ""
    return perform(
        Run(given["--task"], out, given["--state"], given["--resume"], first=True), prompt
    )


def put(descriptor: int, data: bytes) -> None:
    """Write all of ``data``; a reader that went away ends the run as it ends other programs."""
    while data:
        data = data[os.write(descriptor, data) :]


def command(argv: list[str]) -> tuple[int, str]:
    """Run ``argv``; its exit status (128 + signal) and at most 64 KiB of what it printed.

    Without ``subprocess``, whose import takes as long as the rest of the program.
    """
    reading, writing = os.pipe()
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, writing, 1),
        (os.POSIX_SPAWN_DUP2, writing, 2),
    ]
    try:
        child = os.posix_spawnp(argv[0], argv, os.environ, file_actions=actions)
    except OSError as error:
        os.close(reading)
        os.close(writing)
        return 127, f"{argv[0]}: {error.strerror}\n"
    os.close(writing)
    output = bytearray()
    while chunk := os.read(reading, 65536):
        output += chunk[: 65536 - len(output)]
    os.close(reading)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return (code if code >= 0 else 128 - code), output.decode("utf-8", "replace")


def sleeper(seconds: str, own_session: bool = False, environ: dict[str, str] | None = None) -> int:
    """Start ``sleep SECONDS`` with nothing of ours open; its process id."""
    child = os.fork()
    if child == 0:
        try:
            if own_session:
                os.setsid()
            null = os.open("/dev/null", os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            os.closerange(3, 256)
            given = dict(os.environ) if environ is None else environ
            for program in ("/bin/sleep", "/usr/bin/sleep"):
                if os.path.exists(program):
                    os.execve(program, ["sleep", str(_number(seconds))], given)  # noqa: S606 - wanted
        finally:
            os._exit(127)
    return child


def _usage(taken: int, given: int) -> dict[str, int]:
    return {
        "input_tokens": taken,
        "output_tokens": given,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
    }


def _number(text: str) -> float:
    """The number ``text`` begins with; 0 for none."""
    words = text.split()
    try:
        number = float(words[0]) if words else 0.0
    except ValueError:
        return 0.0
    return number if 0 <= number < 1e9 else 0.0


def _file_name(text: str) -> str:
    return "".join(c for c in text if c.isalnum() or c in "-_")[:80]


def _plain(session: str) -> bool:
    return bool(session) and _file_name(session) == session


def _new_id() -> str:
    """A random id in the form of a UUID."""
    digits = os.urandom(16).hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main(sys.argv[1:]))
