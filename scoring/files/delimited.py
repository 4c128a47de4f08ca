"""CSV and TSV: records keep their quotes, and get more cells."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from scoring.errors import InvalidInput
from scoring.files.part import InputRow, UnreadableRow, printable_text
from scoring.files.text import OpenedText, TextFile, undecodable
from training.data.delimited import BadRecord, Table, detected_separator
from training.data.formats import USUAL_SEPARATORS


def delimited_file(
    path: Path, *, separator: str | None, encoding: str | None, part_rows: int, part_bytes: int
) -> TextFile:
    """Read a CSV or TSV file once.

    Args:
        path: the file
        separator: between cells; detected if omitted
        encoding: detected if omitted
        part_rows: rows of a part
        part_bytes: size of a part

    Raises:
        InvalidInput: the header cannot be read or repeats a column
        InvalidData: the encoding cannot be guessed
    """
    text = OpenedText.of(path, encoding, is_utf8=False)
    return TextFile(text, DelimitedFormat(text, separator), part_rows=part_rows, part_bytes=part_bytes)


class DelimitedFormat:
    """Cells between separators, under a header."""

    def __init__(self, text: OpenedText, separator: str | None) -> None:
        head = next(islice(text.blocks(), 1), "")
        usual = USUAL_SEPARATORS[text.path.suffix.lower()]
        whole_lines = head[: head.rfind("\n") + 1] or head
        self._text, self._separator = text, separator or detected_separator(whole_lines, usual=usual)
        self.line_end = "\r\n" if "\r\n" in head else "\n" if "\n" in head or "\r" not in head else "\r"
        try:
            table = Table(text.blocks, self._separator)
        except ValueError as exc:
            raise InvalidInput(f"{text.path}: {exc}") from exc
        self._header, self._header_text, self._is_by_line = table.header, table.header_text, table.is_by_line
        if not table.header:
            raise InvalidInput(f"{text.path}: the file is empty, expected a header with the names of the columns")
        if len(set(table.header)) < len(table.header):
            raise InvalidInput(f"{text.path}: line {table.header_line}: the header {table.header} repeats a column")

    def columns(self) -> tuple[str, ...]:
        return tuple(self._header)

    def records(self) -> Iterator[tuple[str, InputRow | UnreadableRow]]:
        table = Table(self._text.blocks, self._separator, by_line=self._is_by_line)
        for record in table.records():
            if isinstance(record, BadRecord):
                yield record.text, UnreadableRow(record.where, record.reason, printable_text(record.text))
            else:
                place = f"line {record.line}"
                yield (
                    record.text,
                    undecodable(place, record.text)
                    or InputRow(place, dict(zip(self._header, record.cells, strict=True))),
                )

    def header(self, names: Sequence[str]) -> str:
        return self.extended(printable_text(self._header_text), [], names)

    def extended(self, record: str, names: Sequence[str], values: Sequence[object]) -> str:  # noqa: ARG002 - the header has the names
        return self._separator.join((record, *map(self._cell, values)))

    def _cell(self, value: object) -> str:
        text = cell_text(value)
        special = (self._separator, '"', "\r", "\n")
        return '"' + text.replace('"', '""') + '"' if any(each in text for each in special) else text


def cell_text(value: object) -> str:
    """Return a value as the text of a cell: empty for None, JSON for lists and objects."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case list() | tuple() | dict():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return str(value)
