"""Bugs planted on purpose: a module with one piece of its text replaced, to see a property fail."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType


@contextmanager
def mutant(module: ModuleType, old: str, new: str) -> Iterator[ModuleType]:
    """``module`` anew from its source with ``old`` (which must stand there once) made ``new``."""
    assert module.__file__ is not None
    source = Path(module.__file__).read_text(encoding="utf-8")
    assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in {module.__name__}"
    name = f"{module.__name__}__mutant"
    planted = ModuleType(name)
    planted.__file__ = module.__file__
    sys.modules[name] = planted
    try:
        exec(
            compile(source.replace(old, new), f"<mutant of {module.__name__}>", "exec"),
            planted.__dict__,
        )
        yield planted
    finally:
        del sys.modules[name]
