"""When rows are few, and the folds that they are cross-validated in."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.examples import Example
from training.data.few_rows import (
    FEW_PER_LABEL,
    MAX_FEW_ROWS,
    MAX_FEW_SCORES,
    MIN_SELECTION_ROWS,
    NUM_FOLDS,
    few_row_folds,
)


def examples(count: int, *, labels: int = 2, start: int = 0) -> list[Example]:
    return [Example(f"row {start + n}", n % labels) for n in range(count)]


@pytest.mark.parametrize(
    ("train", "selection", "labels", "few"),
    [
        (FEW_PER_LABEL * 2, MIN_SELECTION_ROWS - 1, 2, True),
        (FEW_PER_LABEL * 2, MIN_SELECTION_ROWS, 2, False),
        (FEW_PER_LABEL * 10 - 101, 100, 10, True),
        (FEW_PER_LABEL * 10 - 100, 100, 10, False),
        (MAX_FEW_ROWS, 10, 2, False),
        (MAX_FEW_ROWS - 10, 10, 2, True),
        (MAX_FEW_SCORES // 77 - 100, 100, 77, True),
        (MAX_FEW_SCORES // 77 - 99, 100, 77, False),
        (8, 8, 2, True),
        (8, 9, 2, False),  # a limit of training rows keeps the selection rows out of the fit
    ],
)
def test_rows_are_few_by_label_or_if_few_of_them_select(train: int, selection: int, labels: int, few: bool) -> None:
    folds = few_row_folds(examples(train, labels=labels), examples(selection, labels=labels, start=train))
    assert (folds is not None) == few
    if folds is not None:
        assert folds.shape == (train + selection,)
        assert set(folds) == set(range(NUM_FOLDS))


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), st.integers(0, 12)), min_size=12, max_size=60),
)
def test_neither_groups_nor_equal_texts_are_parted(rows: list[tuple[int, int, int]]) -> None:
    made = [Example(f"text {text}", label, f"group {group}") for label, group, text in rows]
    folds = few_row_folds(made[:8], made[8:12] if len(made) < 16 else made[8:])
    if folds is None:
        return
    for attribute in ("group", "text"):
        places: dict[object, set[int]] = {}
        for example, fold in zip(made, folds.tolist(), strict=False):
            places.setdefault(getattr(example, attribute), set()).add(fold)
        assert all(len(found) == 1 for found in places.values())


def test_folds_have_the_labels_in_proportion_and_the_same_rows_every_time() -> None:
    train, selection = examples(60, labels=3), examples(12, labels=3, start=60)
    folds = few_row_folds(train, selection)
    assert folds is not None
    for fold in range(NUM_FOLDS):
        counts = Counter(each.label for each, its in zip([*train, *selection], folds, strict=True) if its == fold)
        assert max(counts.values()) - min(counts[label] for label in range(3)) <= 1
    again = few_row_folds(train, selection)
    assert np.array_equal(folds, again)


def test_rows_with_several_labels_are_spread_by_their_rarest() -> None:
    rows = [Example(f"row {n}", (0, 1) if n % 8 == 0 else (0,)) for n in range(80)]
    folds = few_row_folds(rows[:72], rows[72:])
    assert folds is not None
    rare = Counter(int(fold) for example, fold in zip(rows, folds, strict=True) if 1 in example.labels)
    assert set(rare.values()) == {2}


def test_one_group_has_no_folds() -> None:
    rows = [Example(f"row {n}", n % 2, "the only one") for n in range(20)]
    assert few_row_folds(rows[:18], rows[18:]) is None
