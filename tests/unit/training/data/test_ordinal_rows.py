"""Scores on a grid and rows in groups: what an ordinal label, and what is judged together, is read from."""

from decimal import Decimal
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.data import refusal, task_of, write_jsonl

from adapters import TaskSpec
from training.data.examples import label_index, read_examples

GRID = TaskSpec(
    template="{text}", labels={f"{n / 5:.1f}": f"{n / 5:.1f}" for n in range(26)}, max_tokens=32, kind="ordinal"
)


def test_an_example_knows_its_group_and_its_fields(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"text": "clear", "label": "sun", "idx": {"question": 7}, "page": "a"}])
    inner, plain, without = (
        read_examples(path, task_of(path, group=group)).examples[0] for group in ("idx.question", "page", None)
    )
    assert (inner.group, plain.group, without.group) == ("7", "a", None)
    assert inner.fields == {"text": "clear"}
    assert refusal(path, group="idx.answer").startswith("line 1: no field 'idx.answer'")


@pytest.mark.parametrize("group", [None, "", " ", float("nan")])
def test_a_row_without_a_group_is_refused_where_the_task_has_groups(tmp_path: Path, group: object) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"text": "a", "label": "sun", "page": 0}, {"text": "b", "label": "sun", "page": group}])
    expected = f"line 2: field 'page' is {group!r}, expected the group of the row"
    assert refusal(path, group="page") == expected
    assert len(read_examples(path, task_of(path)).examples) == 2


def test_scores_are_rounded_to_the_grid_as_t5_does_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    scores = [0, 2.75, 4.333, 0.1, 0.3, 0.5, 5, "3.25"]
    write_jsonl(path, [{"text": "a", "label": score} for score in scores])
    examples = read_examples(path, task_of(path, spec=GRID, round_to="0.2")).examples
    named = [GRID.label_names[example.label] for example in examples]
    assert named == ["0.0", "2.8", "4.4", "0.0", "0.4", "0.4", "5.0", "3.2"]


def test_a_column_of_float32_gives_the_labels_that_its_numbers_give_in_float64(tmp_path: Path) -> None:
    scores = [step / 10 for step in range(51)]  # every other one lies halfway between two steps
    named = []
    for width in (pyarrow.float32(), pyarrow.float64()):
        path = tmp_path / f"{width}.parquet"
        columns = {"text": ["a"] * 51, "label": pyarrow.array(scores, width), "n": pyarrow.array([None] * 51, width)}
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
        examples = read_examples(path, task_of(path, spec=GRID, round_to="0.2")).examples
        named.append([GRID.label_names[example.label] for example in examples])
    assert named[0] == named[1]
    assert (named[0][27], named[0][31]) == ("2.8", "3.2")


@given(st.floats(0, 5, allow_nan=False))
def test_a_rounded_score_is_the_nearest_step_of_the_grid(score: float) -> None:
    label = label_index(score, task_of(Path("rows"), spec=GRID, round_to="0.2"))
    assert label is not None
    assert abs(Decimal(GRID.label_names[label]) - Decimal(str(score))) <= Decimal("0.1")


@pytest.mark.parametrize("score", [5.2, -1, "much", None, float("nan"), True])
def test_a_score_off_the_grid_is_refused(tmp_path: Path, score: object) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"text": "a", "label": score}])
    assert refusal(path, spec=GRID, round_to="0.2").startswith(f"line 1: field 'label' is {score!r}, expected one of")


def test_a_number_is_the_ordinal_label_of_the_same_value_and_is_not_rounded_unasked(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"text": "a", "label": 3}, {"text": "a", "label": "3.00"}, {"text": "a", "label": 3.1}])
    assert refusal(path, spec=GRID).startswith("line 3: field 'label' is 3.1")
