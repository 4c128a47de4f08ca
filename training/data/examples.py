"""Labelled rows of a task's files. A bad row is refused with file, row and field."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from adapters.errors import InvalidRow
from training.data.formats import class_names, raw_rows
from training.errors import InvalidData
from training.task.grid import nearest, number_of
from training.task.task_file import TaskFile


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled row, rendered."""

    text: str
    label: int
    """The index of its label in the task's order."""
    group: str | None = None
    """What its metric keeps together, the question of MultiRC's answers; None where the task has no groups."""
    fields: Mapping[str, str] = field(default_factory=dict, compare=False)
    """The text of each of the template's fields."""


@dataclass(frozen=True, slots=True)
class RowFile:
    """The examples of one file and the file's sha256."""

    path: Path
    examples: tuple[Example, ...]
    sha256: str


def read_examples(path: Path, task: TaskFile) -> RowFile:
    """Every row of a file as an example of the task.

    Raises:
        InvalidData: the file cannot be read, or a row does not fit; says which row (1 is the first) and field
    """
    task = with_class_names(task, path)
    examples = tuple(example_of(row, f"{path}: {where}", task) for where, row in raw_rows(path))
    if not examples:
        raise InvalidData(f"{path}: no rows")
    return RowFile(path, examples, sum_of([path]))


def read_shards(paths: Sequence[Path], task: TaskFile) -> RowFile:
    """The rows of files that are parts of one, under the first one's path; raises as `read_examples`."""
    files = [read_examples(path, task) for path in paths]
    examples = tuple(example for file in files for example in file.examples)
    return RowFile(files[0].path, examples, _sum_of_sums([file.sha256 for file in files]))


def sum_of(paths: Sequence[Path]) -> str:
    """The sha256 of a file; of several that are parts of one, that of their sha256 sums, a line each."""
    sums = []
    for path in paths:
        with path.open("rb") as file:
            sums.append(hashlib.file_digest(file, "sha256").hexdigest())
    return _sum_of_sums(sums)


def _sum_of_sums(sums: Sequence[str]) -> str:
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(f"{each}\n" for each in sums).encode()).hexdigest()


def with_class_names(task: TaskFile, path: Path) -> TaskFile:
    """The task; where it has no `label_values`, with the file's own label names, as far as they are its labels."""
    if task.data.label_values:
        return task
    names = class_names(path, task.data.label)
    values = {str(index): name for index, name in enumerate(names) if name in task.spec.label_names}
    return task.model_copy(update={"data": task.data.model_copy(update={"label_values": values})})


def example_of(row: Mapping[str, object], where: str, task: TaskFile) -> Example:
    """A row as an example; `InvalidData` begins with where it stands."""
    fields = {}
    for name in task.spec.fields:
        value = cell_of(row, task.data.columns.get(name, name), where)
        if not isinstance(value, str):
            raise InvalidData(f"{where}: field {name!r} is {value!r}, expected text")
        fields[name] = value
    cell = cell_of(row, task.data.label, where)
    label = label_index(cell, task)
    if label is None:
        expected = ", ".join(task.data.label_values or task.spec.label_names)
        raise InvalidData(f"{where}: field {task.data.label!r} is {cell!r}, expected one of {expected}")
    try:
        return Example(task.spec.render(fields), label, _group_of(row, where, task), fields)
    except InvalidRow as exc:
        raise InvalidData(f"{where}: {exc}") from exc


def label_index(cell: object, task: TaskFile) -> int | None:
    """The index of the label that a cell names; None where it names none.

    In an ordinal task a number is the label of the same value, after `data.round_to` where that is given: T5's
    STS-B target is round(5·s)/5 (Raffel et al. 2020, §2.4), which is `round_to: 0.2`.
    """
    names = task.spec.label_names
    name = task.data.label_values.get(str(cell), str(cell))
    if name in names:
        return names.index(name)
    number = number_of(cell) if task.spec.kind == "ordinal" else None
    if number is None:
        return None
    if task.data.round_to is not None:
        number = nearest(number, task.data.round_to)
    return next((index for index, known in enumerate(names) if Decimal(known) == number), None)


def _group_of(row: Mapping[str, object], where: str, task: TaskFile) -> str | None:
    """What a row is judged with. Rows without one would all be of one group, and are refused."""
    if task.data.group is None:
        return None
    cell = cell_of(row, task.data.group, where)
    if cell is None or (isinstance(cell, float) and math.isnan(cell)) or not str(cell).strip():
        raise InvalidData(f"{where}: field {task.data.group!r} is {cell!r}, expected what the row is judged with")
    return str(cell)


def cell_of(row: Mapping[str, object], column: str, where: str) -> object:
    """What stands in a column; `idx.question` is the member of a column that holds objects."""
    if column in row:
        return row[column]
    outer, _, inner = column.partition(".")
    members = row.get(outer)
    if isinstance(members, dict) and inner in members:
        return members[inner]
    raise InvalidData(f"{where}: no field {column!r}, the row has {', '.join(map(repr, row))}")
