"""Rows of multi-label tasks: lists, separators, unknown labels, divisions that keep rare labels, faults, drafts."""

import json
from collections import Counter
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from support.data import read_split, refusal, task_of, view_of, write_jsonl

from adapters import TaskSpec
from training.data.examples import read_examples
from training.data.folds import Fold, deal
from training.data.row_files import RowFiles
from training.data.sources import locate
from training.data.task_init.columns import as_list, columns_of
from training.data.task_init.draft import Draft, draft_task
from training.data.task_init.writing import task_file_text
from training.data.validation.check import check_rows
from training.errors import InvalidTaskFile
from training.task.task_file import TaskFile, parse_task_file

SPEC = TaskSpec(
    template="text: {text}",
    labels={"sun": "sunny", "rain": "rainy", "wind": "windy"},
    kind="multi_label",
    max_tokens=32,
)


def labels_of(path: Path, **source: object) -> list[int | tuple[int, ...]]:
    return [example.label for example in read_examples(path, task_of(path, spec=SPEC, **source)).examples]


def test_a_column_of_lists_is_read_from_jsonl_and_parquet(tmp_path: Path) -> None:
    lists = [["rain", "sun"], [], ["wind"], ["wind", "wind"]]
    rows = [{"text": f"row {i}", "label": value} for i, value in enumerate(lists)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    for name in ("rows.jsonl", "rows.parquet"):
        assert labels_of(tmp_path / name) == [(0, 1), (), (2,), (2,)]


def test_lists_of_class_numbers_have_the_names_that_the_file_carries(tmp_path: Path) -> None:
    table = pyarrow.table({"text": ["a", "b"], "label": [[0, 2], [1]]})
    for feature in (
        {"feature": {"names": ["sun", "rain", "wind"], "_type": "ClassLabel"}, "_type": "Sequence"},
        [{"names": ["sun", "rain", "wind"], "_type": "ClassLabel"}],
    ):
        described = {b"huggingface": json.dumps({"info": {"features": {"label": feature}}}).encode()}
        pyarrow.parquet.write_table(table.replace_schema_metadata(described), tmp_path / "rows.parquet")
        assert labels_of(tmp_path / "rows.parquet") == [(0, 2), (1,)]
    write_jsonl(tmp_path / "rows.jsonl", [{"text": "a", "label": [0, 2]}])
    assert labels_of(tmp_path / "rows.jsonl", label_values={"0": "sun", "2": "wind"}) == [(0, 2)]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("sun|rain", (0, 1)),
        (" wind | sun ", (0, 2)),
        ("rain", (1,)),
        ("", ()),
        ('"[""sun"", ""wind""]"', (0, 2)),
        ("\"['sun', 'wind']\"", (0, 2)),
        ("[]", ()),
    ],
)
def test_a_cell_of_text_has_labels_with_a_separator_or_a_written_list(
    tmp_path: Path, cell: str, expected: tuple[int, ...]
) -> None:
    (tmp_path / "rows.csv").write_text(f"text,label\nclear,{cell}\n", encoding="utf-8")
    assert labels_of(tmp_path / "rows.csv") == [expected]


def test_the_task_file_names_another_separator(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text;label\nclear;sun, wind\n", encoding="utf-8")
    assert labels_of(tmp_path / "rows.csv", label_separator=",") == [(0, 2)]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["sun", "snow"], "field 'label' has the label 'snow', expected any of sun, rain, wind"),
        ("sun|snow", "field 'label' has the label 'snow', expected any of sun, rain, wind"),
        ("sun||rain", "field 'label' has the label '', expected any of sun, rain, wind"),
        (["sun", None], "field 'label' has the label None, expected any of sun, rain, wind"),
        (None, "field 'label' is None, expected a list of labels, [] for none"),
        ({"sun": 1}, "field 'label' is {'sun': 1}, expected a list of labels"),
        (7, "field 'label' is 7, expected a list of labels"),
    ],
)
def test_a_row_whose_labels_are_not_the_tasks_is_refused_with_row_value_and_labels(
    tmp_path: Path, value: object, message: str
) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"text": "clear", "label": ["sun"]}, {"text": "grey", "label": value}])
    assert refusal(path, spec=SPEC) == f"line 2: {message}"


def many(path: Path, *, count: int = 300, every: int = 60) -> Path:
    """Rows of which few have `wind`, always with another label, and a fifth have none."""
    rows = [
        {"text": f"row {i}", "label": [*(["sun"] if i % 2 else []), *(["rain"] if i % 5 in (1, 2, 3) else [])]}
        for i in range(count)
    ]
    for i in range(0, count, every):
        rows[i]["label"] = ["sun", "wind"]
    write_jsonl(path, rows)
    return path


def test_held_out_rows_keep_the_share_of_every_label_and_leave_rare_ones_to_training(tmp_path: Path) -> None:
    task = task_of(many(tmp_path / "rows.jsonl", every=30), spec=SPEC)
    whole = Counter(label for example in RowFiles(task).train.examples for label in example.labels)
    for seed in range(5):
        rows = read_split(task, split="honest", seed=seed)
        for part in (rows.report, rows.selection):
            counts = Counter(label for example in part for label in example.labels)
            assert counts[2] == 1  # a tenth of ten
            for label in (0, 1):
                assert counts[label] == pytest.approx(whole[label] / 10, abs=4)
    rare = task_of(many(tmp_path / "rare.jsonl", every=150), spec=SPEC)
    for seed in range(5):
        rows = read_split(rare, split="honest", seed=seed)
        assert any(2 in example.labels for example in rows.train)
        assert not any("without a training row" in note for note in rows.notes)


