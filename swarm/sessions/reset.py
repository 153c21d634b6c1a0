"""When a quota ends, read from what a provider or CLI says about it.

Seen: ``Resets at 5pm``, ``resets 5:30pm (UTC)``, ``usage limit reached|1795175196``,
``resets 2026-11-20T17:00Z``, ``resets Nov 22 at 5pm``, ``try again at Nov 22nd, 2026 5:44 PM``,
``try again in 3 days 4 hours 20 minutes``, ``Please try again in 1m12.5s``, ``retry-after: 30``.
A time without a zone is local and the next such time (rules, "Outcomes"); a named zone other
than UTC is what the CLI took for the local one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

FAR = 400 * 86_400.0
"""Seconds ahead beyond which a time is not believed."""

MAX_LOOKED_AT = 4_000
"""Characters of a text that are searched."""

_EPOCH = re.compile(r"(?:\||reset\w{0,12}\W{1,4})(?P<epoch>\d{10})(?:\d{3})?\b", re.I)
_ISO = re.compile(
    r"\b(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)[T ]"
    r"(?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.\d+)?)?"
    r"(?: ?(?P<zone>Z|UTC|GMT|[+-]\d\d:?\d\d))?",
    re.I,
)
_RETRY_AFTER = re.compile(r"retry[-_ ]after(?: \(?seconds\)?)?[\"']?[:= ]+(?P<seconds>\d+)\b", re.I)
_SPAN = r"\d+(?:\.\d+)?\s?(?:days?|d|hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s|ms)\b"
_RELATIVE = re.compile(
    rf"\b(?:in|after|wait)\s+(?:about\s+)?(?P<spans>(?:{_SPAN}(?:,?\s*(?:and\s+)?)?)+)", re.I
)
_COMPACT = re.compile(r"\b(?:in|after|wait)\s+(?P<spans>(?:\d+(?:\.\d+)?(?:ms|[dhms]))+)\b", re.I)
_ONE_SPAN = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s?(?P<unit>ms|[dhms])", re.I)
_UNITS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_CLOCK = (
    r"(?P<hour>\d{1,2})(?::(?P<minute>\d\d))?(?:\s?(?P<half>[ap])\.?m\b\.?)?"
    r"(?:\s?\(?(?P<zone>UTC|GMT|Z)\b)?"
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DATED = re.compile(
    rf"\b(?P<month>{'|'.join(_MONTHS)})[a-z]*\.?\s(?P<day>\d{{1,2}})(?:st|nd|rd|th)?"
    rf"(?:,?\s(?P<year>20\d\d))?,?(?:\sat)?\s{_CLOCK}",
    re.I,
)
_TIME = re.compile(rf"\b(?:resets?|again|until|available)(?:\s(?:at|by))?:?\s{_CLOCK}", re.I)


def reset_time(text: str, now: float, utc_offset: float) -> float | None:
    """Unix seconds at which the quota that ``text`` tells of ends, or ``None``.

    ``utc_offset`` is the local zone's, in seconds east.  Only times after ``now`` and within
    :data:`FAR` of it are believed.
    """
    text = text[:MAX_LOOKED_AT]
    local = timezone(timedelta(seconds=max(-86_340.0, min(86_340.0, utc_offset))))
    readings: tuple[Callable[[], float | None], ...] = (
        lambda: _epoch(text),
        lambda: _iso(text, local),
        lambda: _after(text, now),
        lambda: _dated(text, now, local),
        lambda: _time(text, now, local),
    )
    for reading in readings:
        try:
            found = reading()
        except (ValueError, OverflowError):
            continue  # the 31st of November, a year of 9999: no time at all
        if found is not None and now < found <= now + FAR:
            return found
    return None


def _epoch(text: str) -> float | None:
    found = _EPOCH.search(text)
    return float(found["epoch"]) if found else None


def _iso(text: str, local: timezone) -> float | None:
    found = _ISO.search(text)
    if found is None:
        return None
    parts = [int(found[name] or 0) for name in ("year", "month", "day", "hour", "minute", "second")]
    zone = _zone(found["zone"], local)
    year, month, day, hour, minute, second = parts
    return datetime(year, month, day, hour, minute, second, tzinfo=zone).timestamp()


def _after(text: str, now: float) -> float | None:
    if found := _RETRY_AFTER.search(text):
        return now + float(found["seconds"])
    if (found := _COMPACT.search(text) or _RELATIVE.search(text)) is None:
        return None
    spans = _ONE_SPAN.finditer(found["spans"])
    return now + sum(float(s["number"]) * _UNITS[s["unit"].lower()] for s in spans)


def _dated(text: str, now: float, local: timezone) -> float | None:
    found = _DATED.search(text)
    if found is None:
        return None
    zone = _zone(found["zone"], local)
    today = datetime.fromtimestamp(now, zone)
    month = _MONTHS.index(found["month"].lower()) + 1
    hour, minute = _clock(found)
    year = int(found["year"]) if found["year"] else today.year
    when = datetime(year, month, int(found["day"]), hour, minute, tzinfo=zone)
    if found["year"] is None and when <= today:
        when = when.replace(year=year + 1)
    return when.timestamp()


def _time(text: str, now: float, local: timezone) -> float | None:
    found = _TIME.search(text)
    if found is None or (found["minute"] is None and found["half"] is None):
        return None  # a bare number is no time of day
    today = datetime.fromtimestamp(now, _zone(found["zone"], local))
    hour, minute = _clock(found)
    when = today.replace(hour=hour, minute=minute, second=0, microsecond=0)
    if when <= today:
        when += timedelta(days=1)
    return when.timestamp()


def _clock(found: re.Match[str]) -> tuple[int, int]:
    """Hour and minute; raises ``ValueError`` for a 13 o'clock pm."""
    hour, minute, half = int(found["hour"]), int(found["minute"] or 0), found["half"]
    if half is not None:
        if not 1 <= hour <= 12:
            raise ValueError(hour)
        hour = hour % 12 + (12 if half.lower() == "p" else 0)
    return hour, minute


def _zone(named: str | None, local: timezone) -> timezone:
    if named is None:
        return local
    if named.upper() in ("Z", "UTC", "GMT"):
        return UTC
    minutes = int(named[1:3]) * 60 + int(named[-2:])
    return timezone(timedelta(minutes=-minutes if named[0] == "-" else minutes))
