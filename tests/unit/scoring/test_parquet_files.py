"""Parquet as input and output: types and metadata stay, and parts do not depend on the row groups."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from scoring.errors import InvalidInput
from scoring.files.opening import Reading, open_input
from scoring.files.part import AddedColumn

ADDED = [
    AddedColumn("label", pyarrow.string()),
    AddedColumn("scores", pyarrow.struct([("a", pyarrow.float64()), ("b", pyarrow.float64())])),
]


def table(rows: int) -> pyarrow.Table:
    numbers = range(rows)
    return pyarrow.table(
        {
            "id": pyarrow.array(numbers, pyarrow.uint64()),
            "text": pyarrow.array([f"text {n}" if n % 7 else None for n in numbers]),
            "kind": pyarrow.array(["x" if n % 2 else "y" for n in numbers]).dictionary_encode(),
            "at": pyarrow.array([datetime(2026, 1, 1, tzinfo=UTC)] * rows, pyarrow.timestamp("us", "Europe/Berlin")),
            "price": pyarrow.array([Decimal("1.50")] * rows, pyarrow.decimal128(9, 2)),
            "tags": pyarrow.array([["a", None], []] * (rows // 2) + [None] * (rows % 2)),
            "idx": pyarrow.array([{"question": n, "body": f"b{n}"} for n in numbers]),
            "raw": pyarrow.array([b"\x00\xff"] * rows, pyarrow.binary()),
        }
    ).replace_schema_metadata({"pandas": "{}", "mine": "kept"})


def output(path: Path, folder: Path, *, part_rows: int) -> pyarrow.Table:
    file = open_input(path, Reading(part_rows=part_rows))
    paths = []
    for part in file.parts(["text"]):
        labels = [None if row.values["text"] is None else row.values["text"] for row in part.rows]
        paths.append(folder / f"{part.number}.part")
        paths[-1].write_bytes(file.encode(part, ADDED, [labels, [{"a": 0.25, "b": 0.75}] * len(labels)]))
    file.join(paths, ADDED, folder / "out.parquet")
    return pyarrow.parquet.read_table(folder / "out.parquet")


@pytest.mark.parametrize("row_group_size", [1, 13, 64, 1_000])
@pytest.mark.parametrize("part_rows", [1, 10, 64, 1_000])
def test_all_columns_keep_their_types_values_and_metadata(tmp_path: Path, row_group_size: int, part_rows: int) -> None:
    before = table(101)
    pyarrow.parquet.write_table(before, tmp_path / "a.parquet", row_group_size=row_group_size)
    read = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    after = output(tmp_path / "a.parquet", tmp_path, part_rows=part_rows)
    assert after.select(before.column_names).equals(read.replace_schema_metadata(after.schema.metadata))
    assert after.schema.metadata[b"mine"] == b"kept"
    assert after.column("label").to_pylist() == before.column("text").to_pylist()
    assert after.column("scores").type == ADDED[1].type


def test_rows_are_numbered_and_have_the_columns_that_were_asked_for(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(table(30), tmp_path / "a.parquet", row_group_size=7)
    file = open_input(tmp_path / "a.parquet", Reading(part_rows=10))
    last = next(file.parts(["text", "idx.body"], skip={0, 1}))
    assert last.number == 2
    assert last.rows[0].place == "row 21"
    assert last.rows[0].values == {"text": "text 20", "idx": {"question": 20, "body": "b20"}}
    assert last.rows[0].cell("idx.body") == "b20"
    assert file.contents.text_columns == {"text", "kind", "idx"}
    assert file.contents.num_rows == 30


def test_a_part_has_fewer_rows_where_they_are_large(tmp_path: Path) -> None:
    rows = pyarrow.table({"text": [f"{n:05}" * 2_000 for n in range(64)]})
    pyarrow.parquet.write_table(rows, tmp_path / "a.parquet", use_dictionary=False)
    file = open_input(tmp_path / "a.parquet", Reading(part_bytes=50_000))
    assert [len(part.rows) for part in file.parts(["text"])][:3] == [4, 4, 4]
    assert sum(len(part.rows) for part in file.parts(["text"])) == 64


def test_a_file_without_rows_is_written_with_its_columns(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(table(0), tmp_path / "a.parquet")
    assert output(tmp_path / "a.parquet", tmp_path, part_rows=10).column_names[-1] == "scores"


def test_repeated_columns_are_refused(tmp_path: Path) -> None:
    two = pyarrow.Table.from_arrays([pyarrow.array([1]), pyarrow.array([2])], names=["a", "a"])
    pyarrow.parquet.write_table(two, tmp_path / "a.parquet")
    with pytest.raises(InvalidInput, match="repeat a name"):
        open_input(tmp_path / "a.parquet", Reading())
