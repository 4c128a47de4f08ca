"""Reading of raw rows from Parquet, JSONL, CSV and TSV files, and of the label names in a Parquet file."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pyarrow
import pyarrow.parquet

from training.errors import InvalidData

PlacedRow = tuple[str, Mapping[str, object]]
"""`row 3` or `line 7`, and its values by column."""

SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".csv", ".tsv")


def _refuse(fault: InvalidData) -> None:
    raise fault


def raw_rows(path: Path, *, on_fault: Callable[[InvalidData], None] = _refuse) -> Iterator[PlacedRow]:
    """Yield each row with its place, to be named in errors.

    Args:
        on_fault: called for each row that cannot be read; the row is skipped. By default the error is raised

    Raises:
        InvalidData: the file cannot be read; names the row if a single row is at fault
    """
    if not path.is_file():
        raise InvalidData(f"{path}: no such file")
    match path.suffix.lower():
        case ".parquet":
            return _parquet_rows(path)
        case ".jsonl" | ".ndjson":
            return _jsonl_rows(path, on_fault)
        case ".csv":
            return _csv_rows(path, on_fault, delimiter=",")
        case ".tsv":
            return _csv_rows(path, on_fault, delimiter="\t")
        case suffix:
            raise InvalidData(f"{path}: file type {suffix!r}, expected .parquet, .jsonl, .csv or .tsv")


def _parquet_rows(path: Path) -> Iterator[PlacedRow]:
    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as exc:
        raise InvalidData(f"{path}: not a readable Parquet file: {str(exc).splitlines()[0]}") from exc
    for number, row in enumerate(_as_written(table).to_pylist(), start=1):
        yield f"row {number}", row


def _as_written(table: pyarrow.Table) -> pyarrow.Table:
    """Convert float32 columns to float64 by way of decimals: 3.1 stays 3.1 instead of becoming 3.0999999."""
    for index, column in enumerate(table.schema):
        if pyarrow.types.is_float32(column.type):
            decimals = table.column(index).cast(pyarrow.string())
            table = table.set_column(index, column.name, decimals.cast(pyarrow.float64()))
    return table


def _jsonl_rows(path: Path, on_fault: Callable[[InvalidData], None]) -> Iterator[PlacedRow]:
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode())
        except (ValueError, RecursionError) as exc:
            on_fault(InvalidData(f"{path}: line {number}: not JSON in UTF-8: {exc}"))
            continue
        if isinstance(row, dict):
            yield f"line {number}", row
        else:
            on_fault(InvalidData(f"{path}: line {number}: {type(row).__name__}, expected an object"))


def _csv_rows(path: Path, on_fault: Callable[[InvalidData], None], *, delimiter: str) -> Iterator[PlacedRow]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter, strict=True)
            columns = list(reader.fieldnames or ())
            if len(set(columns)) < len(columns):
                raise InvalidData(f"{path}: line 1: the header {columns} repeats a column")
            for row in reader:
                if None in row or None in row.values():
                    wrong = f"expected {len(columns)} columns, as in the header"
                    on_fault(InvalidData(f"{path}: line {reader.line_num}: {wrong}"))
                else:
                    yield f"line {reader.line_num}", row
    except (csv.Error, UnicodeDecodeError) as exc:
        raise InvalidData(f"{path}: not CSV in UTF-8: {exc}") from exc


def class_names(path: Path, column: str) -> tuple[str, ...]:
    """Return the label names that `datasets` stored in a Parquet file for a column of integers, or none.

    Raises:
        InvalidData: the Parquet file cannot be read
    """
    if path.suffix.lower() != ".parquet" or not path.is_file():
        return ()
    try:
        metadata = pyarrow.parquet.read_schema(path).metadata or {}
    except (pyarrow.ArrowException, OSError) as exc:
        raise InvalidData(f"{path}: not a readable Parquet file: {str(exc).splitlines()[0]}") from exc
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError):
        return ()
    return tuple(map(str, names)) if isinstance(names, list) else ()
