"""When a quota ends."""

from __future__ import annotations

from calendar import timegm

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.sessions.reset import FAR, reset_time

NOW = float(timegm((2026, 11, 20, 11, 46, 40)))  # a Friday


def at(*when: int) -> float:
    return float(timegm((*when, 0, 0, 0)[:6]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("You have hit your usage limit. Resets at 5pm", at(2026, 11, 20, 17)),
        ("limit reached ∙ resets 5:30 PM", at(2026, 11, 20, 17, 30)),
        ("resets 9am", at(2026, 11, 21, 9)),
        ("resets at 12am", at(2026, 11, 21)),
        ("resets at 12pm", at(2026, 11, 20, 12)),
        ("Resets at 17:00", at(2026, 11, 20, 17)),
        ("resets 5pm (America/New_York)", at(2026, 11, 20, 17)),
        ("Resets at 2026-11-20T17:00Z", at(2026, 11, 20, 17)),
        ("resets 2026-11-20 17:00:30.5+02:00", at(2026, 11, 20, 15, 0, 30)),
        ("until 2026-11-20T17:00", at(2026, 11, 20, 17)),
        ("Claude AI usage limit reached|1795194000", 1795194000.0),
        ('"resetsAt": 1795194000', 1795194000.0),
        ("resets_at=1795194000123", 1795194000.0),
        ("resets Nov 22 at 5pm", at(2026, 11, 22, 17)),
        ("resets Jan 2, 8am", at(2027, 1, 2, 8)),
        ("try again at Nov 22nd, 2026 5:44 PM.", at(2026, 11, 22, 17, 44)),
        ("or try again at 5:44 PM.", at(2026, 11, 20, 17, 44)),
        ("try again in 20 minutes", NOW + 1200),
        ("try again in 3 days 4 hours 20 minutes.", NOW + 3 * 86400 + 4 * 3600 + 1200),
        ("available in 1 hour and 5 mins", NOW + 3900),
        ("Please try again in 1m12.5s.", NOW + 72.5),
        ("retry after 30s", NOW + 30),
        ("retry-after: 30", NOW + 30),
        ("Retry-After (seconds): 7", NOW + 7),
    ],
)
def test_what_is_said(text: str, expected: float) -> None:
    assert reset_time(text, NOW, 0.0) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "429 Too Many Requests",
        "resets 2020-01-01T00:00Z",
        "usage limit reached|1000000000",
        "resets Nov 31 at 5pm",
        "resets at 25:99",
        "resets at 13pm",
        "again 5",
        "retry-after: 999999999999",
        "resets 9999-99-99T99:99Z",
    ],
)
def test_what_makes_no_sense_is_unknown(text: str) -> None:
    assert reset_time(text, NOW, 0.0) is None


def test_a_time_without_a_zone_is_local() -> None:
    assert reset_time("Resets at 5pm", NOW, -5 * 3600) == at(2026, 11, 20, 22)
    assert reset_time("Resets at 5pm", NOW, 10 * 3600) == at(2026, 11, 21, 7)
    assert reset_time("Resets at 5pm UTC", NOW, 10 * 3600) == at(2026, 11, 20, 17)
    assert reset_time("resets 2026-11-20T17:00", NOW, 3600) == at(2026, 11, 20, 16)


WORDS = ["resets", "at", "in", "5pm", "17:00", "|", "1795194000", "Nov", "22", "3", "d", "m"]
WORDS += ["2026-11-20", "T17:00", "Z"]


@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(WORDS),
        max_size=8,
    ).map(" ".join),
    st.floats(0, 2**33),
    st.integers(-200_000, 200_000),
)
def test_it_never_raises_and_always_lies_ahead(text: str, now: float, offset: int) -> None:
    found = reset_time(text, now, offset)
    assert found is None or now < found <= now + FAR
