"""The division of labelled rows into those to train on, to choose by and to report."""

import hashlib
from pathlib import Path

import pytest
from support.data import jsonl_with, read_split, task_of, write_jsonl

from training.data.examples import Example, read_examples
from training.data.splits import MAX_HELD_OUT, Split, SplitRows
from training.errors import InvalidData
from training.task.task_file import TaskFile


def numbered(path: Path, count: int, *, start: int = 0) -> Path:
    """Rows that tell each other apart by a number."""
    write_jsonl(path, [{"text": f"{start + n}", "label": "sun" if n % 2 else "rain"} for n in range(count)])
    return path


@pytest.fixture
def two_files(tmp_path: Path) -> TaskFile:
    """A task of 60 training and 25 validation rows."""
    return task_of(numbered(tmp_path / "train.jsonl", 60), numbered(tmp_path / "val.jsonl", 25, start=1_000))


@pytest.fixture
def one_file(tmp_path: Path) -> TaskFile:
    """A task of 100 training rows and no validation file."""
    return task_of(numbered(tmp_path / "train.jsonl", 100))


def all_examples(path: str, task: TaskFile) -> tuple[Example, ...]:
    return read_examples(Path(path), task).examples


def test_honest_chooses_on_training_rows_held_out_and_reports_on_validation(two_files: TaskFile) -> None:
    rows = read_split(two_files, split="honest", seed=0)
    train, report = (all_examples(str(path), two_files) for path in (two_files.data.train, two_files.data.validation))
    assert rows.report == report
    assert (len(rows.train), len(rows.selection)) == (54, 6)
    assert set(rows.train) | set(rows.selection) == set(train)
    assert set(rows.train).isdisjoint(rows.selection)


def test_paper_chooses_on_the_rows_it_reports(two_files: TaskFile) -> None:
    rows = read_split(two_files, split="paper", seed=0)
    assert rows.selection == rows.report
    assert len(rows.report) == 25
    assert set(rows.train) == set(all_examples(two_files.data.train, two_files))


@pytest.mark.parametrize(("split", "sizes"), [("honest", (81, 9, 10)), ("paper", (90, 10, 10))])
def test_without_a_validation_file_one_is_carved_out_of_training(
    one_file: TaskFile, split: Split, sizes: tuple[int, int, int]
) -> None:
    rows = read_split(one_file, split=split, seed=0)
    assert (len(rows.train), len(rows.selection), len(rows.report)) == sizes
    assert set(rows.train) | set(rows.selection) | set(rows.report) == set(all_examples(one_file.data.train, one_file))
    assert set(rows.train).isdisjoint(rows.report)
    assert set(rows.train).isdisjoint(rows.selection)
    if split == "honest":
        assert set(rows.selection).isdisjoint(rows.report)


