"""Rare labels made to count: how often rows are drawn, and what their loss weighs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from support.training import QUICK, SPEC, run, write_rows

from backbone import Backbone
from training.data.balance import balanced_order, label_weights
from training.loop.row_order import RowOrder
from training.task.task_file import DataSource, TaskFile

LABELS = st.lists(st.integers(0, 5), min_size=1, max_size=60).map(lambda labels: np.array(labels, dtype=np.int64))


@given(LABELS, st.integers(0, 1_000))
def test_a_balanced_epoch_draws_every_label_equally_often_and_no_row_needlessly_twice(
    labels: np.ndarray, seed: int
) -> None:
    order = balanced_order(labels, np.random.default_rng(seed))
    assert len(order) == len(labels)
    present = np.unique(labels)
    counts = np.bincount(labels[order], minlength=6)[present]
    assert counts.max() - counts.min() <= 1
    for label in present:
        times = np.bincount(order, minlength=len(labels))[labels == label]
        assert times.max() - times.min() <= 1


def test_equal_labels_are_drawn_once_each_by_either_sampling() -> None:
    labels = np.array([0, 1] * 8)
    for sampling in ("shuffled", "balanced"):
        order = RowOrder(labels, batch_size=16, seed=3, sampling=sampling)
        assert sorted(order.next_batch()) == list(range(16))


def test_a_balanced_order_is_its_seeds() -> None:
    labels = np.array([0] * 9 + [1])
    first, again, other = (RowOrder(labels, batch_size=10, seed=seed, sampling="balanced") for seed in (1, 1, 2))
    drawn = first.next_batch().tolist()
    assert drawn == again.next_batch().tolist()
    assert drawn != other.next_batch().tolist()
    assert drawn.count(9) == 5


@given(LABELS)
@pytest.mark.slow
def test_label_weights_are_those_of_scikit_learn(labels: np.ndarray) -> None:
    present = np.unique(labels)
    weights = label_weights(labels, num_labels=6)
    np.testing.assert_allclose(weights[present], compute_class_weight("balanced", classes=present, y=labels))
    assert weights[labels].mean() == pytest.approx(1)
    assert not weights[np.setdiff1d(np.arange(6), present)].any()


@pytest.mark.parametrize("change", [{"class_weights": True}, {"sampling": "balanced"}])
@pytest.mark.slow
def test_a_rare_label_is_answered_where_it_is_made_to_count(
    tiny: Backbone, tmp_path: Path, one_thread: None, change: dict[str, object]
) -> None:
    # every text is the same: how sure the prompt gets of a label is how much the label counts in training
    rows = [{"text": "the city", "label": "sports"}] * 54 + [{"text": "the city", "label": "business"}] * 6
    data = DataSource(
        train=str(write_rows(tmp_path / "train.jsonl", rows)),
        validation=str(write_rows(tmp_path / "validation.jsonl", rows[50:58])),
    )
    task = TaskFile(name="rare", spec=SPEC, data=data)
    losses = []
    for name, changes in (("plain", {}), ("counted", change)):
        arguments = replace(QUICK, epochs=3, **changes)
        report = run(tiny, task, tmp_path / name, arguments, split="paper").report
        losses.append(report.result.evaluations[-1].metrics.loss)
    plain, counted = losses
    assert counted < plain, "rows of both labels in equal number: the loss is lowest where both count alike"
