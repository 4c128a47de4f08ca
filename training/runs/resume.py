"""Whether a run that was begun is the one that is asked for now: only then does it go on."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from training.errors import InvalidCheckpoint

_DECISIVE = ("arguments", "task", "split", "limit", "data", "backbone", "precision")
"""What of `run.json` decides the curve. Where the rows lie does not: `data` has their hashes."""
_LONGEST = 60


def check_same(path: Path, begun: Mapping[str, object], asked: Mapping[str, object]) -> None:
    """Compare a run's `run.json` with what is asked for now.

    Raises:
        InvalidCheckpoint: they differ; says where
    """
    found = [
        line for name in _DECISIVE for line in _differences(begun.get(name, asked.get(name)), asked.get(name), name)
    ]
    if found:
        raise InvalidCheckpoint(f"{path} cannot be gone on with, it is another run: {'; '.join(found)}")


def _differences(was: object, now: object, name: str) -> Iterator[str]:
    if name in ("task.data.train", "task.data.validation"):
        return
    if isinstance(was, dict) and isinstance(now, dict):
        for key in sorted(
            was.keys() & now.keys()
        ):  # a key that one of two versions of this program does not know is no change
            yield from _differences(was[key], now[key], f"{name}.{key}")
    elif was != now:
        yield f"{name} is {_short(now)} and was {_short(was)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
