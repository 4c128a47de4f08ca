"""Labelled rows out of files: the four formats, and what each is refused with."""

import csv
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from support.data import Row, jsonl_with, refusal, task_of, write_jsonl

from adapters import TaskSpec
from training.data.examples import Example, read_examples

Write = Callable[[Path, Sequence[Row]], None]
PLACE = TaskSpec(template="{where}: {what} in {where}", labels={"sun": "sunny", "rain": "rainy"}, max_tokens=32)
ROWS: list[Row] = [
    {"text": 'clear, "blue" sky', "label": "sun"},
    {"text": "größte Wolken ☔\nall day", "label": "rain"},
    {"text": "", "label": "sun"},
    {"text": "tab\tand {braces}", "label": "rain"},
]


def write_parquet(path: Path, rows: Sequence[Row]) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows]), path)


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)


# --- the four formats


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("rows.parquet", write_parquet),
        ("rows.jsonl", write_jsonl),
        ("rows.ndjson", write_jsonl),
        ("rows.csv", write_csv),
        ("rows.tsv", write_csv),
        ("ROWS.CSV", write_csv),
    ],
)
def test_the_same_rows_give_the_same_examples_from_every_format(tmp_path: Path, name: str, write: Write) -> None:
    path = tmp_path / name
    write(path, ROWS)
    file = read_examples(path, task_of(path))
    assert file.examples == (
        Example('text: clear, "blue" sky', 0),
        Example("text: größte Wolken ☔\nall day", 1),
        Example("text: ", 0),
        Example("text: tab\tand {braces}", 1),
    )
    assert file.path == path
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("name", "write"), [("rows.parquet", write_parquet), ("rows.jsonl", write_jsonl), ("rows.csv", write_csv)]
)
def test_columns_and_label_values_say_how_cells_are_read(tmp_path: Path, name: str, write: Write) -> None:
    path = tmp_path / name
    write(path, [{"city": "Oslo", "what": "snow", "y": 1, "more": "x"}, {"city": "Rome", "what": "sun", "y": 0}])
    task = task_of(path, spec=PLACE, label="y", label_values={"0": "sun", "1": "rain"}, columns={"where": "city"})
    if name.endswith("csv"):
        write(path, [{"city": "Oslo", "what": "snow", "y": 1}, {"city": "Rome", "what": "sun", "y": 0}])
    examples = read_examples(path, task).examples
    assert examples == (Example("Oslo: snow in Oslo", 1), Example("Rome: sun in Rome", 0))


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_a_csv(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes("\ufefftext,label\r\nclear,sun\r\nwet,rain\r\n".encode())
    assert read_examples(path, task_of(path)).examples == (Example("text: clear", 0), Example("text: wet", 1))


def test_blank_lines_between_json_lines_are_passed_over_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\n{"text": "a\\u2028b", "label": "sun"}\r\n  \n{"text": 3, "label": "sun"}\n')
    assert refusal(path).startswith("line 4: field 'text' is 3")


def test_a_line_separator_inside_a_text_does_not_end_its_json_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a\u2028b\u0085c", "label": "sun"}\n', encoding="utf-8")
    assert read_examples(path, task_of(path)).examples == (Example("text: a\u2028b\u0085c", 0),)


# --- refusals


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"text": "wet", "label": "snow"}', ["line 3: field 'label' is 'snow'", "sun, rain"]),
        (b'{"text": "wet", "label": null}', ["line 3: field 'label' is None", "sun, rain"]),
        (b'{"text": "wet", "label": 7}', ["line 3: field 'label' is 7", "sun, rain"]),
        (b'{"text": "wet"}', ["line 3: no field 'label'", "'text'"]),
        (b'{"label": "sun"}', ["line 3: no field 'text'", "'label'"]),
        (b'{"text": 5, "label": "sun"}', ["line 3: field 'text' is 5", "text"]),
        (b'{"text": null, "label": "sun"}', ["line 3: field 'text' is None"]),
        (b'{"text": ["wet"], "label": "sun"}', ["line 3: field 'text' is ['wet']"]),
        (b'{"text": "wet", "label": "sun"', ["line 3, column 31: not JSON: "]),
        (b'["wet", "sun"]', ["line 3: list, expected an object"]),
        (b'{"text": "w\xe9t", "label": "sun"}', ["line 3, column 12: byte 0xE9 is not UTF-8"]),
        (b"[" * 200_000, ["line 3: not JSON"]),
        (b'{"text": "\\ud800", "label": "sun"}', ["line 3: "]),
    ],
    ids=[
        "unknown label",
        "null label",
        "number label",
        "no label",
        "no text",
        "number text",
        "null text",
        "list text",
        "cut off",
        "a list",
        "not UTF-8",
        "nested beyond reason",
        "half a surrogate pair",
    ],
)
def test_a_bad_json_line_is_refused_by_line_and_field(tmp_path: Path, line: bytes, expected: list[str]) -> None:
    message = refusal(jsonl_with(tmp_path / "rows.jsonl", line))
    for part in expected:
        assert part in message


