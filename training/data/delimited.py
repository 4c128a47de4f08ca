"""Records of CSV and TSV text: the separator, the quotes, and the line of each record."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

SEPARATORS = (",", ";", "\t", "|")
"""The separators that are detected; a task file may name any other character."""
_SAMPLED_RECORDS = 200
_QUOTED = re.compile(r'"((?:[^"]|"")*+)"')


@dataclass(frozen=True, slots=True)
class Record:
    """One record, and the number of its first line, counted from 1."""

    line: int
    cells: list[str]


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that cannot be read."""

    where: str
    """`line 3` or `line 3, column 7`."""
    reason: str


class Table:
    """The header and the records of a text. Blank lines are skipped and counted.

    A cell that begins with a quote ends at its closing quote, as in RFC 4180. Where tabs separate, most writers do not
    quote, so a quote is an ordinary character unless it pairs. A text whose every line has the header's columns, or
    that cannot be read by the rules of CSV, is read line by line: those cells are unquoted whose quotes close in the
    line, unless only the literal line has the header's columns; a cell extends over several lines only if neither
    has them.

    Raises:
        ValueError: the header cannot be read
    """

    def __init__(self, text: str, separator: str) -> None:
        self._text, self._separator = text, separator
        self._by_line = separator == "\t"
        self._end = "\n" if "\n" in text else "\r"
        self._plain = re.compile(f"[^{re.escape(separator + self._end)}]*")
        self._at, self._line = 0, 1
        self.num_blank = 0
        """Blank lines so far."""
        first = self._next(None)
        if isinstance(first, BadRecord):
            raise ValueError(f"{first.where}: {first.reason}")
        self.header = [] if first is None else first.cells
        self.header_line = 1 if first is None else first.line
        if self._by_line and '"' in text:
            self._by_line = not self._is_csv()

    def records(self) -> Iterator[Record | BadRecord]:
        """Yield the records after the header."""
        while (found := self._next(len(self.header))) is not None:
            yield found

    def _next(self, width: int | None) -> Record | BadRecord | None:
        while self._at < len(self._text):
            found = self._text.find(self._end, self._at)
            end = len(self._text) if found < 0 else found
            line = self._text[self._at : end].removesuffix("\r")
            if line.strip() or self._separator in line:
                return self._record(line, end, width)
            self.num_blank += 1
            self._advance(end)
        return None

    def _record(self, line: str, end: int, width: int | None) -> Record | BadRecord:
        number, cells = self._line, line.split(self._separator)
        if '"' in line:
            read = self._tab_separated(line, cells, end, width) if self._by_line else self._quoted()
            if isinstance(read, BadRecord):
                self._advance(end)
                return read
            cells, end = read
        self._advance(end)
        if width is not None and len(cells) != width:
            columns = f"{len(cells)} column{'s' * (len(cells) != 1)}"
            return BadRecord(f"line {number}", f"{columns}, expected {width} as in the header")
        return Record(number, cells)

    def _advance(self, end: int) -> None:
        """Move past the line end at this position."""
        self._line += self._text.count(self._end, self._at, end + 1)
        self._at = end + 1

    def _is_csv(self) -> bool:
        """Whether the rest is CSV by all rules, and some line of it is not a record by itself."""
        start = self._at, self._line, self.num_blank
        self._by_line = False
        is_csv = all(isinstance(each, Record) for each in self.records())
        self._at, self._line, self.num_blank = start
        lines = (line.removesuffix("\r") for line in self._text[self._at :].split(self._end) if line.strip(" \r"))
        width = len(self.header)
        return is_csv and not all(width in (line.count("\t") + 1, len(self._paired(line))) for line in lines)

    def _tab_separated(self, line: str, literal: list[str], line_end: int, width: int | None) -> tuple[list[str], int]:
        """Return the cells and the position of the line end, of the reading that has the header's columns."""
        paired = self._paired(line)
        for cells in (paired, literal):
            if width in (None, len(cells)):
                return cells, line_end
        read = self._quoted()
        return read if not isinstance(read, BadRecord) and len(read[0]) == width else (literal, line_end)

    def _paired(self, line: str) -> list[str]:
        """Return a line's cells, those unquoted whose quotes close in the line."""
        cells, at = [], 0
        while at <= len(line):
            quoted = _QUOTED.match(line, at)
            if quoted is not None and line[quoted.end() : quoted.end() + 1] in ("", self._separator):
                cells.append(_unquoted(quoted[1]))
                at = quoted.end() + 1
            else:
                end = line.find(self._separator, at)
                end = len(line) if end < 0 else end
                cells.append(line[at:end])
                at = end + 1
        return cells

    def _quoted(self) -> tuple[list[str], int] | BadRecord:
        """Read the record here with its quotes; returns the cells and the position of the line end."""
        text, at = self._text, self._at
        cells: list[str] = []
        while True:
            is_quoted = text.startswith('"', at)
            cell = (_QUOTED if is_quoted else self._plain).match(text, at)
            if cell is None:
                return BadRecord(self._place(at), "the quote that opens here is not closed")
            cells.append(_unquoted(cell[1]) if is_quoted else cell[0])
            at = cell.end()
            if text.startswith(self._separator, at):
                at += 1
                continue
            end = at + (self._end == "\n" and text.startswith("\r", at))
            if end < len(text) and text[end] != self._end:
                return BadRecord(self._place(at), "text after a closing quote; inside quotes, write a quote twice")
            if not is_quoted:
                cells[-1] = cells[-1].removesuffix("\r")
            return cells, end

    def _place(self, at: int) -> str:
        line = self._line + self._text.count(self._end, self._at, at)
        return f"line {line}, column {at - self._text.rfind(self._end, 0, at)}"


def _unquoted(cell: str) -> str:
    return cell.replace('""', '"')


def detected_separator(text: str, *, usual: str) -> str:
    """Return the separator under which most of the first records have as many columns as the header, at least two.

    The format's usual separator wins a tie, and a file of a single column.
    """

    def fit(separator: str) -> tuple[float, bool, int]:
        try:
            table = Table(text, separator)
        except ValueError:
            return 0, separator == usual, 0
        if len(table.header) < 2:
            return -1, separator == usual, 0
        sampled = list(islice(table.records(), _SAMPLED_RECORDS))
        fitting = sum(isinstance(each, Record) for each in sampled)
        return fitting / max(1, len(sampled)), separator == usual, len(table.header)

    return max((usual, *SEPARATORS), key=fit)
