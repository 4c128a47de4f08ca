"""Callers' texts as answers and log entries may repeat them: printable, and at most 200 characters of each."""

import re

from adapters.printable import visible

MAX_CHARS = 200
_MAX_DETAIL_CHARS = 1_000
_LONG_QUOTED = re.compile(r"""(['"])((?:\\.|(?!\1)[^\\]){201,}?)(?:\1|$)""", re.DOTALL)
"""A long text that `repr` has quoted."""
_LONG_WORD = re.compile(rf"[^\s'\"]{{{MAX_CHARS + 1},}}")


def shortened(text: str, length: int = MAX_CHARS) -> str:
    """Return the beginning of a text, printable."""
    start = visible(text[:length], lines=False)
    return start if len(text) <= length and len(start) <= length else f"{start[:length]}…"


def readable(detail: str) -> str:
    """Shorten each text that a sentence quotes, and the sentence itself."""
    detail = visible(detail[: 4 * _MAX_DETAIL_CHARS], lines=False)
    detail = _LONG_QUOTED.sub(lambda found: f"{found[1]}{found[2][:MAX_CHARS]}…{found[1]}", detail)
    detail = _LONG_WORD.sub(lambda found: f"{found[0][:MAX_CHARS]}…", detail)
    return shortened(detail, _MAX_DETAIL_CHARS)
