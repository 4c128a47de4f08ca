"""A task's files read to their ends: the rows that are examples, and every one that is none, with the reason."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from training.errors import InvalidData
from training.rows.data import Example, cell_of, example_of, with_class_names
from training.rows.formats import raw_rows
from training.rows.labels import label_index
from training.task_file import TaskFile


@dataclass(frozen=True, slots=True)
class PlacedExample:
    """An example, and where it stands: `train.csv: line 7`."""

    place: str
    example: Example
    key: str
    """What its text is the same by: case, spaces and the form of a letter are no difference."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """The rows of one role."""

    role: str
    """`train` or `validation`."""
    examples: tuple[PlacedExample, ...]
    unknown_labels: tuple[tuple[str, str], ...]
    """Places, and what stands there for a label."""
    faults: tuple[str, ...]
    """Rows that are no examples for another reason, and files that cannot be read; each begins with its place."""


def read_sheet(role: str, paths: Sequence[Path], task: TaskFile) -> Sheet:
    """Read a role's files; nothing in them raises."""
    examples: list[PlacedExample] = []
    unknown: list[tuple[str, str]] = []
    faults: list[str] = []
    for path in paths:
        try:
            of_file = with_class_names(task, path)
            for where, row in raw_rows(path, on_fault=partial(_keep, faults, path)):
                place = f"{path.name}: {where}"
                try:
                    example = example_of(row, place, of_file)
                    examples.append(PlacedExample(place, example, _normalised(example.text)))
                except InvalidData as exc:
                    if task.data.label in row and label_index(row[task.data.label], of_file) is None:
                        unknown.append((place, str(cell_of(row, task.data.label, place))))
                    else:
                        faults.append(str(exc))
        except InvalidData as exc:
            _keep(faults, path, exc)
    return Sheet(role, tuple(examples), tuple(unknown), tuple(faults))


def _normalised(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _keep(faults: list[str], path: Path, fault: InvalidData) -> None:
    """Note a fault under its file's name, as the rows are."""
    faults.append(f"{path.name}{str(fault).removeprefix(str(path))}")
