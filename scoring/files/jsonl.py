"""JSONL: objects keep their text, and get more members."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from scoring.files.part import InputRow, UnreadableRow, printable_text
from scoring.files.text import OpenedText, TextFile
from training.data.formats import json_object


def jsonl_file(path: Path, *, encoding: str | None, part_rows: int, part_bytes: int) -> TextFile:
    """Read a JSONL file once; arguments as `delimited_file`."""
    text = OpenedText.of(path, encoding, is_utf8=True)
    return TextFile(text, JsonlFormat(text), part_rows=part_rows, part_bytes=part_bytes)


class JsonlFormat:
    """One object per line; blank lines are skipped."""

    line_end = "\n"

    def __init__(self, text: OpenedText) -> None:
        self._text = text

    def columns(self) -> None:
        return None

    def records(self) -> Iterator[tuple[str, InputRow | UnreadableRow]]:
        for number, line in enumerate(self._text.lines(), start=1):
            if not line.strip():
                continue
            try:
                yield line, InputRow(f"line {number}", json_object(line))
            except ValueError as exc:
                yield line, UnreadableRow(f"line {number}", _reason(exc), printable_text(line))

    def header(self, names: Sequence[str]) -> str:  # noqa: ARG002 - every object has its names
        return ""

    def extended(self, record: str, names: Sequence[str], values: Sequence[object]) -> str:
        body = record.rstrip().removesuffix("}").rstrip()
        added = json.dumps(dict(zip(names, values, strict=True)), ensure_ascii=False)
        return f"{body}{'' if body.strip() == '{' else ', '}{added[1:]}"


def _reason(fault: ValueError) -> str:
    """Return a fault, which continues the number of the line, as a sentence of its own."""
    return str(fault).lstrip(",: ").partition("; correct it")[0]
