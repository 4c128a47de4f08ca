"""Any table that pandas writes is read back with the same rows and labels, or refused with the line at fault."""

import csv
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.data import task_of

from training.data.examples import read_examples
from training.errors import InvalidData

Cell = str | None
Rows = Sequence[tuple[str, Cell]]

OFFICE = "".join(bytes([byte]).decode("cp1252", "ignore") for byte in range(256))
LABELS = st.sampled_from(["sun", "rain"])
MISSING = st.one_of(LABELS, LABELS, LABELS, st.none(), st.sampled_from(["", " "]))


def texts(alphabet: str | None = None) -> st.SearchStrategy[str]:
    """Texts with an eye for what formats trip over."""
    characters = st.characters(codec="utf-8") if alphabet is None else st.sampled_from(alphabet)
    tricky = st.sampled_from(['"', '""', "\t", ";", ",", "|", "\n", "\r", "\r\n", " ", "sun", "\0", "{", "é"])
    return st.lists(st.one_of(characters, tricky), max_size=12).map("".join)


def tables(alphabet: str | None = None) -> st.SearchStrategy[Rows]:
    return st.lists(st.tuples(texts(alphabet), MISSING), min_size=1, max_size=6)


def read_back(path: Path, **source: object) -> list[tuple[str, str]] | None:
    """The rows of a file, or None if it is refused with its path and a line or row."""
    task = task_of(path, **source)
    try:
        found = read_examples(path, task).examples
    except InvalidData as exc:
        refusal = str(exc)
    else:
        return [(example.fields["text"], task.spec.label_names[example.label]) for example in found]
    assert re.match(rf"{re.escape(str(path))}: (line|row) \d+", refusal), refusal
    return None


def check(rows: Rows, path: Path, **source: object) -> None:
    found = read_back(path, **source)
    if any(label is None or not label.strip() for _, label in rows):
        assert found is None
    elif all(re.fullmatch(r"[^\W\d]+( [^\W\d]+)*", text) for text, _ in rows):
        assert found == list(rows)
    else:
        assert found in (None, list(rows))


def _is_utf8(path: Path) -> bool:
    """Whether the bytes are UTF-8 too, by chance: `Ã©` in Windows-1252 is `é`."""
    try:
        path.read_bytes().decode()
    except UnicodeDecodeError:
        return False
    return True


def framed(rows: Rows) -> pandas.DataFrame:
    return pandas.DataFrame(rows, columns=["text", "label"])


quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.slow
@quick
@given(
    rows=tables(),
    name=st.sampled_from(["rows.csv", "rows.tsv"]),
    separator=st.sampled_from([",", ";", "\t", "|"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
)
def test_a_table_written_as_csv_or_tsv_is_read_back_or_refused_with_a_line(
    *, rows: Rows, name: str, separator: str, quoting: int, end: str, encoding: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, frame = Path(folder) / name, framed(rows)
        frame.to_csv(path, sep=separator, index=False, quoting=quoting, lineterminator=end, encoding=encoding)
        check(rows, path)


@pytest.mark.slow
@quick
@given(rows=tables(OFFICE), separator=st.sampled_from([",", ";"]), is_set=st.booleans())
def test_a_table_in_windows_1252_is_read_back_or_refused_or_said_to_be_a_guess(
    rows: Rows, separator: str, is_set: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, frame = Path(folder) / "rows.csv", framed(rows)
        frame.to_csv(path, sep=separator, index=False, encoding="cp1252")
        if is_set:
            check(rows, path, encoding="cp1252")
        elif not _is_utf8(path) and read_back(path) not in (None, list(rows)):
            assert "(a guess: " in read_examples(path, task_of(path)).notes[0]


@pytest.mark.slow
@quick
@given(rows=tables(), force_ascii=st.booleans(), encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_a_table_written_as_json_lines_is_read_back_or_refused_with_a_line(
    rows: Rows, force_ascii: bool, encoding: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, frame = Path(folder) / "rows.jsonl", framed(rows)
        text = frame.to_json(orient="records", lines=True, force_ascii=force_ascii)
        path.write_text(text, encoding=encoding, newline="")
        check(rows, path)


@pytest.mark.slow
@quick
@given(rows=tables())
def test_a_table_written_as_parquet_is_read_back_or_refused_with_a_row(rows: Rows) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, frame = Path(folder) / "rows.parquet", framed(rows)
        frame.to_parquet(path, index=False)
        check(rows, path)
