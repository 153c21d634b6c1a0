"""Hostile text is harmless on a terminal; tables line up."""

from __future__ import annotations

import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.cli import screen
from swarm.cli.screen import age, many_lines, one_line, rich_table, span, table_lines, width_of

EVIL = "a\x1b]0;owned\x07b\x1b[2Jc\r\nd\x9b31me\u202efdp.exe\u2028\ud800"


def harmless(text: str) -> bool:
    """No character that a terminal would act on, and all of it can be written."""
    text.encode()
    return not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text) and not (
        set(text) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")
    )


@given(st.text(st.characters(categories=None)))
def test_one_line_is_harmless_whatever_comes(text: str) -> None:
    assert harmless(one_line(text))


@given(st.text(st.characters(categories=None)))
def test_many_lines_keeps_only_newlines_and_tabs(text: str) -> None:
    assert harmless(many_lines(text).replace("\n", "").replace("\t", ""))


def test_a_lax_pattern_is_caught_by_the_property(monkeypatch: pytest.MonkeyPatch) -> None:
    import re

    monkeypatch.setattr(screen, "_HOSTILE", re.compile("\x1b"))
    assert not harmless(one_line(EVIL.replace("\ud800", "")))


def test_escape_sequences_are_shown_not_sent() -> None:
    shown = one_line(EVIL)
    assert "\\x1b]0;owned\\x07" in shown
    assert "\\u202e" in shown
    assert "\x1b" not in shown


@given(st.text(), st.integers(1, 50))
def test_a_limit_is_kept(text: str, limit: int) -> None:
    assert len(one_line(text, limit)) <= limit


def test_readable_text_stays_as_it_is() -> None:
    for text in ("Fix the parser", "größer → 10 €", "日本語 👩‍💻", "back\\slash [bold]x[/]"):
        assert one_line(text) == text
    assert many_lines("a\n\tb\n") == "a\n\tb\n"


def test_a_plain_table_lines_up_also_with_wide_characters() -> None:
    lines = table_lines(("ID", "TITLE", "N"), [("a", "日本", "1"), ("bcd", "x\x1b[1my", "2")])
    assert lines[0].startswith("ID   TITLE")
    starts = {width_of(line[: line.rindex(c)]) for line, c in zip(lines, "N12", strict=True)}
    assert len(starts) == 1
    assert all(line == line.rstrip() for line in lines)


def test_markup_in_hostile_text_is_not_interpreted_by_rich() -> None:
    from rich.console import Console

    out = io.StringIO()
    rows = [("[bold red]x[/]", "idle", "[link=http://evil]y[/link] \x1b[31m")]
    Console(file=out, width=120, force_terminal=True).print(rich_table(("A", "B", "C"), rows, 1))
    assert "[bold red]x[/]" in out.getvalue()
    assert "[link=http://evil]y[/link] \\x1b[31m" in out.getvalue()


def drawn(columns: tuple[str, ...], rows: list[tuple[str, ...]], width: int) -> list[str]:
    """The table on a terminal of that width, without its colours."""
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(rich_table(columns, rows, 1))
    return out.getvalue().splitlines()


def test_a_narrow_terminal_cuts_free_text_and_never_a_name() -> None:
    columns = ("ID", "STATE", "AGENT", "TITLE", "REASON")
    rows = [("t-k3f9x2ab", "needs_human", "swarm-builder-001", "日本 and more " * 4, "why " * 12)]
    head, row = drawn(columns, rows, 80)
    assert row.startswith("t-k3f9x2ab  needs_human  swarm-builder-001  日本 and")
    assert row.count("…") == 2
    assert width_of(row) <= 80
    assert head.split() == list(columns)
    assert drawn(columns, rows, 200)[1].endswith("why why")


def test_where_names_alone_do_not_fit_lines_are_folded() -> None:
    columns = ("AGENT", "STATE", "TASK", "REASON")
    rows = [("swarm-builder-001", "idle", "t-k3f9x2ab.1", "")]
    assert "\n".join(drawn(columns, rows, 20)).split() == ["AGENT", "STATE", "TASK", *rows[0][:3]]
    assert len(drawn(columns, rows, 38)) == 2  # what nobody gave a reason in is left out


def test_ages_and_spans() -> None:
    assert age("2026-01-01T00:00:00Z", now=lambda: 1767225600 + 90) == "1m"
    assert age(None) == "-"
    assert age("not a time") == "-"
    assert [span(s) for s in (0, 0.25, 12, 3599, 7200, 200_000)] == [
        "0s",
        "0.2s",
        "12s",
        "59m",
        "2h",
        "2d",
    ]
