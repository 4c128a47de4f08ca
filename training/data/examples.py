"""The labelled rows of a task's files. An invalid row is reported with its file, row and field."""

import ast
import hashlib
import json
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from adapters.errors import InvalidRow
from adapters.regular_files import open_regular
from training.data.formats import PlacedRow, Reading, class_names, raw_rows
from training.data.missing import is_missing
from training.errors import InvalidData
from training.task.grid import nearest, number_of
from training.task.task_file import LABEL_SEPARATOR, TaskFile


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled row, rendered."""

    text: str
    label: int | tuple[int, ...]
    """The index of the label in the task's order; in a multi-label task, those of all its labels, ascending."""
    group: str | None = None
    """The group that metrics judge as a whole, such as a question in MultiRC; None if the task has no groups."""
    fields: Mapping[str, str] = field(default_factory=dict, compare=False)
    """The text of each field of the template."""

    @property
    def labels(self) -> tuple[int, ...]:
        """The indices of the row's labels: one, or any number in a multi-label task."""
        return (self.label,) if isinstance(self.label, int) else self.label

    def named(self, names: Sequence[str]) -> str | list[str]:
        """Return the name of its label, or the sorted names of its labels in a multi-label task."""
        return names[self.label] if isinstance(self.label, int) else sorted(names[label] for label in self.label)


def text_key(text: str) -> str:
    """Return a text as rows are compared by: case, spacing and Unicode form are ignored."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


@dataclass(frozen=True, slots=True)
class RowFile:
    """The examples of a file and the file's SHA-256."""

    path: Path
    examples: tuple[Example, ...]
    sha256: str
    notes: tuple[str, ...] = ()
    """How the file was read, if not in the usual way of its type; one line per part."""


def read_examples(path: Path, task: TaskFile) -> RowFile:
    """Read every row of a file as an example of the task.

    Raises:
        InvalidData: the file cannot be read, or a row is invalid; names the row (counted from 1) and the field
    """
    task = with_class_names(task, path)
    notes: list[str] = []
    rows = task_rows(path, task, on_read=lambda reading: notes.extend([str(reading)] if reading.notes else []))
    examples = tuple(example_of(row, f"{path}: {where}", task) for where, row in rows)
    if not examples:
        raise InvalidData(f"{path}: no rows")
    return RowFile(path, examples, sum_of([path]), tuple(notes))


def task_rows(
    path: Path,
    task: TaskFile,
    *,
    on_fault: Callable[[InvalidData], None] | None = None,
    on_read: Callable[[Reading], None] = lambda reading: None,
) -> Iterator[PlacedRow]:
    """Yield a file's rows as the task file says that they are read; arguments and errors as `raw_rows`."""
    faults = {} if on_fault is None else {"on_fault": on_fault}
    return raw_rows(path, separator=task.data.separator, encoding=task.data.encoding, on_read=on_read, **faults)


def read_shards(paths: Sequence[Path], task: TaskFile) -> RowFile:
    """Read the parts of a file as one, under the path of the first; raises as `read_examples`."""
    files = [read_examples(path, task) for path in paths]
    examples = tuple(example for file in files for example in file.examples)
    notes = tuple(note for file in files for note in file.notes)
    return RowFile(files[0].path, examples, _sum_of_sums([file.sha256 for file in files]), notes)


def sum_of(paths: Sequence[Path]) -> str:
    """Return the SHA-256 of a file; for several parts, the SHA-256 of their sums, one per line."""
    sums = []
    for path in paths:
        with open_regular(path) as file:
            sums.append(hashlib.file_digest(file, "sha256").hexdigest())
    return _sum_of_sums(sums)


def _sum_of_sums(sums: Sequence[str]) -> str:
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(f"{each}\n" for each in sums).encode()).hexdigest()


def with_class_names(task: TaskFile, path: Path) -> TaskFile:
    """Add the label names that the file carries to a task without `label_values`, as far as they are its labels."""
    if task.data.label_values:
        return task
    names = class_names(path, task.data.label)
    values = {str(index): name for index, name in enumerate(names) if name in task.spec.label_names}
    return task.model_copy(update={"data": task.data.model_copy(update={"label_values": values})})


