"""Reading of raw rows from Parquet, JSONL, CSV and TSV files, and of the label names in a Parquet file."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import pyarrow
import pyarrow.parquet

from adapters.regular_files import NotRegular, open_regular, read_regular
from training.data.decoding import decoded, place_of_escaped
from training.data.delimited import BadRecord, Table, detected_separator
from training.errors import InvalidData

PlacedRow = tuple[str, Mapping[str, object]]
"""`row 3` or `line 7`, and its values by column."""

UTF_8 = ("utf-8", "utf-8-sig")
SUFFIXES = (".parquet", ".jsonl", ".ndjson", ".csv", ".tsv")
MAX_FILE_BYTES = 8 << 30
"""Size limit of a text file, which is read into memory."""
USUAL_SEPARATORS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True, slots=True)
class Reading:
    """How a text file was read, as far as its bytes had to say it."""

    path: Path
    encoding: str
    separator: str | None = None
    """The separator, if it is not the usual one of the file's type."""
    is_guess: bool = False
    """Whether the encoding is a guess."""
    num_blank: int = 0
    """Blank lines that were skipped."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the author on everything but a UTF-8 file with its usual separator and without blank lines."""
        notes = []
        if self.separator is not None:
            notes.append(f"separator {self.separator!r}")
        if self.encoding not in UTF_8:
            guessed = " (a guess: set data.encoding if characters look wrong)" if self.is_guess else ""
            notes.append(f"encoding {self.encoding}{guessed}")
        if self.num_blank:
            notes.append(f"{self.num_blank} blank line{'s' * (self.num_blank > 1)} skipped")
        return tuple(notes)

    def __str__(self) -> str:
        return f"{self.path.name}: read with {', '.join(self.notes)}" if self.notes else ""


def _refuse(fault: InvalidData) -> None:
    raise fault


def _ignore(reading: Reading) -> None:
    """Take no note of how a file was read."""


def raw_rows(
    path: Path,
    *,
    separator: str | None = None,
    encoding: str | None = None,
    on_fault: Callable[[InvalidData], None] = _refuse,
    on_read: Callable[[Reading], None] = _ignore,
) -> Iterator[PlacedRow]:
    """Yield each row with its place, to be named in errors.

    Args:
        separator: the character between the cells of CSV and TSV files; detected if omitted
        encoding: the encoding of text files; that of the byte-order mark if omitted, else UTF-8, or detected
        on_fault: called for each row that cannot be read; the row is skipped. By default the error is raised
        on_read: called after the last row of a text file

    Raises:
        InvalidData: the file cannot be read; names the row if a single row is at fault
    """
    if not path.is_file():
        raise InvalidData(f"{path}: no such file")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InvalidData(f"{path}: file type {path.suffix!r}, expected .parquet, .jsonl, .csv or .tsv")
    if separator is not None and suffix not in USUAL_SEPARATORS:
        raise InvalidData(f"{path}: data.separator is {separator!r}, but only CSV and TSV files have one; omit it")
    if suffix != ".parquet":
        if suffix in USUAL_SEPARATORS:
            return _delimited_rows(path, (separator, encoding), on_fault, on_read)
        return _jsonl_rows(path, encoding, on_fault, on_read)
    if encoding is not None:
        raise InvalidData(f"{path}: data.encoding is {encoding!r}, but a Parquet file has none to choose; omit it")
    return _parquet_rows(path)


def _parquet_rows(path: Path) -> Iterator[PlacedRow]:
    try:
        with _opened(path) as file:
            table = pyarrow.parquet.read_table(file)
    except (pyarrow.ArrowException, OSError) as exc:
        raise InvalidData(f"{path}: not a readable Parquet file: {str(exc).splitlines()[0]}") from exc
    if len(set(table.column_names)) < len(table.column_names):
        raise InvalidData(f"{path}: the columns {table.column_names} repeat a name")
    for number, row in enumerate(_as_written(table).to_pylist(), start=1):
        yield f"row {number}", row


def _as_written(table: pyarrow.Table) -> pyarrow.Table:
    """Convert float32 columns to float64 by way of decimals: 3.1 stays 3.1 instead of becoming 3.0999999."""
    for index, column in enumerate(table.schema):
        if pyarrow.types.is_float32(column.type):
            decimals = table.column(index).cast(pyarrow.string())
            table = table.set_column(index, column.name, decimals.cast(pyarrow.float64()))
    return table


