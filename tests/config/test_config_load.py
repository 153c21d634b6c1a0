"""swarm.yaml: what is taken, and every way it can be wrong, with line, path and remedy."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from swarm.config import document
from swarm.config.document import MAX_BYTES
from swarm.config.load import load_settings, parse_address, parse_settings
from swarm.config.settings import AgentsEntry, Limits, Settings
from swarm.config.template import TEMPLATE
from swarm.errors import ConfigError


def problems(text: str) -> list[str]:
    return [str(problem) for problem in parse_settings(text, "f").problems]


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "---\n", "{}", "null"])
def test_an_empty_file_is_the_defaults(text: str) -> None:
    loaded = parse_settings(text)
    assert loaded.ok
    assert loaded.require() == Settings()


def test_no_file_is_the_defaults() -> None:
    loaded = load_settings(None)
    assert (loaded.settings, loaded.path, loaded.problems) == (Settings(), None, ())


def test_what_the_file_says_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "swarm.yaml"
    path.write_text(
        "\ufeffversion: 1\n"
        "agents: [{role: qa}, {role: builder, count: 2}]\n"
        'limits: {max_active: 9, stall_minutes: 0.5, usd_budget: 3, budget_window: "day"}\n'
        "chat: {url: wss://chat.example.org/path, announcers: ['*', '@0123456789abcdef']}\n"
        "repo: {author: 'A B <a@b.c>', checks: ['make test'], publish: 'x/{target}'}\n"
        "runtimes:\n"
        "  mine: {adapter: command, command: [my, '{prompt}', '{\"a\": 1}'], env: {A: b}}\n"
        "  claude: {args: ['{foo}']}\n"
        "  codex:\n"
    )
    loaded = load_settings(path)
    assert [str(p) for p in loaded.problems] == [
        f"{path}:9: runtimes.codex: must be a mapping ('key: value' lines), not nothing (null)"
    ]
    path.write_text(path.read_text().replace("  codex:\n", ""))
    found = load_settings(path).require()
    assert found.agents == (AgentsEntry("qa", 1), AgentsEntry("builder", 2))
    assert found.limits == Limits(
        max_active=9, stall_minutes=0.5, usd_budget=3, budget_window="day"
    )
    assert found.runtimes["mine"].command == ("my", "{prompt}", '{"a": 1}')


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("limits:\n  max_activ: 3", ("f:2: limits.max_activ: there is no such key; "
         "did you mean 'max_active'?")),
        ("stop: {x: 1}", "f:1: stop.x: there is no such key; known here: grace_seconds"),
        ("a: 1\na: 2", "f:2: a: stands here a second time, first on line 1; keep one"),
        ("version: 2", ("f:1: version: version 2 is not known to this agentctl; "
         "it reads version 1")),
        ("version: '1'", "f:1: version: must be 1, not '1'"),
        ("limits:\n  max_active: many", ("f:2: limits.max_active: must be a whole number of 0 "
         "or more, not 'many'")),
        ("limits: {max_active: true}", ("f:1: limits.max_active: must be a whole number of 0 or "
         "more, not true")),
        ("limits: {max_active: 1.5}", ("f:1: limits.max_active: must be a whole number of 0 or "
         "more, not 1.5")),
        ("limits: {memory_mb: 0}", ("f:1: limits.memory_mb: must be a whole number above 0 or "
         "null, not 0")),
        ("limits: {stall_minutes: .inf}", ("f:1: limits.stall_minutes: must be a number of 0 or "
         "more, not inf")),
        ("limits: {warn_at: .nan}", "f:1: limits.warn_at: must be a number from 0 to 1, not nan"),
        ("limits: {max_active: 99999999999999999999}", ("f:1: limits.max_active: must be a whole "
         "number of 0 or more, not 99999999999999999999")),
        ("limits: {budget_window: dai}", ("f:1: limits.budget_window: must be one of day, total, "
         "not 'dai'; did you mean 'day'?")),
        ("limits: 5", "f:1: limits: must be a mapping ('key: value' lines), not 5"),
        ("limits: [5]", "f:1: limits: must be a mapping ('key: value' lines), not a list"),
        ("limits:", "f:1: limits: must be a mapping ('key: value' lines), not nothing (null)"),
        ("persist: maybe", "f:1: persist: must be true or false, not 'maybe'"),
        ("workspace_base: 5", "f:1: workspace_base: must be text, not 5; put it in quotes"),
        ("workspace_base: dev", "f:1: workspace_base: must be an absolute path, or begin with ~"),
        ("agents: {builder: 3}", ("f:1: agents: must be a list ([…] or lines with '- '), not a "
         "mapping")),
        ("agents:\n- role: qa\n- count: 1", "f:3: agents[1].role: is missing; give text"),
        ("agents: [{role: qa}, {role: qa}]", ("f:1: agents[1].role: 'qa' stands in agents[0] "
         "already; add the counts up")),
        ("agents: [{role: a/b}]", ("f:1: agents[0].role: 'a/b' cannot name a role: use a-z, 0-9, "
         "_ and -, no dash at either end")),
        (f"agents: [{{role: {'r' * 23}}}]", (f"f:1: agents[0].role: '{'r' * 23}' is too long for "
         "a role: at most 22 characters, so that its agents' names have at most 32")),
        ("chat: {channel: #agents\n}", ('f:1: chat.channel: is empty; put it in quotes, as "#" '
         'begins a comment: "#agents"')),
        ("chat: {channel: agents}", ("f:1: chat.channel: 'agents' is no channel name; give '#' "
         "and 1 to 31 letters, digits, _ or -")),
        ("chat: {listen: 6667}", "f:1: chat.listen: must be text, not 6667; put it in quotes"),
        ("chat: {listen: 'localhost'}", ("f:1: chat.listen: 'localhost' is no address; give "
         "host:port, e.g. 127.0.0.1:6667")),
        ("chat: {url: http://x}", "f:1: chat.url: 'http://x' must begin with ws:// or wss://"),
        ("chat: {url: 'ws://'}", ("f:1: chat.url: 'ws://' names no host; give e.g. "
         "wss://chat.example.org")),
        ("chat: {url: 'ws://u:p@h'}", ("f:1: chat.url: must hold no user, password or '#': agents "
         "sign in with their own keys")),
        ("chat: {coordinators: ['*']}", ("f:1: chat.coordinators[0]: '*' is no agent id; give 16 "
         "hex digits")),
        ("chat: {announcers: [bob]}", ("f:1: chat.announcers[0]: 'bob' is no agent id; give 16 "
         "hex digits or '*'")),
        ("repo: {source: --upload-pack=x}", ("f:1: repo.source: '--upload-pack=x' looks like an "
         "option; write ./--upload-pack=x for a path")),
        ("repo: {source: ''}", ("f:1: repo.source: must be a directory or a git address; leave it "
         "out for none")),
        ("repo: {target: -f}", "f:1: repo.target: '-f' is no branch name"),
        ("repo: {target: HEAD}", "f:1: repo.target: 'HEAD' is no branch name"),
        ("repo: {target: swarm}", ("f:1: repo.target: 'swarm' leaves no room for the tasks' own "
         "branches, swarm/<agent>/<task>; name another branch")),
        ("repo: {author: '... <a@b.c>'}", ("f:1: repo.author: '... <a@b.c>' is no author; give "
         "'Name <mail@example.org>'")),
        ("repo: {author: me}", ("f:1: repo.author: 'me' is no author; give "
         "'Name <mail@example.org>'")),
        ("repo: {publish: '{branch}'}", ("f:1: repo.publish: '{branch}' is no branch name; only "
         "{target} is filled in")),
        ("runtimes: {clade: {command: [x]}}", ("f:1: runtimes.clade: names no adapter and is none "
         "itself; add adapter: one of claude, codex, opencode, command, scripted (did you mean "
         "'claude'?)")),
        ("runtimes: {x: {adapter: gpt}}", ("f:1: runtimes.x.adapter: must be one of claude, "
         "codex, command, opencode, scripted or null, not 'gpt'")),
        ("runtimes: {x: {adapter: command}}", ("f:1: runtimes.x.command: is missing; give the "
         "program and its arguments as a list")),
        ("runtimes: {claude: {command: []}}", ("f:1: runtimes.claude.command: must begin with a "
         "program")),
        ("runtimes: {x: {adapter: command, command: [a, '{promt}']}}", ("f:1: "
         "runtimes.x.command[1]: {promt} is not filled in; did you mean 'prompt'?")),
        ("runtimes: {claude: {env: {'A=B': c}}}", ("f:1: runtimes.claude.env.A=B: cannot name an "
         "environment variable")),
        ("runtimes: {claude: {pass_env: ['A B']}}", ("f:1: runtimes.claude.pass_env[0]: 'A B' "
         "cannot name an environment variable")),
        ("runtimes: {'a b': {adapter: claude}}", ("f:1: runtimes.a b: cannot name a runtime: use "
         "up to 32 letters, digits, _ and -")),
        ("- a\n- b", "f:1: must be a mapping of keys to values ('key: value' lines)"),
        ("hello", "f:1: must be a mapping of keys to values ('key: value' lines)"),
        ("a:\n\tb: 1", "f:2: YAML is indented with spaces, and this line has a tab"),
        ("a: 1\n---\nb: 2", "f:2: holds a second document ('---'); keep one"),
        ("limits: {", "f:1: is not YAML here: did not find expected node content"),
        ("a: *b", "f:1: a: aliases (*name) are not read here; write the value out"),
        ("persist: !!python/object:os.system x", ("f:1: persist: tags are not read here; remove "
         "'tag:yaml.org,2002:python/object:os.system'")),
        ("? [a]\n: b", "f:1: a key must be a plain word"),
        ("a: \x07", "f:1: holds a character that no text file should; remove it"),
        ("limits: {max_active: 0b}", ("f:1: limits.max_active: must be a whole number of 0 or "
         "more, not '0b'")),
        ("[" * 100_000, "f:1: is nested too deeply"),
        ("{a: " * 100_000, "f:1: is nested too deeply"),
        ("a: [" + "x," * 50_000 + "]", "f:1: holds more than 20000 items; it cannot be meant"),
        ("a" * (MAX_BYTES + 1), "f: is larger than 1024 KiB"),
    ],
    ids=lambda text: text[:40] if isinstance(text, str) else None,
)  # fmt: skip
def test_bad_input_names_line_path_and_remedy(text: str, problem: str) -> None:
    found = [p for p in problems(text) if "there is no such key" not in p or p == problem]
    assert found == [problem]
    assert parse_settings(text).settings == Settings()


def test_every_problem_is_told_in_the_order_of_the_file() -> None:
    loaded = parse_settings(
        "persist: 3\nlimits:\n  max_active: -1\n  warn_at: 2\nversion: 7\nversion: 7\n", "f"
    )
    assert [p.line for p in loaded.problems] == [1, 3, 4, 6]
    with pytest.raises(ConfigError) as caught:
        loaded.require()
    assert len(caught.value.problems) == 4
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_a_file_of_nothing_but_problems_is_not_told_to_its_end() -> None:
    found = problems("".join(f"key{n}: 1\n" for n in range(500)))
    assert len(found) == 51
    assert found[-1] == "f:51: 450 more problems follow; mend these first"


def test_the_plain_parser_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PyYAML was built without libyaml."""
    monkeypatch.setattr(document, "_Loader", yaml.SafeLoader)
    assert parse_settings(TEMPLATE).require() == Settings()
    assert problems("a: *b") == ["f:1: a: aliases (*name) are not read here; write the value out"]
    assert problems("[" * 5000) == ["f:1: is nested too deeply"]
    assert len(problems("a:\n\tb: 1")) == 1


