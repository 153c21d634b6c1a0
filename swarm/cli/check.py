"""One finding of ``doctor``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; ``remedy`` says what to do, empty when nothing is to be done."""

    name: str
    level: Level
    found: str
    remedy: str = ""
