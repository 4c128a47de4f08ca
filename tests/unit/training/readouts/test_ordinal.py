"""Heads for labels that are numbers, against ridge regression itself."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from support.training import run, write_rows

from adapters import TaskSpec
from backbone import Backbone
from training.config.presets import train_arguments
from training.readouts.ordinal import fit_ordinal_heads
from training.task.task_file import DataSource, TaskFile

VALUES = [0.0, 0.5, 1.0, 2.0, 5.0]
DRAW = np.random.default_rng(0)
LABELS = DRAW.integers(len(VALUES), size=300)
STATES = (np.outer(np.array(VALUES)[LABELS], DRAW.normal(size=8)) + DRAW.normal(size=(300, 8)) + 3).astype(np.float32)


@pytest.mark.parametrize("alpha", [1.0, 1_000.0])
def test_a_head_answers_the_label_nearest_to_the_number_of_ridge_regression(alpha: float) -> None:
    (head,) = fit_ordinal_heads(STATES, LABELS, values=VALUES, alphas=[alpha])
    scaler = StandardScaler().fit(STATES.astype(np.float64))
    model = Ridge(alpha=alpha).fit(scaler.transform(STATES), np.array(VALUES)[LABELS])
    numbers = model.predict(scaler.transform(STATES))
    nearest = np.abs(numbers[:, None] - np.array(VALUES)).argmin(axis=1)
    log_probs = head.log_probs(STATES)
    assert (log_probs.argmax(axis=1) == nearest).mean() >= 0.99  # rounding may decide between two equally near
    variance = np.mean((numbers - np.array(VALUES)[LABELS]) ** 2)
    expected = -((numbers[:, None] - np.array(VALUES)) ** 2) / (2 * variance)
    expected -= np.log(np.exp(expected).sum(axis=1, keepdims=True))
    assert log_probs == pytest.approx(expected, abs=1e-3)


def test_a_perfect_fit_keeps_finite_probabilities() -> None:
    states = np.array(VALUES, dtype=np.float32)[:, None].repeat(20, axis=0)
    labels = np.arange(len(VALUES)).repeat(20)
    (head,) = fit_ordinal_heads(states, labels, values=VALUES, alphas=[1e-9])
    assert np.isfinite(head.log_probs(states)).all()
    assert (head.log_probs(states).argmax(axis=1) == labels).all()


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_head_of_an_ordinal_task_is_also_fitted_by_regression(tiny: Backbone, tmp_path: Path) -> None:
    names = [str(number) for number in range(4)]
    lines = [{"text": " ".join(["good"] * count + ["film"] * (3 - count)), "label": str(count)} for count in range(4)]
    rows = str(write_rows(tmp_path / "rows.jsonl", lines * 20))
    spec = TaskSpec(template="text: {text}", labels={name: name for name in names}, max_tokens=32, kind="ordinal")
    task = TaskFile(name="stars", spec=spec, metrics=("pearson",), data=DataSource(train=rows, validation=rows))
    report = run(tiny, task, tmp_path / "run", train_arguments({"method": "head"})).report
    assert [event.step for event in report.result.evaluations] == list(range(7)), "three strengths of each"
    assert report.result.stop == "finished"
    assert report.trained.values["pearson"] > 0.9