def example_of(row: Mapping[str, object], where: str, task: TaskFile) -> Example:
    """Return a row as an example; the message of `InvalidData` begins with `where`."""
    fields = {}
    for name in task.spec.fields:
        value = cell_of(row, task.data.columns.get(name, name), where)
        if not isinstance(value, str):
            raise InvalidData(f"{where}: field {name!r} is {value!r}, expected text")
        fields[name] = value
    cell = cell_of(row, task.data.label, where)
    label = label_indices(cell, where, task) if task.spec.is_multi_label else label_index(cell, task)
    if label is None:
        missing = " (the label is missing)" if is_missing(cell) else ""
        raise InvalidData(f"{where}: field {task.data.label!r} is {cell!r}, expected one of {_expected(task)}{missing}")
    try:
        return Example(task.spec.render(fields), label, _group_of(row, where, task), fields)
    except InvalidRow as exc:
        raise InvalidData(f"{where}: {exc}") from exc


def label_indices(cell: object, where: str, task: TaskFile) -> tuple[int, ...]:
    """Return the indices of the labels that a cell of a multi-label task names, ascending.

    Raises:
        InvalidData: the cell does not list labels, or one of them is not the task's
    """
    column = task.data.label
    items = label_items(cell, task)
    if items is None:
        kind = "a list of labels, [] for none" if is_missing(cell) else "a list of labels"
        raise InvalidData(f"{where}: field {column!r} is {cell!r}, expected {kind}")
    found = []
    for item in items:
        index = label_index(item, task)
        if index is None:
            raise InvalidData(f"{where}: field {column!r} has the label {item!r}, expected any of {_expected(task)}")
        found.append(index)
    return tuple(sorted(set(found)))


def label_items(cell: object, task: TaskFile) -> list[object] | None:
    """Return the labels that a cell of a multi-label task lists; None if it is not a list.

    Text is a list in JSON or Python, as other programs write it into CSV files, or labels with the task's separator
    between them; blank text lists no label.
    """
    if not isinstance(cell, str):
        return list(cell) if isinstance(cell, list) else None
    text = cell.strip()
    if text[:1] == "[" and text[-1:] == "]":
        for read in (json.loads, ast.literal_eval):
            with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
                listed = read(text)
                return list(listed) if isinstance(listed, list) else None
    # a name may contain the separator
    if not text or text in task.spec.label_names or text in task.data.label_values:
        return [text] if text else []
    return [part.strip() for part in text.split(task.data.label_separator or LABEL_SEPARATOR)]


def _expected(task: TaskFile) -> str:
    return ", ".join(task.data.label_values or task.spec.label_names)


def label_index(cell: object, task: TaskFile) -> int | None:
    """Return the index of the label that a cell names, or None.

    In an ordinal task, a number names the label with the same value, after rounding to `data.round_to` if that is set:
    T5's target for STS-B is round(5·s)/5 (Raffel et al. 2020, §2.4), which is `round_to: 0.2`.
    """
    names = task.spec.label_names
    if not isinstance(cell, str) and is_missing(cell):
        return None
    whole = [str(int(cell))] if isinstance(cell, float) and cell.is_integer() else []
    for written in (str(cell), *whole):  # integers become floats in a column with a missing value
        name = task.data.label_values.get(written, written)
        if name in names:
            return names.index(name)
    number = number_of(cell) if task.spec.kind == "ordinal" else None
    if number is None:
        return None
    if task.data.round_to is not None:
        number = nearest(number, task.data.round_to)
    return next((index for index, known in enumerate(names) if Decimal(known) == number), None)


def _group_of(row: Mapping[str, object], where: str, task: TaskFile) -> str | None:
    """Return the group of a row. A row without one is rejected, since all such rows would form one group."""
    if task.data.group is None:
        return None
    cell = cell_of(row, task.data.group, where)
    if is_missing(cell):
        raise InvalidData(f"{where}: field {task.data.group!r} is {cell!r}, expected the group of the row")
    return str(cell)


def cell_of(row: Mapping[str, object], column: str, where: str) -> object:
    """Return the value in a column; `idx.question` addresses a member of a column of objects."""
    if column in row:
        return row[column]
    outer, _, inner = column.partition(".")
    members = row.get(outer)
    if isinstance(members, dict) and inner in members:
        return members[inner]
    raise InvalidData(f"{where}: no field {column!r}, the row has {', '.join(map(repr, row))}")
