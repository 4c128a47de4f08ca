"""Text files as they are found: separators, quotes, encodings, blank lines, and the place of every error."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.cli import superpos
from support.data import refusal, task_of, view_of

from training.data.examples import Example, RowFile, read_examples
from training.data.sources import locate
from training.data.validation.check import check_rows
from training.errors import InvalidData, InvalidTaskFile
from training.task.task_file import load_task_file

TEXTS = ["Das Gerät ist größer als erwartet – schön!", "C’est très bien, j’ai été servi à temps", "plain; words, only"]
ROWS = [(f"{TEXTS[n % 3]} {n}", ["sun", "rain"][n % 2]) for n in range(80)]
EXPECTED = tuple(Example(f"text: {text}", ["sun", "rain"].index(label)) for text, label in ROWS)


def table(rows: Sequence[tuple[str, str]], separator: str) -> str:
    file = io.StringIO()
    csv.writer(file, delimiter=separator).writerows([("text", "label"), *rows])
    return file.getvalue()


def read(path: Path, data: str, written: str = "utf-8", **source: object) -> RowFile:
    path.write_bytes(data.encode(written))
    return read_examples(path, task_of(path, **source))


# --- the kind: the dialect of one format used for another


@pytest.mark.parametrize(
    "stray",
    [
        '"Loved it, she said',  # opens a quote that never closes
        '"Loved it\tsun\nwet 12"',  # opens a quote that closes at the end of a later cell
        'a 24" screen',
        '"so" he said "so"',
        '"',
        'half a "pair',
    ],
)
def test_quotes_of_a_tsv_are_text_unless_they_pair(tmp_path: Path, stray: str) -> None:
    rows = [*((f"row {n}", "sun") for n in range(39)), (stray, "rain"), *((f"more {n}", "sun") for n in range(39))]
    found = read(tmp_path / "rows.tsv", "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))
    assert [example.text for example in found.examples] == [
        f"text: {line.split(chr(9))[0]}" for text, _ in rows for line in text.split("\n")
    ]


def test_quotes_of_a_tsv_that_pair_hold_tabs_quotes_and_lines(tmp_path: Path) -> None:
    texts = ["a\tb", "two\nlines", 'said "so"', '"all quoted"', "plain", "\t", "tab\tand\nlines\n", '"']
    found = read(tmp_path / "rows.tsv", table([(text, "sun") for text in texts], "\t"))
    assert [example.fields["text"] for example in found.examples] == texts


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
def test_the_separator_is_detected_and_said(tmp_path: Path, name: str, separator: str) -> None:
    found = read(tmp_path / name, table(ROWS, separator))
    assert found.examples == EXPECTED
    usual = separator == ("," if name.endswith("csv") else "\t")
    assert found.notes == (() if usual else (f"{name}: read with separator {separator!r}",))


def test_a_separator_can_be_set(tmp_path: Path) -> None:
    data = "text,label~label\n" + "a,b~sun\n" * 3
    assert len(read(tmp_path / "rows.csv", data, separator="~", columns={"text": "text,label"}).examples) == 3


def test_a_comma_file_of_texts_with_other_separators_stays_one(tmp_path: Path) -> None:
    rows = [(f"{n}: a|b|c; d|e; f", "sun") for n in range(20)]
    assert read(tmp_path / "rows.csv", table(rows, ",")).examples[3].fields["text"] == "3: a|b|c; d|e; f"


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-16", "utf-16-le"),
        ("utf-16-le", "utf-16-le (a guess"),
        ("utf-16-be", "utf-16-be (a guess"),
        ("utf-32", "utf-32-le"),
        ("cp1252", "cp1252 (a guess"),
    ],
)
@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
def test_the_encoding_is_detected_and_said(tmp_path: Path, name: str, encoding: str, said: str | None) -> None:
    found = read(tmp_path / name, table(ROWS, "," if name == "rows.csv" else "\t"), encoding)
    assert found.examples == EXPECTED
    assert len(found.notes) == (said is not None)
    assert said is None or f"read with encoding {said}" in found.notes[0]


POLISH = "Zażółć gęślą jaźń, a potem jeszcze trochę innych słów, bo źle działa"
RUSSIAN = "Очень хороший фильм, он мне сразу понравился, советую всем"
GREEK = "Πολύ καλό προϊόν, μου άρεσε"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [(POLISH, "cp1250"), (RUSSIAN, "cp1251"), (RUSSIAN, "koi8_r"), (GREEK, "cp1253"), ("とても良い", "cp932")],
)
def test_other_encodings_are_read_right_or_refused_and_can_be_set(tmp_path: Path, text: str, encoding: str) -> None:
    path, data = tmp_path / "rows.csv", table([(f"{text} {n}", "sun") for n in range(9)], ",")
    assert read(path, data, encoding, encoding=encoding).examples[0].fields["text"] == f"{text} 0"
    try:
        found = read_examples(path, task_of(path))
    except InvalidData:
        assert "line 2, column" in refusal(path)
        assert "set data.encoding" in refusal(path)
    else:
        assert found.examples[0].fields["text"] == f"{text} 0"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_lines_with_a_byte_order_mark_are_read(tmp_path: Path, encoding: str) -> None:
    data = '{"text": "größer", "label": "sun"}\n{"text": "☔", "label": "rain"}\n'
    found = read(tmp_path / "rows.jsonl", data, encoding)
    assert [example.fields["text"] for example in found.examples] == ["größer", "☔"]


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
@pytest.mark.parametrize("length", [131_072, 131_073, 1_000_000])
def test_a_cell_may_be_longer_than_the_csv_module_reads(tmp_path: Path, name: str, length: int) -> None:
    found = read(tmp_path / name, table([("w" * length, "sun"), ("wet", "rain")], "," if name == "rows.csv" else "\t"))
    assert [len(example.fields["text"]) for example in found.examples] == [length, 3]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("rows.csv", "\ntext,label\n\nwet,rain\n  \nclear,sun\n\n"),
        ("rows.tsv", "text\tlabel\r\n\r\nwet\train\r\n\r\n  \r\nclear\tsun"),
        ("rows.csv", "text,label\r\rwet,rain\r\rclear,sun\r\r"),
        ("rows.jsonl", '{"text":"wet","label":"rain"}\n\n\n {"text":"clear","label":"sun"}\n \n'),
    ],
)
def test_blank_lines_are_skipped_and_counted(tmp_path: Path, name: str, data: str) -> None:
    found = read(tmp_path / name, data)
    assert found.examples == (Example("text: wet", 1), Example("text: clear", 0))
    assert "blank lines skipped" in found.notes[0]
    assert any(f"{count} blank lines" in found.notes[0] for count in (3, 4))


def test_a_line_of_empty_cells_is_a_row_and_no_blank_line(tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text("text\tlabel\nwet\train\n\t\n")
    assert refusal(tmp_path / "rows.tsv").startswith("line 3: field 'label' is ''")


# --- the kind: an error without its place


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("rows.csv", b'text,label\nwet,rain\n"a\n"b,sun\n', "line 4, column 2: text after a closing quote"),
        ("rows.csv", b'text,label\nwet,rain\nx,"sun\n', "line 3, column 3: the quote that opens here is not closed"),
        ("rows.csv", "text,label\nböse,rain\ntoll,sun\nk".encode() + b"\xfcl,sun\n", "line 4, column 2: byte 0xFC is"),
        ("rows.csv", "\ufefftext,label\n".encode() + b"\xfc,sun\n", "line 2, column 1: byte 0xFC is not UTF-8"),
        ("rows.tsv", b"text\tlabel\nwet\train\textra\n", "line 2: 3 columns, expected 2 as in the header"),
        (
            "rows.csv",
            "\ufefftext,label\nw,".encode("utf-16-le") + b"\x00\xd8",
            "line 2, column 3: byte 0x00 is not UTF-16",
        ),
        ("rows.jsonl", b'{"text": "w\xfct"}\n', "line 1, column 12: byte 0xFC is not UTF-8"),
        ("rows.jsonl", b'{"text": "a", "text": "b", "label": "sun"}\n', "line 1: key 'text' is repeated"),
        ("rows.jsonl", b'{"text": ' + b"1" * 9_999 + b"}\n", "line 1: not JSON that can be read"),
        ("rows.csv", b'text,label,"\nwet,rain\n', "line 1, column 12: the quote that opens here is not closed"),
    ],
)
def test_every_error_names_its_line_and_its_column_or_field(
    tmp_path: Path, name: str, data: bytes, expected: str
) -> None:
    (tmp_path / name).write_bytes(data)
    assert refusal(tmp_path / name).startswith(expected)


def test_a_byte_that_does_not_fit_the_set_encoding_is_refused_by_its_place(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"text,label\nx\x81,sun\n")
    assert refusal(path, encoding="cp1252").startswith("line 2, column 2: byte 0x81 is not cp1252")
    path.write_bytes("\ufefftext,label\nx,sun\n".encode())
    assert refusal(path, encoding="cp1252").startswith("line 1, column 1: the byte-order mark of utf-8 contradicts")


# --- settings in the task file

TASK = """\
name: mood
template: "{{text}}"
labels: {{sun: sunny, rain: rainy}}
data: {{train: rows.csv, {}}}
"""


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ('separator: "ab"', "data.separator"),
        ("separator: '\"'", "data.separator"),
        ("separator: \\t", '"\\t" in double quotes'),
        ("encoding: no-such", "data.encoding"),
        ("encoding: rot13", "data.encoding"),
        ("encoding: base64", "data.encoding"),
    ],
)
def test_a_separator_or_encoding_that_cannot_be_is_refused(tmp_path: Path, setting: str, expected: str) -> None:
    (tmp_path / "mood.yaml").write_text(TASK.format(setting))
    with pytest.raises(InvalidTaskFile) as caught:
        load_task_file(tmp_path / "mood.yaml", variables={})
    assert expected in str(caught.value)


def test_a_setting_that_a_file_has_no_use_for_is_refused_and_not_ignored(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "label": "sun"}\n')
    assert "data.separator is ';', but only CSV and TSV" in refusal(tmp_path / "rows.jsonl", separator=";")


# --- what the commands say


def test_a_file_of_an_office_program_is_drafted_checked_and_says_how_it_was_read(tmp_path: Path, tiny_t5: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_bytes(table(ROWS, ";").replace("\r\n", "\r\n\r\n", 1).encode("cp1252"))
    drafted = superpos("task", "init", path, "--out", tmp_path / "mood.yaml", "--backbone", tiny_t5)
    assert drafted.code == 0, drafted.stderr
    written = (tmp_path / "mood.yaml").read_text()
    assert "separator: ;" in written
    assert "encoding: cp1252" in written
    task = load_task_file(tmp_path / "mood.yaml", variables={})
    assert [example.fields["text"] for example in read_examples(path, task).examples] == [text for text, _ in ROWS]
    checked = superpos("data", "check", tmp_path / "mood.yaml", "--backbone", tiny_t5)
    assert "train.csv: read with separator ';', encoding cp1252, 1 blank line skipped" in " ".join(
        checked.stderr.split()
    )


def test_the_check_reports_a_guess_to_programs_too(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(table(ROWS, ",").encode("cp1252"))
    task = task_of(path)
    found = check_rows(task, locate(task.data), view=view_of())
    assert "(a guess: set data.encoding if characters look wrong)" in found.notes[0]
    assert found.num_errors == 0
