"""Opens an input file by the format that its name says."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.regular_files import NotRegular
from scoring.errors import InvalidInput
from scoring.files.delimited import delimited_file
from scoring.files.jsonl import jsonl_file
from scoring.files.parquet import ParquetFile
from scoring.files.part import PART_BYTES, PART_ROWS, InputFile
from training.data.formats import SUFFIXES, USUAL_SEPARATORS
from training.errors import InvalidData


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How input files are read."""

    separator: str | None = None
    """The separator of CSV and TSV files; detected if None."""
    encoding: str | None = None
    """The encoding of text files; detected if None."""
    part_rows: int = PART_ROWS
    part_bytes: int = PART_BYTES


def open_input(path: Path, reading: Reading) -> InputFile[Any]:
    """Read a file once, to count its rows and hash it.

    Raises:
        InvalidInput: it cannot be read; names the file and the place
    """
    size = {"part_rows": reading.part_rows, "part_bytes": reading.part_bytes}
    suffix = path.suffix.lower()
    open_by: Callable[[], InputFile[Any]]
    if suffix == ".parquet":
        open_by = lambda: ParquetFile(path, **size)  # noqa: E731
    elif suffix in USUAL_SEPARATORS:
        open_by = lambda: delimited_file(path, separator=reading.separator, encoding=reading.encoding, **size)  # noqa: E731
    elif suffix in SUFFIXES:
        open_by = lambda: jsonl_file(path, encoding=reading.encoding, **size)  # noqa: E731
    else:
        raise InvalidInput(f"{path}: file type {path.suffix!r}, expected .csv, .tsv, .jsonl or .parquet")
    try:
        return open_by()
    except InvalidData as exc:
        raise InvalidInput(
            str(exc).partition("; set data.encoding")[0] + "; name its encoding with --encoding"
        ) from exc
    except NotRegular as exc:
        raise InvalidInput(f"{path}: {exc.strerror}") from exc
