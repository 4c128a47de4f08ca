"""Multi-label metrics against scikit-learn, thresholds, calibration and intervals."""

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as reference
from sklearn.exceptions import UndefinedMetricWarning

from adapters import TaskSpec
from adapters.calibration import Calibration, calibrated
from training.errors import InvalidArguments
from training.scoring.bootstrap import decision_intervals
from training.scoring.calibration import (
    brier_score,
    calibration_figures,
    calibration_line,
    expected_calibration_error,
    fit_calibration,
    fit_temperature,
    halves_figures,
)
from training.scoring.decisions import MIN_POSITIVES, are_same, decide, fit_label_thresholds
from training.scoring.metrics import measure
from training.scoring.multi_label import binary_loss, label_figures
from training.task.scoring import Scoring

SCORING = Scoring(metrics=("micro_f1", "macro_f1"), multi_label=True)
SPEC = TaskSpec(template="{text}", labels={name: name for name in "abcd"}, kind="multi_label")

Rows = tuple[NDArray[np.float32], NDArray[np.int64]]


def rows(count: int = 200, *, num_labels: int = 4, seed: int = 0, strength: float = 2.0, ties: bool = False) -> Rows:
    """Log-probabilities and labels of random rows; the last label is rare."""
    draw = np.random.default_rng(seed)
    shares = np.linspace(0.5, 0.05, num_labels)
    labels = (draw.random((count, num_labels)) < shares).astype(np.int64)
    logits = draw.normal(size=labels.shape) + strength * (labels - 0.7)
    if ties:
        logits = np.round(logits)
    return -np.logaddexp(0, -logits).astype(np.float32), labels


@pytest.mark.parametrize("ties", [False, True])
def test_metrics_are_those_of_scikit_learn(ties: bool) -> None:
    log_probs, labels = rows(ties=ties)
    thresholds = (0.3, 0.5, 0.4, 0.2)
    calibration = Calibration(label_thresholds=thresholds)
    found = measure(log_probs, labels, scoring=SCORING, calibration=calibration)
    answers = (np.exp(log_probs.astype(np.float64)) >= thresholds).astype(np.int64)
    assert found.values["accuracy"] == pytest.approx(reference.accuracy_score(labels, answers))
    assert found.values["micro_f1"] == pytest.approx(reference.f1_score(labels, answers, average="micro"))
    assert found.values["macro_f1"] == pytest.approx(reference.f1_score(labels, answers, average="macro"))
    scores = np.exp(log_probs.astype(np.float64))
    assert found.values["map"] == pytest.approx(reference.average_precision_score(labels, scores), abs=1e-6)
    assert found.score == pytest.approx((found.values["micro_f1"] + found.values["macro_f1"]) / 2)
    losses = [reference.log_loss(labels[:, k], scores[:, k]) for k in range(4)]
    assert found.loss == pytest.approx(np.mean(losses), abs=1e-5)
    assert not found.collapsed


