"""Text files (CSV, TSV, JSONL), whose records are kept as they are written and get more members at their end."""

import hashlib
import shutil
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Protocol

from adapters.regular_files import open_regular
from scoring.errors import InvalidInput
from scoring.files.part import AddedColumn, Contents, InputRow, Part, UnreadableRow, printable_text
from training.data.decoding import place_of_escaped, stream_encoding

_BLOCK = 1 << 20


class TextFormat(Protocol):
    """How the records of a text are read, and written with more members."""

    line_end: str

    def records(self) -> Iterator[tuple[str, InputRow | UnreadableRow]]:
        """Yield each record as it is written, and what was read from it."""
        ...

    def columns(self) -> tuple[str, ...] | None:
        """Return the columns that every record has; None if they vary."""
        ...

    def header(self, names: Sequence[str]) -> str:
        """Return the header with more columns; empty for a format without one."""
        ...

    def extended(self, record: str, names: Sequence[str], values: Sequence[object]) -> str:
        """Return a record with more members."""
        ...


@dataclass(frozen=True, slots=True)
class OpenedText:
    """A text file and its encoding."""

    path: Path
    encoding: str

    @classmethod
    def of(cls, path: Path, encoding: str | None, *, is_utf8: bool) -> "OpenedText":
        """Find the encoding of a file, unless it is given (`InvalidData`)."""
        return cls(path, encoding or stream_encoding(path, is_utf8=is_utf8))

    def blocks(self) -> Iterator[str]:
        """Yield the text in blocks, with the line ends that it has."""
        with self._open(newline="") as file, self._refusing():
            while block := file.read(_BLOCK):
                yield block

    def lines(self) -> Iterator[str]:
        """Yield the lines without their ends, which are those of any system."""
        with self._open(newline=None) as file, self._refusing():
            for line in file:
                yield line.removesuffix("\n")

    @property
    def out_encoding(self) -> str:
        """The encoding of the output: UTF-8, with a byte-order mark if the input has one."""
        return "utf-8-sig" if self.encoding in ("utf-8-sig", "utf-16", "utf-32") else "utf-8"

    def _open(self, *, newline: str | None) -> TextIOWrapper:
        """Open the text; bytes that are not UTF-8 become surrogates."""
        errors = "surrogateescape" if self.encoding in ("utf-8", "utf-8-sig") else "strict"
        return TextIOWrapper(open_regular(self.path), encoding=self.encoding, errors=errors, newline=newline)

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except UnicodeError as exc:
            raise InvalidInput(f"{self.path}: the text is not {self.encoding}: {exc}; name it with --encoding") from exc


class TextFile:
    """A text file as input, and its format as output."""

    def __init__(self, text: OpenedText, form: TextFormat, *, part_rows: int, part_bytes: int) -> None:
        self.path = text.path
        self._text, self._form = text, form
        self._part_rows, self._part_bytes = part_rows, part_bytes
        with open_regular(text.path) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        num_rows, columns = self._survey()
        self.contents = Contents(sha256=sha256, num_rows=num_rows, columns=columns)

    def _survey(self) -> tuple[int, tuple[str, ...]]:
        """Return the number of records and the columns of any."""
        known = self._form.columns()
        seen: dict[str, None] = dict.fromkeys(known or ())
        num_rows = 0
        for _, row in self._form.records():
            num_rows += 1
            if known is None and isinstance(row, InputRow):
                seen.update(dict.fromkeys(row.values))
        return num_rows, tuple(seen)

    def parts(
        self,
        columns: Sequence[str],  # noqa: ARG002 - records have all of them
        *,
        skip: Container[int] = (),
    ) -> Iterator[Part[Sequence[str]]]:
        number = 0
        texts: list[str] = []
        rows: list[InputRow] = []
        unreadable: list[UnreadableRow] = []
        size = 0
        for text, row in self._form.records():
            if isinstance(row, UnreadableRow):
                unreadable.append(row)
            else:
                texts.append(text)
                rows.append(row)
            size += len(text)
            if len(rows) + len(unreadable) >= self._part_rows or size >= self._part_bytes:
                if number not in skip:
                    yield Part(number, rows, unreadable, texts)
                number, texts, rows, unreadable, size = number + 1, [], [], [], 0
        if (rows or unreadable) and number not in skip:
            yield Part(number, rows, unreadable, texts)

    def encode(
        self, part: Part[Sequence[str]], added: Sequence[AddedColumn], values: Sequence[Sequence[object]]
    ) -> bytes:
        names, end = [column.name for column in added], self._form.line_end
        lines = zip(part.content, zip(*values, strict=True), strict=True)
        return "".join(self._form.extended(text, names, row) + end for text, row in lines).encode()

    def join(self, parts: Sequence[Path], added: Sequence[AddedColumn], out: Path) -> None:
        header = self._form.header([column.name for column in added])
        start = (header + self._form.line_end if header else "").encode(self._text.out_encoding)
        with out.open("wb") as file:
            file.write(start)
            for path in parts:
                with path.open("rb") as source:
                    shutil.copyfileobj(source, file, _BLOCK)


def undecodable(place: str, text: str) -> UnreadableRow | None:
    """Return the refusal of a record with bytes that are not UTF-8."""
    if (escaped := place_of_escaped(text)) is None:
        return None
    return UnreadableRow(place, f"{escaped} is not UTF-8", printable_text(text))
