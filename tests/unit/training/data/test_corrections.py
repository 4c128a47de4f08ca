"""Corrections as training rows: added, never reported on, and of the task's own labels."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from support.data import read_split, task_of

from training.data.examples import text_key
from training.errors import InvalidData
from training.task.task_file import TaskFile, load_task_file


def rows(folder: Path, name: str, texts: Sequence[tuple[str, str]]) -> Path:
    path = folder / name
    path.write_text("".join(f"{json.dumps({'text': text, 'label': label})}\n" for text, label in texts))
    return path


def exported(folder: Path, corrections: Sequence[tuple[Mapping[str, str], object]]) -> Path:
    """A file as `superpos feedback export` writes it."""
    path = folder / "weather-corrections-7.jsonl"
    lines = [{"id": str(n), "input": text, "label": label} for n, (text, label) in enumerate(corrections)]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


@pytest.fixture
def task(tmp_path: Path) -> TaskFile:
    """A task with forty training rows, ten validation rows, and corrections of every kind."""
    train = rows(tmp_path, "train.jsonl", [(f"a day {n}", ("sun", "rain")[n % 2]) for n in range(40)])
    validation = rows(tmp_path, "validation.jsonl", [(f"a night {n}", ("sun", "rain")[n % 2]) for n in range(10)])
    corrections = exported(
        tmp_path,
        [
            ({"text": "a new text"}, "rain"),
            ({"text": "A  NEW text"}, "sun"),  # of the same text, and older
            ({"text": "a day 3"}, "sun"),
            ({"text": "a day 5"}, "sun"),
            ({"text": "a night 1"}, "sun"),  # is reported on
            ({"text": "another text"}, "snow"),
        ],
    )
    return task_of(train, validation, corrections=str(corrections))


def test_corrections_are_trained_on_and_replace_rows_of_the_same_text(task: TaskFile) -> None:
    plain = task.model_copy(update={"data": task.data.model_copy(update={"corrections": None})})
    before, after = read_split(plain, split="honest", seed=0), read_split(task, split="honest", seed=0)
    assert (after.selection, after.report) == (before.selection, before.report)
    labels = {text_key(example.text): example.label for example in after.train}
    assert len(labels) == len(after.train)
    assert labels["text: a new text"] == 1, "the latest correction of a text counts"
    held = {text_key(example.text) for example in (*after.selection, *after.report)}
    for text in ("text: a day 3", "text: a day 5"):
        assert (labels.get(text) == 0) is (text not in held)
    assert "text: a night 1" in held
    assert "text: a night 1" not in labels
    trained = [text for text in ("text: a new text", "text: a day 3", "text: a day 5") if text not in held]
    assert after.described["corrections_rows"] == len(trained)
    assert after.described["corrections_file"] == "weather-corrections-7.jsonl"
    assert len(str(after.described["corrections_sha256"])) == 64
    assert "corrections_sha256" not in before.described
    notes = "\n".join(after.notes)
    assert "the task has no label 'snow' (1)" in notes
    assert "corrections are left out: selection or report rows have their texts" in notes


def test_a_limit_is_of_the_rows_and_not_of_the_corrections(task: TaskFile) -> None:
    found = read_split(task, split="honest", seed=0, limit=10)
    assert found.described["limit"] == 10
    assert len(found.train) > 10


@pytest.mark.parametrize(
    ("row", "mention"),
    [
        ({"input": {"text": "a"}}, "field 'label' is None"),
        ({"input": {"text": "a"}, "label": 3}, "field 'label' is 3"),
        ({"input": {"other": "a"}, "label": "sun"}, "no field 'input.text'"),
        ({"text": "a", "label": "sun"}, "no field 'input.text'"),
    ],
)
def test_a_file_that_is_no_export_is_refused_with_the_row(
    tmp_path: Path, task: TaskFile, row: dict[str, object], mention: str
) -> None:
    path = tmp_path / "wrong.jsonl"
    path.write_text(f"{json.dumps(row)}\n")
    wrong = task.model_copy(update={"data": task.data.model_copy(update={"corrections": str(path)})})
    with pytest.raises(InvalidData, match=r"wrong\.jsonl: ") as caught:
        read_split(wrong, split="honest", seed=0)
    assert mention in str(caught.value)


def test_a_task_file_names_corrections_by_a_path_of_its_own(tmp_path: Path) -> None:
    rows(tmp_path, "train.jsonl", [("a", "sun")])
    path = tmp_path / "task.yaml"
    path.write_text(
        'name: weather\ntemplate: "text: {text}"\nlabels: {sun: sunny, rain: rainy}\n'
        "data: {train: train.jsonl, corrections: weather-corrections-7.jsonl}\n"
    )
    found = load_task_file(path, variables={}).data.corrections
    assert found == str(tmp_path / "weather-corrections-7.jsonl")
