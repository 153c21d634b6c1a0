"""What an error text or status of a provider means.

Asked only of what a CLI marks as an error: an agent may well *talk* about rate limits.  The
phrases are those of recorded runs and of the providers' own error tables.
"""

from __future__ import annotations

import re

from swarm.sessions.model import ProblemKind

_OVERFLOW = re.compile(
    r"prompt is too long|prompt_too_long|input is too long|request_too_large"
    r"|context[ _-]?(?:length|window)[ _-]?(?:is |was )?(?:exceeded|limit|full)"
    r"|maximum context length|exceed\w* (?:\w+ ){0,4}context|contextoverflow"
    r"|ran out of room in the model'?s context|input token count .{0,40}exceeds",
    re.IGNORECASE,
)
_QUOTA = re.compile(
    r"\b429\b|rate[ _-]?limit|usage[ _-]?limit|limit reached|hit your (?:\S+ )?limit|quota"
    r"|too many requests|resource[ _]exhausted|credit balance is too low",
    re.IGNORECASE,
)
_SERVER = re.compile(
    r"\b(?:500|502|503|504|529)\b|overloaded|internal server error|server[ _]error"
    r"|service unavailable|bad gateway|connection (?:error|refused|reset)|stream disconnected",
    re.IGNORECASE,
)
_STATUS = re.compile(r"\b(?:status(?: code)?[:= ]+|error[: ]+|\()(?P<status>[45]\d\d)\b", re.I)

_GONE = re.compile(
    r"no conversation found|no rollout found|(?:session|thread|conversation) .{0,80}not found"
    r"|(?:session|thread|conversation) not found",
    re.IGNORECASE,
)

MAX_LOOKED_AT = 4_000
"""Characters of an error text that are searched."""


def kind_of(text: str, status: int | None = None) -> ProblemKind:
    """What the error ``text`` with the HTTP ``status`` (where known) is about.

    The status wins where it is clear; an overflow is a 400 or 413 and told by its words.
    """
    text = text[:MAX_LOOKED_AT]
    if status is None and (found := _STATUS.search(text)):
        status = int(found["status"])
    if status == 429:
        return ProblemKind.QUOTA
    if status == 413 or _OVERFLOW.search(text):
        return ProblemKind.OVERFLOW
    if status is not None and status >= 500:
        return ProblemKind.SERVER
    if _QUOTA.search(text):
        return ProblemKind.QUOTA
    if status is None and _SERVER.search(text):
        return ProblemKind.SERVER
    return ProblemKind.OTHER


def session_is_gone(text: str) -> bool:
    """Whether a CLI says that it does not know the session it was to go on with (recorded)."""
    return _GONE.search(text[:MAX_LOOKED_AT]) is not None
