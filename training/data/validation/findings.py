"""`Finding`: a kind of fault in a task's rows, with its count and examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning"]
"""`error`: training refuses to start; `warning`: it starts."""


MAX_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """A kind of fault, with its count and examples."""

    level: Level
    code: str
    """A stable name for programs: `unknown-label`."""
    message: str
    count: int
    examples: tuple[str, ...] = ()
    """Up to `MAX_EXAMPLES`, each beginning with its file and row."""


def finding(level: Level, code: str, message: str, places: Sequence[str]) -> list[Finding]:
    """Return a finding with the first places as examples, or nothing if there are no places."""
    return [Finding(level, code, message, len(places), tuple(places[:MAX_EXAMPLES]))] if places else []


def shortened(text: str, *, length: int = 60) -> str:
    """Shorten a text for an example: its beginning, on one line, quoted and escaped."""
    line = " ".join(text.split())
    return repr(line if len(line) <= length else line[: length - 1] + "…")
