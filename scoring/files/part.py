"""Parts of an input file: rows that are read, scored and saved together."""

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import pyarrow

from training.data.examples import cell_of
from training.errors import InvalidData

C = TypeVar("C")

PART_ROWS = 4_096
"""Rows of a part, at most: an interruption loses no more than one."""
PART_BYTES = 16 << 20
"""Size of a part, about: the next row begins another part."""


@dataclass(frozen=True, slots=True)
class InputRow:
    """A row that was read."""

    place: str
    """`line 7` or `row 3`, counted from 1."""
    values: Mapping[str, object]
    """By column."""

    def cell(self, column: str) -> object:
        """Return the value in a column; `idx.question` names a member of a column of objects.

        Raises:
            KeyError: the row has no such column
        """
        try:
            return cell_of(self.values, column, self.place)
        except InvalidData as exc:
            raise KeyError(column) from exc


@dataclass(frozen=True, slots=True)
class UnreadableRow:
    """A row that could not be read, so that the output does not have it."""

    place: str
    reason: str
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Part(Generic[C]):
    """Consecutive rows of a file."""

    number: int
    """From 0, in the order of the file."""
    rows: Sequence[InputRow]
    unreadable: Sequence[UnreadableRow]
    content: C
    """The rows as their format writes them again."""


@dataclass(frozen=True, slots=True)
class AddedColumn:
    """A column of answers."""

    name: str
    type: pyarrow.DataType
    """For Parquet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The size and the columns of a file, which reading it once has shown."""

    sha256: str
    num_rows: int
    """Rows, those that could not be read included."""
    columns: tuple[str, ...]
    text_columns: frozenset[str] | None = None
    """Columns that hold text, where the format says so; None if any may."""


class InputFile(Protocol[C]):
    """An input file, which is also the format of the output."""

    path: Path
    contents: Contents

    def parts(self, columns: Sequence[str], *, skip: Container[int] = ()) -> Iterator[Part[C]]:
        """Yield the parts of the file.

        Args:
            columns: columns that the rows shall have; they may have more
            skip: numbers of parts that are left out
        """
        ...

    def encode(self, part: Part[C], added: Sequence[AddedColumn], values: Sequence[Sequence[object]]) -> bytes:
        """Return a part's rows with more columns, for `join`.

        Args:
            part: a part of this file
            added: the columns
            values: of each column, for each row
        """
        ...

    def join(self, parts: Sequence[Path], added: Sequence[AddedColumn], out: Path) -> None:
        """Write the output file from the encoded parts, in order."""
        ...


_SURROGATE = re.compile("[\ud800-\udfff]")


def printable_text(text: str) -> str:
    r"""Return text in which each byte that was not UTF-8 is written as `\xe9`."""
    if not _SURROGATE.search(text):
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
