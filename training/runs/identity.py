"""Identity of a run: the settings that decide its result, and how those of two runs differ."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from training.errors import InvalidCheckpoint

_IDENTITY = ("arguments", "task", "split", "limit", "shots", "data", "backbone", "sources", "precision")
"""Keys of `run.json` that decide the curve."""
_DESCRIPTIVE = frozenset({"description"})
_PLACES = frozenset({"train", "validation", "directory", "hub", "revision", "corrections"})
"""Keys of a task's `data` that locate its rows. The checksums in a run's `data` identify the rows."""
_NAMES = frozenset(
    {
        "data.train_file",
        "data.validation_file",
        "data.corrections_file",
        "data.hub",
        "data.hub_config",
        "data.hub_revision",
    }
    | {"backbone.id", "backbone.revision"}
)
"""Names of rows and backbone; checksums and the fingerprint identify them."""
_WHOLE = frozenset({"task.data.columns", "task.data.label_values"})
"""Mappings with keys of the task's own: a key that only one side has is a difference."""
_ABSENT_IS_A_VALUE = frozenset(
    {"data.train_sha256", "data.validation_sha256", "data.corrections_sha256", "data.division", "data.limit"}
)
_LONGEST = 60


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting that decides a run and differs."""

    name: str
    was: object
    now: object


def identity_fields(task: Mapping[str, object]) -> dict[str, object]:
    """Return the part of a task file that decides the rows and metrics of a run, without the location of the rows.

    Args:
        task: a `TaskFile` as JSON
    """
    data = task.get("data")
    if isinstance(data, Mapping):
        data = {name: value for name, value in data.items() if name not in _PLACES}
    return {name: data if name == "data" else value for name, value in task.items() if name not in _DESCRIPTIVE}


def differences(was: object, now: object, name: str = "") -> Iterator[Difference]:
    """Yield the differences between two descriptions of a run or a sweep, both as JSON.

    A key of this program that only one side has is not a difference: another version wrote the other side.
    """
    if name in _NAMES:
        return
    if isinstance(was, Mapping) and isinstance(now, Mapping) and name not in _WHOLE:
        for key in sorted(was.keys() | now.keys()):
            inner = f"{name}.{key}" if name else key
            if (key in was and key in now) or inner in _ABSENT_IS_A_VALUE:
                yield from differences(was.get(key), now.get(key), inner)
    elif was != now:
        yield Difference(name, was, now)


def check_same(path: Path, begun: Mapping[str, object], asked: Mapping[str, object]) -> None:
    """Compare a run's `run.json` with the settings asked for now.

    Raises:
        InvalidCheckpoint: they differ; the message names the settings
    """
    found = [
        f"{each.name} is {_short(each.now)} and was {_short(each.was)}"
        for each in differences(_identity(begun), _identity(asked))
    ]
    if found:
        raise InvalidCheckpoint(
            f"cannot resume {path}: its settings differ: {'; '.join(found)}; "
            "expected those that began it, or another folder with --out and without --resume"
        )


def _identity(run: Mapping[str, object]) -> dict[str, object]:
    task = run.get("task")
    deciding = {name: run[name] for name in _IDENTITY if name in run}
    return deciding | ({"task": identity_fields(task)} if isinstance(task, Mapping) else {})


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
