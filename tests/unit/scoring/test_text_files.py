"""CSV, TSV and JSONL as inputs and outputs: records are kept as they are written, bad ones are set apart."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from scoring.errors import InvalidInput
from scoring.files.opening import Reading, open_input
from scoring.files.part import AddedColumn, InputFile

ADDED = [AddedColumn("label", pyarrow.string()), AddedColumn("score", pyarrow.float64())]


def scored(file: InputFile[Any], folder: Path, *, values: Sequence[object] | None = None) -> bytes:
    """The output of a file in which every row gets the same answer."""
    paths = []
    for part in file.parts(()):
        columns = [[value] * len(part.rows) for value in values or ("yes", 0.5)]
        paths.append(folder / f"part{part.number}")
        paths[-1].write_bytes(file.encode(part, ADDED, columns))
    file.join(paths, ADDED, folder / "out")
    return (folder / "out").read_bytes()


def written(folder: Path, name: str, data: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def rejected(file: InputFile[Any]) -> list[tuple[str, str]]:
    return [(row.place, row.reason) for part in file.parts(()) for row in part.unreadable]


def test_a_csv_record_keeps_its_quotes_spaces_and_line_breaks(tmp_path: Path) -> None:
    data = 'id,"text"\n007,"a ""fine"" film"\n 8 ,"two\nlines"\n9,plain\n'
    file = open_input(written(tmp_path, "a.csv", data), Reading())
    assert file.contents.num_rows == 3
    assert scored(file, tmp_path).decode() == (
        'id,"text",label,score\n007,"a ""fine"" film",yes,0.5\n 8 ,"two\nlines",yes,0.5\n9,plain,yes,0.5\n'
    )
    assert [row.values for part in file.parts(()) for row in part.rows] == [
        {"id": "007", "text": 'a "fine" film'},
        {"id": " 8 ", "text": "two\nlines"},
        {"id": "9", "text": "plain"},
    ]


def test_line_ends_separators_and_byte_order_marks_stay(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbfid;text\r\n1;\xc3\xa9t\xc3\xa9\r\n"
    file = open_input(written(tmp_path, "a.csv", data), Reading())
    assert scored(file, tmp_path) == b"\xef\xbb\xbfid;text;label;score\r\n1;\xc3\xa9t\xc3\xa9;yes;0.5\r\n"


def test_other_encodings_become_utf_8(tmp_path: Path) -> None:
    wide = open_input(written(tmp_path, "a.csv", "id,text\n1,été\n".encode("utf-16")), Reading())
    assert scored(wide, tmp_path).decode("utf-8-sig") == "id,text,label,score\n1,été,yes,0.5\n"
    named = open_input(written(tmp_path, "b.csv", "id,text\n1,été\n".encode("cp1252")), Reading(encoding="cp1252"))
    assert scored(named, tmp_path).decode() == "id,text,label,score\n1,été,yes,0.5\n"


def test_a_label_with_a_separator_or_a_quote_is_quoted(tmp_path: Path) -> None:
    file = open_input(written(tmp_path, "a.tsv", "id\ttext\n1\ta\n"), Reading())
    assert scored(file, tmp_path, values=('a\t"b"', None)).decode() == 'id\ttext\tlabel\tscore\n1\ta\t"a\t""b"""\t\n'


def test_records_that_cannot_be_read_are_set_apart_with_their_line(tmp_path: Path) -> None:
    data = 'id,text\n1,a\n2,b,c\n3,c\n4,"open\n5,"x"y\n6,é\n'.encode() + b"7,\xe9\n8,h\xc3\xa9\n9,h\xc3\xa9\n"
    file = open_input(written(tmp_path, "a.csv", data), Reading())
    assert rejected(file)[0] == ("line 3", "3 columns, expected 2 as in the header")
    assert ("line 8", "column 3: byte 0xE9 is not UTF-8") in rejected(file)
    assert file.contents.num_rows == 9
    lines = scored(file, tmp_path).decode().splitlines()
    assert [line.partition(",")[0] for line in lines] == ["id", "1", "3", "6", "8", "9"]
    texts = [row.text for part in file.parts(()) for row in part.unreadable]
    assert "7,\\xe9" in texts


def test_json_objects_keep_their_text(tmp_path: Path) -> None:
    data = '{"id": 1.50, "big": 12345678901234567890, "text": "a"}\r\n\n  { }  \n[1]\n{"id": 2'
    file = open_input(written(tmp_path, "a.jsonl", data), Reading())
    assert file.contents.columns == ("id", "big", "text")
    assert scored(file, tmp_path).decode() == (
        '{"id": 1.50, "big": 12345678901234567890, "text": "a", "label": "yes", "score": 0.5}\n'
        '  {"label": "yes", "score": 0.5}\n'
    )
    assert [place for place, _ in rejected(file)] == ["line 4", "line 5"]
    assert rejected(file)[0][1] == "list, expected an object"


def test_a_byte_that_is_not_utf_8_costs_its_line_only(tmp_path: Path) -> None:
    data = b'{"text": "a"}\n{"text": "\xe9"}\n{"text": "b"}\n'
    file = open_input(written(tmp_path, "a.jsonl", data), Reading())
    assert [json.loads(line)["text"] for line in scored(file, tmp_path).splitlines()] == ["a", "b"]
    assert rejected(file) == [("line 2", "column 11: byte 0xE9 is not UTF-8")]


def test_parts_are_the_same_in_every_reading_and_cover_each_record_once(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", "id,text\n" + "".join(f"{n},text {n}\n" for n in range(25)))
    file = open_input(path, Reading(part_rows=10))
    parts = list(file.parts(()))
    assert [len(part.rows) for part in parts] == [10, 10, 5]
    assert [part.number for part in file.parts((), skip={0, 1})] == [2]
    assert [row.values["id"] for row in next(file.parts((), skip={0})).rows] == [str(n) for n in range(10, 20)]
    small = open_input(path, Reading(part_rows=10, part_bytes=30))
    assert len(list(small.parts(()))) > 5


def test_a_header_alone_is_an_output_without_rows(tmp_path: Path) -> None:
    file = open_input(written(tmp_path, "a.csv", "id,text\n"), Reading())
    assert file.contents.num_rows == 0
    assert scored(file, tmp_path) == b"id,text,label,score\n"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b"", "a.csv: the file is empty, expected a header"),
        ("a.csv", b"id,id\n1,2\n", "repeats a column"),
        ("a.xlsx", b"x", "a.xlsx: file type '.xlsx', expected .csv, .tsv, .jsonl or .parquet"),
        ("a.parquet", b"x", "a.parquet: not a readable Parquet file"),
        ("a.csv", b"id,text\n1,\xe9\n2,\x81\x8d\x8f\n", "name its encoding with --encoding"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        open_input(written(tmp_path, name, data), Reading())
    assert message in str(refused.value)
