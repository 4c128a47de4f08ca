"""One kind of fault in a task's rows, how often it is met, and where for example."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning"]
"""`error`: training refuses; `warning`: it goes on."""


MAX_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault of one kind."""

    level: Level
    code: str
    """A name that programs can go by: `unknown-label`."""
    message: str
    count: int
    examples: tuple[str, ...] = ()
    """Up to `MAX_EXAMPLES`, each beginning with its file and row."""


def finding(level: Level, code: str, message: str, places: Sequence[str]) -> list[Finding]:
    """The finding of so many places, the first few of them for examples; none of none."""
    return [Finding(level, code, message, len(places), tuple(places[:MAX_EXAMPLES]))] if places else []


def shortened(text: str, *, length: int = 60) -> str:
    """A text as an example shows it: its beginning, on one line, in quotes, what cannot be printed spelt out."""
    line = " ".join(text.split())
    return repr(line if len(line) <= length else line[: length - 1] + "…")
