"""Labelled rows out of Parquet, JSONL, CSV or TSV files. A bad row is refused with file, row and field."""

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow
import pyarrow.parquet

from adapters.errors import InvalidRow
from training.errors import InvalidData
from training.labels import label_index
from training.task_file import TaskFile


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
    if not path.is_file():
        raise InvalidData(f"{path}: no such file")
    examples = tuple(_example(row, f"{path}: {where}", task) for where, row in _rows(path))
    if not examples:
        raise InvalidData(f"{path}: no rows")
    with path.open("rb") as file:
        return RowFile(path, examples, hashlib.file_digest(file, "sha256").hexdigest())


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Each row with the place to name in an error."""
    match path.suffix.lower():
        case ".parquet":
            return _parquet_rows(path)
        case ".jsonl" | ".ndjson":
            return _jsonl_rows(path)
        case ".csv":
            return _csv_rows(path, delimiter=",")
        case ".tsv":
            return _csv_rows(path, delimiter="\t")
        case suffix:
            raise InvalidData(f"{path}: file type {suffix!r}, expected .parquet, .jsonl, .csv or .tsv")


def _parquet_rows(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as exc:
        raise InvalidData(f"{path}: not a readable Parquet file: {str(exc).splitlines()[0]}") from exc
    for number, row in enumerate(table.to_pylist(), start=1):
        yield f"row {number}", row


def _jsonl_rows(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode())
        except (ValueError, RecursionError) as exc:
            raise InvalidData(f"{path}: line {number}: not JSON in UTF-8: {exc}") from exc
        if not isinstance(row, dict):
            raise InvalidData(f"{path}: line {number}: {type(row).__name__}, expected an object")
        yield f"line {number}", row


def _csv_rows(path: Path, *, delimiter: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter, strict=True)
            columns = list(reader.fieldnames or ())
            if len(set(columns)) < len(columns):
                raise InvalidData(f"{path}: line 1: a column stands twice in the header {columns}")
            for row in reader:
                if None in row or None in row.values():
                    raise InvalidData(f"{path}: line {reader.line_num}: not {len(columns)} columns as the header has")
                yield f"line {reader.line_num}", row
    except (csv.Error, UnicodeDecodeError) as exc:
        raise InvalidData(f"{path}: not CSV in UTF-8: {exc}") from exc


def _example(row: Mapping[str, object], where: str, task: TaskFile) -> Example:
    fields = {}
    for name in task.spec.fields:
        value = _cell(row, task.data.columns.get(name, name), where)
        if not isinstance(value, str):
            raise InvalidData(f"{where}: field {name!r} is {value!r}, expected text")
        fields[name] = value
    cell = _cell(row, task.data.label, where)
    label = label_index(cell, task)
    if label is None:
        expected = ", ".join(task.data.label_values or task.spec.label_names)
        raise InvalidData(f"{where}: field {task.data.label!r} is {cell!r}, expected one of {expected}")
    group = None if task.data.group is None else str(_cell(row, task.data.group, where))
    try:
        return Example(task.spec.render(fields), label, group, fields)
    except InvalidRow as exc:
        raise InvalidData(f"{where}: {exc}") from exc


def _cell(row: Mapping[str, object], column: str, where: str) -> object:
    """What stands in a column; `idx.question` is the member of a column that holds objects."""
    if column in row:
        return row[column]
    outer, _, inner = column.partition(".")
    members = row.get(outer)
    if isinstance(members, dict) and inner in members:
        return members[inner]
    raise InvalidData(f"{where}: no field {column!r}, the row has {', '.join(map(repr, row))}")