def test_aliases_cannot_grow_a_small_file() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{new}: &{new} [{', '.join(['*' + old] * 10)}]\n"
        for old, new in zip("abcdefgh", "bcdefghi", strict=False)
    )
    assert any("aliases" in problem for problem in problems(bomb))


def test_files_that_cannot_be_read_are_problems(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    latin = tmp_path / "latin"
    latin.write_bytes(b"a: 1\nb: \xe9\n")
    large = tmp_path / "large"
    large.write_bytes(b"#" * (MAX_BYTES + 1))
    said = {
        path.name: str(load_settings(path).problems[0]).removeprefix(str(path))
        for path in (fifo, latin, large, tmp_path, tmp_path / "none")
    }
    assert said == {
        "fifo": ": is not a regular file; name a text file",
        "latin": ":2: is not UTF-8 text; save it as UTF-8",
        "large": ": is larger than 1024 KiB; it cannot be what is meant",
        tmp_path.name: ": is not a regular file; name a text file",
        "none": ": cannot be read: No such file or directory",
    }


@given(st.text(alphabet=st.sampled_from("{}[]:,-# \n\t'\"&*!|>ab1?%@"), max_size=40))
@example("? ")
@example("!!int x: 1")
@example("limits: !!map [x]")
@example("a: !!float x")
@example("a: !!bool x")
@example("? |\n : \n")
def test_any_text_gives_settings_or_problems(text: str) -> None:
    loaded = parse_settings(text)
    assert loaded.ok or loaded.settings == Settings()
    assert all("\n" not in str(problem) for problem in loaded.problems)


_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 2**70),
        st.floats(),
        st.sampled_from(["", "day", "ws://h", "#x", "127.0.0.1:0", "builder", "*"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(
            st.sampled_from(["role", "count", "url", "max_active", "adapter", "command", "env"]),
            inner,
            max_size=2,
        ),
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(Settings.__struct_fields__), _values, max_size=3))
def test_what_passes_the_checks_converts_and_what_converts_is_only_refused_for_its_meaning(
    data: dict,
) -> None:
    """JSON is YAML: any data may come; the checks and the types agree on what fits."""
    text = msgspec.json.encode(data).decode()
    loaded = parse_settings(text)
    assert all(problem.line for problem in loaded.problems), "the checks are laxer than the types"
    if loaded.ok:
        assert loaded.settings == msgspec.json.decode(text, type=Settings)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:6667", ("::1", 6667)),
        ("localhost:65535", ("localhost", 65535)),
        ("localhost:65536", None),
        (":1", None),
        ("::1:6667", None),
        ("a b:1", None),
        ("h:1\n", None),
    ],
)
def test_addresses(text: str, parts: object) -> None:
    assert parse_address(text) == parts
