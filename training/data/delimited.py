"""Records of CSV and TSV text: the separator, the quotes, and the line of each record."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

SEPARATORS = (",", ";", "\t", "|")
"""The separators that are detected; a task file may name any other character."""
_SAMPLED_RECORDS = 200
_QUOTED = re.compile(r'"((?:[^"]|"")*+)"')
_OPEN = "the quote that opens here is not closed"
_MAX_RECORD = 1 << 24
"""Characters after which a quote counts as not closed, where a text is read in blocks."""

Source = Callable[[], Iterator[str]]
"""Opens a text at its start, as blocks that are not empty."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record, and the number of its first line, counted from 1."""

    line: int
    cells: list[str]
    text: str
    """As it is written, without its line end."""


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that cannot be read."""

    where: str
    """`line 3` or `line 3, column 7`."""
    reason: str
    text: str
    """Its first line."""


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

    def __init__(self, text: str | Source, separator: str, *, by_line: bool | None = None) -> None:
        """Read the header.

        Args:
            text: the text, or what opens it block by block, in which case no more than a block and a record of it are
                in memory
            separator: between cells
            by_line: whether to read the records line by line; None to decide it, which may read the whole text
        """
        self._source = text if callable(text) else _one_block(text)
        self._blocks, self._separator = self._source(), separator
        self._by_line = separator == "\t"
        self._text, self._at, self._line = "", 0, 1
        self._end = self._line_end()
        self._plain = re.compile(f"[^{re.escape(separator + self._end)}]*")
        self.num_blank = 0
        """Blank lines so far."""
        first = self._next(None)
        if isinstance(first, BadRecord):
            raise ValueError(f"{first.where}: {first.reason}")
        self.header = [] if first is None else first.cells
        self.header_line = 1 if first is None else first.line
        self.header_text = "" if first is None else first.text
        if by_line is not None:
            self._by_line = by_line
        elif self._by_line and any('"' in block for block in self._source()):
            self._by_line = not self._is_csv()

    @property
    def is_by_line(self) -> bool:
        """Whether the text is read line by line."""
        return self._by_line

    def records(self) -> Iterator[Record | BadRecord]:
        """Yield the records after the header."""
        while (found := self._next(len(self.header))) is not None:
            yield found

    def _line_end(self) -> str:
        """Return the character that ends a line: a carriage return only in a text without line feeds."""
        while "\n" not in self._text and len(self._text) < _MAX_RECORD and self._more():
            pass
        return "\r" if "\n" not in self._text and "\r" in self._text else "\n"

    def _more(self) -> bool:
        """Append the next block and drop the records that were read; return False at the end of the text."""
        block = next(self._blocks, "")
        if block:
            self._text = self._text[self._at :] + block
            self._at = 0
        return bool(block)

    def _next_line(self) -> str | None:
        """Return the line at the current position, a carriage return at its end included; None after the last."""
        while self._at < len(self._text) or self._more():
            found = self._text.find(self._end, self._at)
            if found >= 0 or not self._more():
                return self._text[self._at : len(self._text) if found < 0 else found]
        return None

    def _next(self, width: int | None) -> Record | BadRecord | None:
        while (line := self._next_line()) is not None:
            if line.strip() or self._separator in line:
                return self._record(line, width)
            self.num_blank += 1
            self._advance(len(line))
        return None

    def _record(self, whole_line: str, width: int | None) -> Record | BadRecord:
        line, length = whole_line.removesuffix("\r"), len(whole_line)
        number, cells = self._line, line.split(self._separator)
        if '"' in line:
            read = self._tab_separated(line, cells, length, width) if self._by_line else self._quoted()
            if isinstance(read, BadRecord):
                self._advance(length)
                return BadRecord(read.where, read.reason, line)
            cells, length = read
        text = self._text[self._at : self._at + length].removesuffix("\r")
        self._advance(length)
        if width is not None and len(cells) != width:
            columns = f"{len(cells)} column{'s' * (len(cells) != 1)}"
            return BadRecord(f"line {number}", f"{columns}, expected {width} as in the header", text)
        return Record(number, cells, text)

    def _advance(self, length: int) -> None:
        """Move past the line end after this many characters."""
        end = self._at + length
        self._line += self._text.count(self._end, self._at, end + 1)
        self._at = end + 1

    def _is_csv(self) -> bool:
        """Whether the rest is CSV by all rules, and some line of it is not a record by itself."""
        quoted = Table(self._source, self._separator, by_line=False)
        if not all(isinstance(each, Record) for each in quoted.records()):
            return False
        lines = Table(self._source, self._separator, by_line=True)
        width = len(self.header)
        while (line := lines._next_line()) is not None:
            lines._at += len(line) + 1
            line = line.removesuffix("\r")
            if line.strip(" \r") and width not in (line.count("\t") + 1, len(self._paired(line))):
                return True
        return False

    def _tab_separated(self, line: str, literal: list[str], length: int, width: int | None) -> tuple[list[str], int]:
        """Return the cells and the length, up to the line end, of the reading that has the header's columns."""
        paired = self._paired(line)
        for cells in (paired, literal):
            if width in (None, len(cells)):
                return cells, length
        read = self._quoted()
        return read if not isinstance(read, BadRecord) and len(read[0]) == width else (literal, length)

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
        """Read the record here with its quotes; returns the cells and the length up to the line end."""
        while True:
            read = self._quoted_in_block()
            left = len(self._text) - self._at
            is_whole = read.reason != _OPEN if isinstance(read, BadRecord) else read[1] < left
            if is_whole or left > _MAX_RECORD or not self._more():
                return read

    def _quoted_in_block(self) -> tuple[list[str], int] | BadRecord:
        text, at = self._text, self._at
        cells: list[str] = []
        while True:
            is_quoted = text.startswith('"', at)
            cell = (_QUOTED if is_quoted else self._plain).match(text, at)
            if cell is None:
                return BadRecord(self._place(at), _OPEN, "")
            cells.append(_unquoted(cell[1]) if is_quoted else cell[0])
            at = cell.end()
            if text.startswith(self._separator, at):
                at += 1
                continue
            end = at + (self._end == "\n" and text.startswith("\r", at))
            if end < len(text) and text[end] != self._end:
                return BadRecord(self._place(at), "text after a closing quote; inside quotes, write a quote twice", "")
            if not is_quoted:
                cells[-1] = cells[-1].removesuffix("\r")
            return cells, end - self._at

    def _place(self, at: int) -> str:
        line = self._line + self._text.count(self._end, self._at, at)
        return f"line {line}, column {at - self._text.rfind(self._end, 0, at)}"


def _one_block(text: str) -> Source:
    return lambda: iter((text,) if text else ())


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
