"""Parquet: columns keep their types and metadata, and memory holds one part."""

import hashlib
from collections.abc import Container, Iterator, Sequence
from io import BytesIO
from pathlib import Path

import pyarrow
import pyarrow.parquet

from adapters.regular_files import open_regular
from scoring.errors import InvalidInput
from scoring.files.part import AddedColumn, Contents, InputRow, Part

_JOINED_ROWS = 1 << 17
_JOINED_BYTES = 64 << 20
"""Size of a row group of the output, about."""


class ParquetFile:
    """A Parquet file as input and output."""

    def __init__(self, path: Path, *, part_rows: int, part_bytes: int) -> None:
        """Read the metadata of a file.

        Raises:
            InvalidInput: it is not a Parquet file, or repeats a column
        """
        self.path = path
        with open_regular(path) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            try:
                opened = pyarrow.parquet.ParquetFile(file)
                self._schema, metadata = opened.schema_arrow, opened.metadata
            except (pyarrow.ArrowException, OSError) as exc:
                reason = str(exc).splitlines()[0]
                raise InvalidInput(f"{path}: not a readable Parquet file: {reason}") from exc
        names = self._schema.names
        if len(set(names)) < len(names):
            raise InvalidInput(f"{path}: the columns {names} repeat a name")
        self.contents = Contents(
            sha256=sha256,
            num_rows=metadata.num_rows,
            columns=tuple(names),
            text_columns=frozenset(field.name for field in self._schema if _holds_text(field.type)),
        )
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        size = sum(group.total_byte_size for group in groups)
        fitting = part_bytes * metadata.num_rows // size if size else part_rows
        self._part_rows = max(1, min(part_rows, fitting))
        self._group_rows = [group.num_rows for group in groups]

    def parts(self, columns: Sequence[str], *, skip: Container[int] = ()) -> Iterator[Part[pyarrow.Table]]:
        wanted = [name for name in self._schema.names if any(_is_in(column, name) for column in columns)]
        for number, start, table in self._tables(skip):
            values = table.select(wanted).to_pylist()
            rows = [InputRow(f"row {start + index + 1}", row) for index, row in enumerate(values)]
            yield Part(number, rows, (), table)

    def encode(
        self, part: Part[pyarrow.Table], added: Sequence[AddedColumn], values: Sequence[Sequence[object]]
    ) -> bytes:
        table = part.content
        for column, cells in zip(added, values, strict=True):
            table = table.append_column(column.name, pyarrow.array(cells, column.type))
        out = BytesIO()
        pyarrow.parquet.write_table(table, out, compression="zstd")
        return out.getvalue()

    def join(self, parts: Sequence[Path], added: Sequence[AddedColumn], out: Path) -> None:
        schema = self._schema
        for column in added:
            schema = schema.append(pyarrow.field(column.name, column.type))
        with pyarrow.parquet.ParquetWriter(out, schema, compression="zstd") as writer:
            waiting: list[pyarrow.Table] = []
            for path in parts:
                with path.open("rb") as file:
                    waiting.append(pyarrow.parquet.read_table(file).cast(schema))
                is_full = sum(table.num_rows for table in waiting) >= _JOINED_ROWS
                if is_full or sum(table.nbytes for table in waiting) >= _JOINED_BYTES:
                    writer.write_table(pyarrow.concat_tables(waiting))
                    waiting = []
            if waiting:
                writer.write_table(pyarrow.concat_tables(waiting))

    def _tables(self, skip: Container[int]) -> Iterator[tuple[int, int, pyarrow.Table]]:
        """Yield the number, the first row and the rows of each part."""
        total, most = sum(self._group_rows), self._part_rows
        pieces: list[pyarrow.Table] = []
        for start, table in self._batches(skip):
            at = 0
            while at < table.num_rows:
                number = (start + at) // most
                stop = min((number + 1) * most, total)
                piece = table.slice(at, stop - start - at)
                at += piece.num_rows
                if number in skip:
                    continue
                pieces.append(piece)
                if start + at == stop:
                    yield number, number * most, pyarrow.concat_tables(pieces)
                    pieces = []

    def _batches(self, skip: Container[int]) -> Iterator[tuple[int, pyarrow.Table]]:
        """Yield the row groups in batches, each with its first row, but for row groups of skipped parts alone."""
        with open_regular(self.path) as opened:
            file = pyarrow.parquet.ParquetFile(opened, buffer_size=1 << 20)
            start = 0
            for group, num_rows in enumerate(self._group_rows):
                numbers = range(start // self._part_rows, -(-(start + num_rows) // self._part_rows))
                at = start
                start += num_rows
                if all(number in skip for number in numbers):
                    continue
                for batch in file.iter_batches(batch_size=self._part_rows, row_groups=[group]):
                    yield at, pyarrow.Table.from_batches([batch])
                    at += batch.num_rows


def _holds_text(kind: pyarrow.DataType) -> bool:
    if pyarrow.types.is_dictionary(kind):
        return _holds_text(kind.value_type)
    checks = (
        pyarrow.types.is_string,
        pyarrow.types.is_large_string,
        pyarrow.types.is_string_view,
        pyarrow.types.is_null,
    )
    # a member of an object is checked row by row
    return any(check(kind) for check in checks) or pyarrow.types.is_struct(kind)


def _is_in(column: str, name: str) -> bool:
    """Whether a column is named, or a member of it."""
    return column == name or column.partition(".")[0] == name