def test_the_figures_of_labels_are_those_of_scikit_learn() -> None:
    log_probs, labels = rows()
    labels[:, 3] = 0
    answers = decide(log_probs, multi_label=True)
    found = label_figures(log_probs, answers, labels, names="abcd", thresholds=(0.5,) * 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        expected = reference.precision_recall_fscore_support(labels, answers, zero_division=0)
    for label, (figures, *theirs) in enumerate(zip(found, *expected, strict=True)):
        assert (figures.precision, figures.recall, figures.f1, figures.support) == pytest.approx(theirs)
        if label < 3:
            precision = reference.average_precision_score(labels[:, label], log_probs[:, label])
            assert figures.average_precision == pytest.approx(precision, abs=1e-6)
    assert found[3].average_precision is None


def test_labels_without_rows_are_left_out_of_means() -> None:
    log_probs, labels = rows()
    labels[:, 3] = 0
    none = np.where(np.arange(4) == 3, -9.0, log_probs).astype(np.float32)  # never given
    found = measure(none, labels, scoring=SCORING).values
    three = measure(none[:, :3], labels[:, :3], scoring=SCORING).values
    assert (found["macro_f1"], found["map"]) == pytest.approx((three["macro_f1"], three["map"]))


def test_the_best_constant_answer_is_the_best_of_any_set_of_labels() -> None:
    _, labels = rows(60)
    found = measure(np.full((60, 4), -0.7, dtype=np.float32), labels, scoring=SCORING)
    sets = [np.array([i >> k & 1 for k in range(4)]) for i in range(16)]
    constant = [np.broadcast_to(each, labels.shape) for each in sets]
    best = max(reference.f1_score(labels, each, average="micro", zero_division=0) for each in constant)
    assert found.constants["micro_f1"] == pytest.approx(best)
    assert found.constants["accuracy"] == max(reference.accuracy_score(labels, each) for each in constant)
    assert found.constants["map"] == pytest.approx(labels.mean(axis=0).mean())
    assert found.collapsed


def test_extreme_log_probabilities_have_a_finite_loss() -> None:
    log_probs = np.array([[0.0, -1e4], [-1e-30, -300.0]], dtype=np.float32)
    assert 0 < binary_loss(log_probs, np.array([[0, 1], [0, 1]])) < 1e5
    assert binary_loss(log_probs, np.array([[1, 0], [1, 0]])) == pytest.approx(0, abs=1e-6)


def test_a_threshold_maximises_the_f1_of_its_label_and_lies_between_two_probabilities() -> None:
    log_probs, labels = rows(300)
    probabilities = np.exp(log_probs.astype(np.float64))
    fit = fit_label_thresholds(probabilities, labels)
    assert all(fit.is_fitted)
    for label, threshold in enumerate(fit.thresholds):
        own, right = probabilities[:, label], labels[:, label]
        best = max(reference.f1_score(right, own >= value) for value in own)
        assert reference.f1_score(right, own >= threshold) == pytest.approx(best)
        assert np.abs(own - threshold).min() > 1e-7


def test_a_label_with_few_rows_keeps_a_half_and_the_fit_says_so() -> None:
    log_probs, labels = rows(100)
    labels[:, 0] = 1
    labels[:, 3] = 0
    labels[: MIN_POSITIVES - 1, 3] = 1
    fit = fit_calibration(log_probs, labels, spec=SPEC)
    assert fit.thresholds is not None
    assert fit.thresholds.is_fitted == (False, True, True, False)
    assert fit.calibration.label_thresholds is not None
    assert fit.calibration.label_thresholds[0] == fit.calibration.label_thresholds[3] == 0.5
    assert fit.thresholds.described() == {"fitted_label_thresholds": 2}
    (note,) = fit.notes
    assert note.startswith("the thresholds of 2 labels stay 0.5: fewer than 5 of the 100 held-out rows have, or lack")
    assert note.endswith("'a', 'd'")


def test_the_temperature_of_overconfident_labels_is_found_and_decides_nothing() -> None:
    log_probs, labels = rows(2_000, strength=1.0)
    sharp = -np.logaddexp(0, -3 * (log_probs - np.log(-np.expm1(log_probs)))).astype(np.float32)
    ratio = fit_temperature(sharp, labels) / fit_temperature(log_probs, labels)
    assert ratio == pytest.approx(3, rel=0.05)
    fit = fit_calibration(sharp, labels, spec=SPEC)
    raw = fit_label_thresholds(np.exp(sharp.astype(np.float64)), labels)
    served = decide(sharp, multi_label=True, calibration=fit.calibration)
    unscaled = decide(sharp, multi_label=True, calibration=Calibration(label_thresholds=raw.thresholds))
    assert are_same(served, unscaled).mean() > 0.99


def test_calibration_error_and_brier_score_are_over_all_decisions() -> None:
    log_probs, labels = rows(500, strength=1.0)
    probabilities = np.exp(log_probs.astype(np.float64))
    flat, right = probabilities.ravel(), labels.ravel()
    assert brier_score(probabilities, labels) == pytest.approx(reference.brier_score_loss(right, flat))
    bins = np.clip(np.ceil(flat * 15).astype(int) - 1, 0, 14)
    gaps = [abs((flat - right)[bins == b].sum()) for b in range(15)]
    assert expected_calibration_error(probabilities, labels) == pytest.approx(sum(gaps) / len(flat))
    fit = fit_calibration(log_probs, labels, spec=SPEC)
    figures = calibration_figures(fit, log_probs, labels)
    assert set(figures) == {"raw_ece", "ece", "raw_brier", "brier"} == set(halves_figures(fit, log_probs, labels))
    line = calibration_line(fit.calibration, {f"report_{name}": value for name, value in figures.items()})
    assert "label thresholds 0." in line


def test_never_keeps_temperature_and_thresholds() -> None:
    log_probs, labels = rows()
    before = Calibration(temperature=2.0, label_thresholds=(0.1, 0.2, 0.3, 0.4))
    assert fit_calibration(log_probs, labels, spec=SPEC, calibrate="never", before=before).calibration == before


def test_an_abstain_threshold_is_refused() -> None:
    log_probs, labels = rows()
    with pytest.raises(InvalidArguments, match=r"abstain_precision is 0\.9, which a multi-label task does not have"):
        fit_calibration(log_probs, labels, spec=SPEC, abstain_precision=0.9)


@pytest.mark.parametrize("grouped", [False, True])
def test_intervals_hold_the_score_and_are_those_of_resampled_rows(grouped: bool) -> None:
    log_probs, labels = rows(80)
    answers = decide(log_probs, multi_label=True)
    groups = [str(i // 2) for i in range(80)] if grouped else None
    found = decision_intervals(log_probs, answers, labels, scoring=SCORING, groups=groups)
    assert set(found) == {"micro_f1", "macro_f1", "map", "accuracy", "score"}
    values = measure(log_probs, labels, scoring=SCORING).values
    for name, value in values.items():
        assert found[name].low < value < found[name].high
    draw = np.random.default_rng(1)
    samples = []
    for _ in range(400):
        picked = draw.integers(40 if grouped else 80, size=40 if grouped else 80)
        chosen = np.concatenate([2 * picked, 2 * picked + 1]) if grouped else picked
        samples.append(reference.f1_score(labels[chosen], answers[chosen], average="micro"))
    low, high = np.quantile(samples, [0.025, 0.975])
    assert (found["micro_f1"].low, found["micro_f1"].high) == pytest.approx((low, high), abs=0.03)


def test_probabilities_of_labels_do_not_sum_to_one() -> None:
    log_probs, _ = rows(5)
    assert (np.abs(calibrated(log_probs, 1.3, multi_label=True).sum(axis=1) - 1) > 0.05).any()
