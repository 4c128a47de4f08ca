"""A missing value is the same in every format, and a missing label is an error with its row."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from support.cli import superpos
from support.data import Row, refusal, task_of, view_of

from adapters import TaskSpec
from training.data.examples import read_examples
from training.data.sources import RowSources, locate
from training.data.task_init.draft import Draft, draft_task
from training.data.validation.check import check_rows

NAN = float("nan")
FORMATS = ["csv", "tsv", "jsonl", "parquet"]


def write(path: Path, rows: Sequence[Row]) -> Path:
    """Write rows with the values that the format has for a missing one."""
    if path.suffix == ".parquet":
        table = pyarrow.table({name: pyarrow.array([row[name] for row in rows], from_pandas=False) for name in rows[0]})
        pyarrow.parquet.write_table(table, path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        separator = "," if path.suffix == ".csv" else "\t"
        lines = [rows[0].keys(), *(row.values() for row in rows)]
        path.write_text("".join(separator.join(map(_text, line)) + "\n" for line in lines))
    return path


def _text(cell: object) -> str:
    return "" if cell in (None, NAN) else str(cell)


def draft(path: Path) -> Draft:
    return draft_task(
        RowSources((path,)),
        {"train": path.name},
        name="task",
        token_ids=lambda texts: [[1, 1] for _ in texts],
        can_tell_apart=bool,
    )


# a Parquet column of text has null only; numbers are below
MISSING_TEXT = [
    (suffix, missing)
    for suffix in FORMATS
    for missing in (None, NAN, "", "  ")
    if (suffix, missing) != ("parquet", NAN)
]


@pytest.mark.parametrize(("suffix", "missing"), MISSING_TEXT)
def test_a_missing_label_is_an_error_with_its_row_in_every_format(tmp_path: Path, suffix: str, missing: object) -> None:
    rows = [{"text": "clear", "label": "sun"}, {"text": "wet", "label": missing}]
    path = write(tmp_path / f"rows.{suffix}", rows)
    message = refusal(path)
    assert message.startswith(("line 3: ", "line 2: ", "row 2: "))
    assert "field 'label' is " in message
    assert message.endswith("expected one of sun, rain (the label is missing)")


@pytest.mark.parametrize("missing", [None, NAN])
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_missing_number_is_no_label_and_leaves_the_others_what_they_were(
    tmp_path: Path, suffix: str, missing: object
) -> None:
    """A column of integers with a missing one is a column of floats to pandas: 1.0 is the label 1."""
    rows = [{"text": "a", "label": 1.0}, {"text": "b", "label": 0.0}]
    values = {"0": "sun", "1": "rain"} if suffix in ("jsonl", "parquet") else {"0.0": "sun", "1.0": "rain"}
    path = write(tmp_path / f"rows.{suffix}", rows)
    assert [example.label for example in read_examples(path, task_of(path, label_values=values)).examples] == [1, 0]
    write(path, [*rows, {"text": "c", "label": missing}])
    assert "(the label is missing)" in refusal(path, label_values=values)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_not_a_number_is_not_the_label_called_nan(tmp_path: Path, suffix: str) -> None:
    """An earlier draft may have made a label of it."""
    spec = TaskSpec(template="{text}", labels={"nan": "none", "1.0": "one"}, max_tokens=8)
    path = write(tmp_path / f"rows.{suffix}", [{"text": "a", "label": 1.0}, {"text": "b", "label": NAN}])
    assert "(the label is missing)" in refusal(path, spec=spec)


@pytest.mark.parametrize("missing", [None, NAN])
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_missing_group_is_an_error_with_its_row_in_every_format(tmp_path: Path, suffix: str, missing: object) -> None:
    rows = [{"text": "a", "label": "sun", "page": 1.0}, {"text": "b", "label": "sun", "page": missing}]
    assert "expected the group of the row" in refusal(write(tmp_path / f"rows.{suffix}", rows), group="page")


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_missing_text_is_an_error_with_its_row(tmp_path: Path, suffix: str) -> None:
    rows = [{"text": "a", "label": "sun"}, {"text": None, "label": "sun"}]
    assert "2: field 'text' is None, expected text" in refusal(write(tmp_path / f"rows.{suffix}", rows))


@pytest.mark.parametrize(
    ("labels", "suffix", "missing"),
    [
        (labels, suffix, missing)
        for labels in (("good", "bad"), (1.0, 0.0), (2.0, 5.0))
        for suffix in FORMATS
        for missing in (None, NAN)
        if (suffix, missing) != ("parquet", NAN) or not isinstance(labels[0], str)
    ],
)
def test_a_missing_label_becomes_no_class_of_a_drafted_task(
    tmp_path: Path, suffix: str, missing: object, labels: tuple[object, object]
) -> None:
    rows = [{"text": f"some text {n}", "label": labels[n % 2]} for n in range(20)]
    drafted = draft(write(tmp_path / f"rows.{suffix}", [*rows, {"text": "without", "label": missing}]))
    assert not {"nan", "None", ""} & {*drafted.labels.words, *drafted.labels.values}
    assert drafted.to_edit[-1] == "rows without a label: 1; training refuses them, so label or remove them"


@pytest.mark.parametrize("word", ["NaN", "None", "<NA>", "null"])
def test_a_word_for_a_missing_value_is_a_label_that_is_asked_about(tmp_path: Path, word: str) -> None:
    """Text of a CSV may be a name: `None` is an emotion to one author and a missing value to another."""
    rows = [{"text": f"some text {n}", "label": ["good", "bad", word][n % 3]} for n in range(21)]
    drafted = draft(write(tmp_path / "rows.csv", rows))
    assert word in drafted.labels.words
    assert drafted.to_edit[-1].startswith(f"{word}: remove the label and its rows if")


def test_the_check_counts_rows_without_a_label_apart_from_unknown_labels(tmp_path: Path) -> None:
    rows = [{"text": f"{n}", "label": "sun"} for n in range(20)]
    path = write(tmp_path / "rows.jsonl", [*rows, {"text": "a", "label": NAN}, {"text": "b", "label": "snow"}])
    task = task_of(path)
    found = check_rows(task, locate(task.data), view=view_of())
    errors = {each.code: each for each in found.findings if each.level == "error"}
    assert list(errors) == ["missing-label", "unknown-label"]
    assert errors["missing-label"].examples[0].startswith("rows.jsonl: line 21: field 'label' is nan")


def test_a_data_check_of_a_parquet_with_missing_labels_ends_with_status_1(tmp_path: Path, tiny_t5: Path) -> None:
    rows = [{"text": f"the city {n}", "y": float(n % 2)} for n in range(20)]
    write(tmp_path / "train.parquet", [*rows, {"text": "a", "y": NAN}])
    (tmp_path / "mood.yaml").write_text(
        "name: mood\ntemplate: '{text}'\nlabels: {positive: positive, negative: negative}\n"
        "data: {train: train.parquet, label: y, label_values: {'0': negative, '1': positive}}\n"
    )
    answer = superpos("data", "check", tmp_path / "mood.yaml", "--backbone", tiny_t5)
    assert answer.code == 1
    assert "missing-label" in answer.stdout
