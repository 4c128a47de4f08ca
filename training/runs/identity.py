"""What makes a run this one and no other: what of its task file decides it, and how two that were asked for differ."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from training.errors import InvalidCheckpoint

_DECISIVE = ("arguments", "task", "split", "limit", "data", "backbone", "precision")
"""What of `run.json` decides the curve."""
_TOLD = frozenset({"description"})
_PLACES = frozenset({"train", "validation", "directory", "hub", "revision"})
"""Where a task's rows lie, by its `data`. Their sums, in a run's own `data`, say which they are."""
_NAMES = frozenset(
    {"data.train_file", "data.validation_file", "data.hub", "data.hub_config", "data.hub_revision"}
    | {"backbone.id", "backbone.revision"}
)
"""What rows and backbone are called; their sums and fingerprint say which they are."""
_WHOLE = frozenset({"task.data.columns", "task.data.label_values"})
"""Mappings whose keys are the task's: one that only one side has is a change."""
_ABSENT_IS_A_VALUE = frozenset({"data.train_sha256", "data.validation_sha256"})
_LONGEST = 60


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that decides a run and was asked for otherwise."""

    name: str
    was: object
    now: object


def identity_fields(task: Mapping[str, object]) -> dict[str, object]:
    """What of a task file decides which rows a run sees and what its figures mean, not where those rows lie.

    Args:
        task: a `TaskFile` as JSON
    """
    data = task.get("data")
    read = {name: value for name, value in data.items() if name not in _PLACES} if isinstance(data, Mapping) else data
    return {name: read if name == "data" else value for name, value in task.items() if name not in _TOLD}


def differences(was: object, now: object, name: str = "") -> Iterator[Difference]:
    """Where two descriptions of a run or a sweep differ, both as JSON.

    A key of this program's own that one of the two lacks is no difference: another version of it wrote that one.
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
    """Compare a run's `run.json` with what is asked for now.

    Raises:
        InvalidCheckpoint: they differ; says where
    """
    found = [
        f"{each.name} is {_short(each.now)} and was {_short(each.was)}"
        for each in differences(_deciding(begun), _deciding(asked))
    ]
    if found:
        raise InvalidCheckpoint(f"{path} cannot be gone on with, it is another run: {'; '.join(found)}")


def _deciding(run: Mapping[str, object]) -> dict[str, object]:
    task = run.get("task")
    deciding = {name: run[name] for name in _DECISIVE if name in run}
    return deciding | ({"task": identity_fields(task)} if isinstance(task, Mapping) else {})


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