def _jsonl_rows(
    path: Path,
    encoding: str | None,
    on_fault: Callable[[InvalidData], None],
    on_read: Callable[[Reading], None],
) -> Iterator[PlacedRow]:
    found = decoded(_contents(path), path, encoding=encoding, is_utf8=True)
    blank = 0
    for number, line in enumerate(_LINE_END.split(found.text), start=1):
        if not line.strip():
            blank += 1
            continue
        try:
            yield f"line {number}", json_object(line)
        except ValueError as exc:
            on_fault(InvalidData(f"{path}: line {number}{exc}"))
    blank -= not line.strip()  # what follows the last line end is not a line
    on_read(Reading(path, found.encoding, is_guess=found.is_guess, num_blank=blank))


def _contents(path: Path) -> bytes:
    """Read a file of rows (`InvalidData` for a link, a device and the like, or a file that is too large)."""
    with _refusing(path):
        return read_regular(path, max_bytes=MAX_FILE_BYTES)


def _opened(path: Path) -> BufferedReader:
    """Open a file of rows (`InvalidData` for a link, a device and the like)."""
    with _refusing(path):
        return open_regular(path)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except NotRegular as exc:
        raise InvalidData(f"{path}: {exc.strerror}") from exc


_LINE_END = re.compile("\r\n|\n|\r")


def json_object(line: str) -> dict[str, object]:
    """Parse one line of a JSONL file; the message of `ValueError` continues `line 3`."""
    if (escaped := place_of_escaped(line)) is not None:
        raise ValueError(f", {escaped} is not UTF-8; correct it, or set data.encoding in the task file")
    try:
        row = json.loads(line, object_pairs_hook=_without_repeats)
    except json.JSONDecodeError as exc:
        raise ValueError(f", column {exc.colno}: not JSON: {exc.msg}") from exc
    except _RepeatedKey as exc:
        raise ValueError(f": key {exc} is repeated") from exc
    except (ValueError, RecursionError) as exc:
        raise ValueError(f": not JSON that can be read: {exc}") from exc
    if not isinstance(row, dict):
        raise ValueError(f": {type(row).__name__}, expected an object")
    return row


class _RepeatedKey(ValueError):
    """An object that has a key twice."""


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise _RepeatedKey(repr(next(name for name in names if names.count(name) > 1)))
    return row


def _delimited_rows(
    path: Path,
    options: tuple[str | None, str | None],
    on_fault: Callable[[InvalidData], None],
    on_read: Callable[[Reading], None],
) -> Iterator[PlacedRow]:
    separator, encoding = options
    usual = USUAL_SEPARATORS[path.suffix.lower()]
    found = decoded(_contents(path), path, encoding=encoding)
    separator = separator or detected_separator(found.text, usual=usual)
    try:
        table = Table(found.text, separator)
    except ValueError as exc:
        raise InvalidData(f"{path}: {exc}") from exc
    columns = table.header
    if len(set(columns)) < len(columns):
        raise InvalidData(f"{path}: line {table.header_line}: the header {columns} repeats a column")
    for record in table.records():
        if isinstance(record, BadRecord):
            on_fault(InvalidData(f"{path}: {record.where}: {record.reason}"))
        else:
            yield f"line {record.line}", dict(zip(columns, record.cells, strict=True))
    unusual = None if separator == usual else separator
    on_read(Reading(path, found.encoding, separator=unusual, is_guess=found.is_guess, num_blank=table.num_blank))


def class_names(path: Path, column: str) -> tuple[str, ...]:
    """Return the label names that `datasets` stored in a Parquet file for a column of integers, or of lists of them.

    Raises:
        InvalidData: the Parquet file cannot be read
    """
    if path.suffix.lower() != ".parquet" or not path.is_file():
        return ()
    try:
        with _opened(path) as file:
            metadata = pyarrow.parquet.read_schema(file).metadata or {}
    except (pyarrow.ArrowException, OSError) as exc:
        raise InvalidData(f"{path}: not a readable Parquet file: {str(exc).splitlines()[0]}") from exc
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][column]
        # a column of lists: the feature of its elements
        feature = feature[0] if isinstance(feature, list) else feature.get("feature", feature)
        names = feature["names"]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        return ()
    return tuple(map(str, names)) if isinstance(names, list) else ()