def test_an_unknown_label_value_is_refused_with_the_values_that_are_known(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"text": "a", "label": 0}, {"text": "b", "label": 2}])
    message = refusal(path, label_values={"0": "sun", "1": "rain"})
    assert message == "line 2: field 'label' is 2, expected one of 0, 1"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": None, "label": "sun"}, "row 2: field 'text' is None"),
        ({"text": "a", "label": None}, "row 2: field 'label' is None"),
        ({"text": "a", "label": "snow"}, "row 2: field 'label' is 'snow'"),
    ],
)
def test_a_bad_parquet_row_is_refused_by_row_and_field(tmp_path: Path, row: Row, expected: str) -> None:
    path = tmp_path / "rows.parquet"
    write_parquet(path, [{"text": "a", "label": "sun"}, row])
    assert refusal(path).startswith(expected)


def test_a_parquet_column_of_another_name_or_type_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_parquet(path, [{"text": 1.5, "label": "sun"}])
    assert refusal(path).startswith("row 1: field 'text' is 1.5")
    assert refusal(path, columns={"text": "body"}).startswith("row 1: no field 'body', the row has 'text', 'label'")


@pytest.mark.parametrize("data", [b"", b"PAR1 this is not what it says", b"PAR1" + b"\0" * 64 + b"PAR1"])
def test_a_broken_parquet_file_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "rows.parquet"
    path.write_bytes(data)
    assert refusal(path).startswith("not a readable Parquet file: ")


def test_a_parquet_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_parquet(path, [{"text": f"text {n}", "label": "sun"} for n in range(1_000)])
    data = bytearray(path.read_bytes())
    data[8:400] = b"\xff" * 392
    path.write_bytes(data)
    assert refusal(path).startswith("not a readable Parquet file: ")


@pytest.mark.parametrize(
    ("row", "columns"), [("wet", "1 column"), ("wet,rain,more", "3 columns")], ids=["too few", "too many"]
)
def test_a_ragged_csv_is_refused_by_its_line(tmp_path: Path, row: str, columns: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"text,label\nclear,sun\n{row}\n")
    assert refusal(path) == f"line 3: {columns}, expected 2 as in the header"


def test_a_csv_line_number_counts_the_lines_inside_quotes(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('text,label\n"two\nlines",sun\nwet,snow\n')
    assert refusal(path).startswith("line 4: field 'label' is 'snow'")


def test_a_csv_without_the_column_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("body,label\nclear,sun\n")
    assert refusal(path) == "line 2: no field 'text', the row has 'body', 'label'"


def test_a_csv_whose_header_names_a_column_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,text,label\nclear,cloudy,sun\n")
    assert "'text'" in refusal(path)


def test_a_csv_with_an_unclosed_quote_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('text,label\nclear,sun\n"wet,rain\n')
    assert refusal(path) == "line 3, column 1: the quote that opens here is not closed"


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
def test_a_few_bytes_that_are_not_utf8_are_refused_by_line_and_column(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes("text,label\nwét,rain\n".replace(",", "\t" if name.endswith("tsv") else ",").encode("latin-1"))
    message = refusal(path)
    assert message.startswith("line 2, column 2: byte 0xE9 is not UTF-8, and its encoding is not certain")
    assert "data.encoding" in message


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.jsonl"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"")
    assert refusal(path) == "no rows"


def test_a_file_of_a_header_alone_is_refused(tmp_path: Path) -> None:
    csv_path, parquet_path = tmp_path / "rows.csv", tmp_path / "rows.parquet"
    csv_path.write_text("text,label\n")
    pyarrow.parquet.write_table(pyarrow.table({"text": pyarrow.array([], pyarrow.string())}), parquet_path)
    assert refusal(csv_path) == refusal(parquet_path) == "no rows"


@pytest.mark.parametrize("name", ["rows.txt", "rows", "rows.json", "rows.csv.gz"])
def test_an_unknown_file_type_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("text,label\nclear,sun\n")
    assert refusal(path) == f"file type {path.suffix!r}, expected .parquet, .jsonl, .csv or .tsv"


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "rows.csv") == "no such file"
    (tmp_path / "folder.csv").mkdir()
    assert refusal(tmp_path / "folder.csv") == "no such file"


# --- groups, fields, and labels that are numbers
