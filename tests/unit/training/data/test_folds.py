"""Rows in folds: every row reported once, groups whole, labels in proportion; and what all folds come to."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.data import read_split, task_of, write_jsonl

from training.data.examples import Example
from training.data.folds import Fold, deal
from training.errors import InvalidData
from training.task.task_file import TaskFile

EXAMPLES = st.lists(st.tuples(st.integers(0, 2), st.one_of(st.none(), st.integers(0, 6))), min_size=2, max_size=80).map(
    lambda rows: [Example(str(n), label, None if g is None else str(g)) for n, (label, g) in enumerate(rows)]
)


@given(EXAMPLES, st.integers(2, 6), st.integers(0, 1_000))
def test_every_row_is_dealt_once_and_no_group_is_parted(examples: list[Example], folds: int, seed: int) -> None:
    dealt = deal(examples, folds, seed=seed)
    assert len(dealt) == folds
    assert sorted(example.text for fold in dealt for example in fold) == sorted(example.text for example in examples)
    places: dict[str, set[int]] = {}
    for index, fold in enumerate(dealt):
        for example in fold:
            places.setdefault(example.group or f"alone {example.text}", set()).add(index)
    assert all(len(found) == 1 for found in places.values())


@given(st.lists(st.integers(0, 3), min_size=2, max_size=80), st.integers(2, 6))
def test_the_labels_of_rows_without_groups_are_in_proportion(labels: list[int], folds: int) -> None:
    dealt = deal([Example(str(n), label) for n, label in enumerate(labels)], folds, seed=1)
    counts = [Counter(example.label for example in fold) for fold in dealt]
    for label in set(labels):
        assert max(count[label] for count in counts) - min(count[label] for count in counts) <= 1


@pytest.fixture
def grouped(tmp_path: Path) -> TaskFile:
    """120 rows in 40 groups of three, their labels by turns, and a validation file that nobody may read."""
    rows = [{"text": f"{n}", "label": "sun" if n % 2 else "rain", "of": n // 3} for n in range(120)]
    write_jsonl(tmp_path / "train.jsonl", rows)
    return task_of(tmp_path / "train.jsonl", tmp_path / "not there.jsonl", group="of")


def test_a_fold_is_reported_while_the_others_train_and_choose(grouped: TaskFile) -> None:
    splits = [read_split(grouped, split="kfold", seed=3, fold=Fold(number=n, of=4)) for n in range(1, 5)]
    texts = [{example.text for example in split.report} for split in splits]
    assert sum(map(len, texts)) == len(set.union(*texts)) == 120
    for split in splits:
        roles = [{example.group for example in part} for part in (split.train, split.selection, split.report)]
        assert not roles[0] & roles[1]
        assert not (roles[0] | roles[1]) & roles[2]
        assert len(split.train) + len(split.selection) + len(split.report) == 120
    assert (splits[1].described["split"], splits[1].described["fold"], splits[1].described["folds"]) == ("kfold", 2, 4)


def test_held_out_rows_take_their_whole_group_along(tmp_path: Path) -> None:
    rows = [{"text": f"{n}", "label": "sun", "of": n // 7} for n in range(70)]
    write_jsonl(tmp_path / "train.jsonl", rows)
    split = read_split(task_of(tmp_path / "train.jsonl", group="of"), split="honest", seed=0)
    groups = [{example.group for example in part} for part in (split.train, split.selection, split.report)]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]
    assert [len(split.selection), len(split.report)] == [7, 7]


@pytest.mark.parametrize(
    ("split", "fold", "expected"),
    [
        ("kfold", None, "split is 'kfold' and fold None"),
        ("honest", Fold(number=1, of=2), "a fold belongs to split 'kfold'"),
    ],
)
def test_folds_belong_to_their_split(grouped: TaskFile, split: str, fold: Fold | None, expected: str) -> None:
    with pytest.raises(InvalidData, match=expected):
        read_split(grouped, split=split, seed=0, fold=fold)


@pytest.mark.parametrize(("number", "of"), [(0, 2), (3, 2), (1, 1), (1, 101)])
def test_a_fold_that_cannot_be_is_refused(number: int, of: int) -> None:
    with pytest.raises(InvalidData, match=r"^folds? is "):
        Fold(number=number, of=of)


def test_more_folds_than_groups_are_refused(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", [{"text": "a", "label": "sun", "of": n % 3} for n in range(30)])
    task = task_of(tmp_path / "train.jsonl", group="of")
    with pytest.raises(InvalidData, match="too few groups for 5 folds"):
        read_split(task, split="kfold", seed=0, fold=Fold(number=1, of=5))