@pytest.mark.parametrize("split", ["honest", "paper"])
def test_one_seed_draws_the_same_rows_and_another_draws_others(one_file: TaskFile, split: Split) -> None:
    first, again, other = (read_split(one_file, split=split, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first.train != other.train
    assert set(first.report) != set(other.report)


def test_held_out_rows_are_drawn_and_not_the_first(two_files: TaskFile) -> None:
    rows = read_split(two_files, split="honest", seed=0)
    assert set(rows.selection) != set(all_examples(two_files.data.train, two_files)[:6])


def test_a_limit_cuts_training_rows_alone(two_files: TaskFile) -> None:
    whole, cut = (read_split(two_files, split="honest", seed=5, limit=limit) for limit in (None, 20))
    assert len(cut.train) == 20
    assert set(cut.train) < set(whole.train)
    assert (cut.selection, cut.report) == (whole.selection, whole.report)
    assert cut.described["train_rows"] == 20
    assert cut.described["train_sha256"] == whole.described["train_sha256"]


def test_a_limit_beyond_the_rows_changes_nothing(two_files: TaskFile) -> None:
    assert read_split(two_files, split="honest", seed=5, limit=10_000) == read_split(two_files, split="honest", seed=5)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_that_leaves_no_row_to_train_on_is_refused(two_files: TaskFile, limit: int) -> None:
    with pytest.raises(InvalidData):
        read_split(two_files, split="honest", seed=0, limit=limit)


def test_held_out_rows_are_capped(tmp_path: Path) -> None:
    task = task_of(numbered(tmp_path / "train.jsonl", MAX_HELD_OUT * 10 + 2_000))
    rows = read_split(task, split="honest", seed=0)
    assert len(rows.selection) == len(rows.report) == MAX_HELD_OUT


@pytest.mark.parametrize("split", ["honest", "paper"])
def test_too_few_rows_to_hold_any_out_are_refused(tmp_path: Path, split: Split) -> None:
    path = numbered(tmp_path / "train.jsonl", 9)
    with pytest.raises(InvalidData) as caught:
        read_split(task_of(path), split=split, seed=0)
    assert str(caught.value).startswith(f"{path}: 9 rows are too few")


def test_few_rows_are_enough_where_none_is_held_out(tmp_path: Path) -> None:
    task = task_of(numbered(tmp_path / "train.jsonl", 3), numbered(tmp_path / "val.jsonl", 1, start=10))
    rows = read_split(task, split="paper", seed=0)
    assert (len(rows.train), len(rows.report)) == (3, 1)


def test_what_a_split_is_made_of_is_described_with_checksums(two_files: TaskFile) -> None:
    rows = read_split(two_files, split="honest", seed=0)
    assert two_files.data.validation is not None
    assert rows.described == {
        "split": "honest",
        "train_file": "train.jsonl",
        "train_sha256": hashlib.sha256(Path(two_files.data.train).read_bytes()).hexdigest(),
        "validation_file": "val.jsonl",
        "validation_sha256": hashlib.sha256(Path(two_files.data.validation).read_bytes()).hexdigest(),
        "division": "stratified",
        "train_rows": 54,
        "selection_rows": 6,
        "report_rows": 25,
    }


def test_a_split_of_one_file_describes_no_other(one_file: TaskFile) -> None:
    rows: SplitRows = read_split(one_file, split="paper", seed=0)
    assert rows.described["split"] == "paper"
    assert not any(key.startswith("validation") for key in rows.described)


def test_a_bad_validation_row_is_refused_by_its_own_file(tmp_path: Path) -> None:
    bad = jsonl_with(tmp_path / "val.jsonl", b'{"text": "wet", "label": "snow"}')
    with pytest.raises(InvalidData) as caught:
        read_split(task_of(numbered(tmp_path / "train.jsonl", 30), bad), split="honest", seed=0)
    assert str(caught.value).startswith(f"{bad}: line 3: field 'label' is 'snow'")


def test_a_cut_report_is_the_same_rows_under_every_seed_and_says_out_of_how_many(two_files: TaskFile) -> None:
    first, second = (read_split(two_files, split="honest", seed=seed, max_report=10) for seed in (0, 1))
    assert first.report == second.report
    assert len(set(first.report)) == 10
    assert first.described["report_drawn_from"] == 25
    assert first.train != second.train
    whole = read_split(two_files, split="honest", seed=0, max_report=25)
    assert len(whole.report) == 25
    assert "report_drawn_from" not in whole.described


def test_a_cut_selection_leaves_its_other_rows_out_of_training_too(two_files: TaskFile) -> None:
    whole, cut = (read_split(two_files, split="honest", seed=0, max_selection=count) for count in (None, 4))
    assert cut.selection == whole.selection[:4]
    assert cut.train == whole.train


def test_under_paper_a_cut_report_is_what_chooses(two_files: TaskFile) -> None:
    rows = read_split(two_files, split="paper", seed=0, max_selection=3, max_report=10)
    assert rows.selection == rows.report
    assert len(rows.report) == 10


@pytest.mark.parametrize("name", ["max_selection", "max_report"])
def test_no_rows_to_evaluate_on_are_refused(two_files: TaskFile, name: str) -> None:
    with pytest.raises(InvalidData, match=f"{name} is 0, expected at least 1 row"):
        read_split(two_files, split="honest", seed=0, **{name: 0})


def test_a_cut_report_keeps_whole_groups(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "val.jsonl", [{"text": f"{n}", "label": "sun", "page": f"{n // 4}"} for n in range(40)])
    task = task_of(tmp_path / "val.jsonl", tmp_path / "val.jsonl", group="page")
    report = read_split(task, split="paper", seed=0, max_report=15).report
    assert len(report) == 12
    assert all(sum(row.group == example.group for row in report) == 4 for example in report)


@pytest.mark.parametrize("has_validation", [True, False])
def test_groups_that_leave_no_row_to_train_on_are_refused(tmp_path: Path, has_validation: bool) -> None:
    train = tmp_path / "train.jsonl"
    write_jsonl(train, [{"text": f"{n}", "label": "sun", "page": "one"} for n in range(30)])
    task = task_of(train, train if has_validation else None, group="page")
    with pytest.raises(InvalidData) as caught:
        read_split(task, split="honest", seed=0)
    told = "a tenth of 30 rows in whole groups is 30 rows, which leaves no training rows"
    assert str(caught.value) == f"{train}: {told}"


@pytest.mark.parametrize("split", ["honest", "paper"])
def test_shots_are_rows_of_each_label_drawn_by_the_seed(two_files: TaskFile, split: Split) -> None:
    rows = read_split(two_files, split=split, seed=0, shots=2)
    assert sorted(example.label for example in rows.train) == [0, 0, 1, 1]
    assert rows.described["shots"] == 2
    assert rows.train == read_split(two_files, split=split, seed=0, shots=2).train
    assert rows.train != read_split(two_files, split=split, seed=1, shots=2).train
    assert rows.report == read_split(two_files, split=split, seed=0).report
    assert set(rows.train) < set(read_split(two_files, split=split, seed=0).train)
    if split == "honest":
        assert sorted(example.label for example in rows.selection) == [0, 0, 1, 1]


def test_more_shots_than_a_label_has_rows_are_refused_with_its_count(two_files: TaskFile) -> None:
    with pytest.raises(InvalidData, match="shots is 28, but too few training rows: label 'sun' has 27, 'rain' has 27"):
        read_split(two_files, split="honest", seed=0, shots=28)
    with pytest.raises(InvalidData, match="limit is 5 and shots 2: both say how many rows to train on"):
        read_split(two_files, split="honest", seed=0, shots=2, limit=5)
    with pytest.raises(InvalidData, match="shots is 0, expected at least 1 row"):
        read_split(two_files, split="honest", seed=0, shots=0)
