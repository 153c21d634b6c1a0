"""What the name of a drop says: not yet, never, or fine.  Pure."""

from __future__ import annotations

import unicodedata

UNFINISHED = (".tmp", ".part", ".partial", ".crdownload")
"""Endings, in any case, of what is still being written; it is taken in once it is renamed."""
MAX_NAME_BYTES = 200
"""In UTF-8; file systems take 255, and the name is to have room for what we add to it."""

_OURS = frozenset({"input", "results", "quarantine", "incoming", "taken"})
_DEVICES = frozenset(
    {"con", "prn", "aux", "nul"} | {f"{kind}{n}" for kind in ("com", "lpt") for n in range(10)}
)
"""Names that no file may have where an input is carried to another system."""
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def is_ignored(name: str) -> bool:
    """Whether a drop of this name is left alone until it is renamed: unfinished, hidden, backup."""
    return name.startswith(".") or name.endswith("~") or name.lower().endswith(UNFINISHED)


def reserved(name: str) -> str:
    """Why nothing may come in under this name; empty where it may.

    ``name`` is as :func:`os.fsdecode` has it: bytes that are no UTF-8 are lone surrogates.
    """
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if size > MAX_NAME_BYTES:
        return f"its name has {size} bytes, more than {MAX_NAME_BYTES}"
    if any(unicodedata.category(c) in _UNSEEN for c in name):
        return "its name holds control characters"
    if name != name.strip():
        return "its name begins or ends with a space"
    stem = name.lower().partition(".")[0].strip()
    if name.lower() in _OURS or stem in _DEVICES:
        return "its name is reserved"
    return ""