def test_folds_share_the_rows_of_every_label(tmp_path: Path) -> None:
    task = task_of(many(tmp_path / "rows.jsonl"), spec=SPEC)
    for part in deal(RowFiles(task).train.examples, 5, seed=0):
        assert sum(2 in example.labels for example in part) == 1
        assert len(part) == pytest.approx(60, abs=1)
    rows = read_split(task, split="kfold", seed=0, fold=Fold(number=2, of=5))
    assert sum(2 in example.labels for example in rows.report) == 1


def findings(task: TaskFile) -> dict[str, tuple[str, ...]]:
    checked = check_rows(task, locate(task.data), view=view_of())
    return {each.code: (each.level, each.message, *each.examples) for each in checked.findings}


def test_the_check_names_unknown_labels_one_by_one_and_rows_that_say_nothing(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"text": f"row {i}", "label": ["sun"]} for i in range(30)]
    rows += [{"text": "a", "label": ["sun", "rian"]}, {"text": "b", "label": None}, {"text": "c", "label": 7}]
    rows += [{"text": "row 1", "label": ["sun", "rain"]}, {"text": "row 2", "label": ["sun"]}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    found = findings(task_of(tmp_path / "rows.jsonl", spec=SPEC))
    assert found["unknown-label"][2] == "rows.jsonl: line 31: 'rian', did you mean 'rain'?"
    assert found["missing-label"][2].startswith("rows.jsonl: line 32: field 'label' is None")
    assert found["bad-row"][2].startswith("rows.jsonl: line 33: field 'label' is 7, expected a list of labels")
    assert "['rain', 'sun'], rows.jsonl: line 2 ['sun']" in found["conflicting-row"][2]
    assert "rows.jsonl: line 35 repeats" in found["duplicate-row"][2]
    assert found["label-in-every-row"][2] == "'sun'"
    assert found["label-without-rows"][2] == "'wind'"


def test_a_file_whose_rows_mostly_have_no_label_is_a_warning(tmp_path: Path) -> None:
    blank = "".join(f"row {i},\n" for i in range(20))
    (tmp_path / "rows.csv").write_text(f"text,label\n{blank}clear,sun\n", encoding="utf-8")
    found = findings(task_of(tmp_path / "rows.csv", spec=SPEC))
    assert found["no-label"][:2] == ("warning", "train: 95 % of the rows have no label")
    assert "missing-label" not in found


TASK_FILE = """\
name: weather
template: "text: {text}"
labels: [{name: sun, words: sunny}, {name: rain, words: rainy}]
kind: multi_label
data:
  train: rows.csv
"""


def parsed(text: str) -> TaskFile:
    return parse_task_file(text, path=Path("weather.yaml"), variables={})


def test_a_task_file_is_scored_by_micro_f1_unless_it_says_otherwise() -> None:
    assert parsed(TASK_FILE).metrics == ("micro_f1",)
    assert parsed(f"{TASK_FILE}metrics: [map, macro_f1]\n").metrics == ("map", "macro_f1")
    assert parsed(TASK_FILE).scoring.measured == ("micro_f1", "macro_f1", "map", "accuracy")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{TASK_FILE}metric: matthews\n", "matthews is not a metric of kind multi_label, expected one of accuracy, "),
        (
            TASK_FILE.replace("multi_label", "single_label") + "metric: map\n",
            "map is not a metric of kind single_label",
        ),
        (
            TASK_FILE.replace("multi_label", "single_label") + "  label_separator: ';'\n",
            "label_separator: ';' needs a task of kind multi_label",
        ),
        (TASK_FILE.replace("multi_label", "multilabel"), "'single_label', 'ordinal' or 'multi_label'"),
    ],
)
def test_a_task_file_that_contradicts_its_kind_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidTaskFile, match=message):
        parsed(text)


def draft(path: Path) -> Draft:
    task = task_of(path)
    return draft_task(
        locate(task.data),
        {"train": str(path)},
        name="weather",
        token_ids=lambda texts: [[1] * (len(text.split()) + 1) for text in texts],
        can_tell_apart=lambda words: True,
    )


def test_a_draft_of_rows_with_several_labels_is_a_multi_label_task_that_reads_them(tmp_path: Path) -> None:
    rows = [{"text": f"the weather of day {i}", "tags": ["sun", "wind"] if i % 3 else []} for i in range(40)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    cells = "".join(f"the weather of day {i},{'sun;wind' if i % 3 else 'wind'}\n" for i in range(40))
    (tmp_path / "rows.csv").write_text(f"text,labels\n{cells}", encoding="utf-8")
    for name, separator in (("rows.jsonl", None), ("rows.csv", ";")):
        made = draft(tmp_path / name)
        assert made.labels.kind == "multi_label"
        assert list(made.labels.words) == ["sun", "wind"]
        assert made.labels.separator == separator
        text = task_file_text(made, command="superpos task init rows")
        task = parse_task_file(text, path=tmp_path / "weather.yaml", variables={})
        assert task.spec.is_multi_label
        assert task.data.label_separator == separator
        assert len(read_examples(tmp_path / name, task).examples) == 40


def test_texts_and_names_with_commas_are_not_taken_for_lists() -> None:
    rows = [{"text": f"well, this is {i}", "label": "sun" if i % 2 else "rain, later"} for i in range(40)]
    text, label = columns_of(rows, {})
    assert as_list(text) is None
    assert as_list(label) is None
    (tags,) = columns_of([{"tags": value} for value in ("a, b", "b, c", "a", "c") * 5], {})
    assert as_list(tags) is not None
