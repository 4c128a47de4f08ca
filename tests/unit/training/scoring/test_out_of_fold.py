"""Out-of-fold predictions: which model scores which row, which rows cannot be scored, and which candidate is best."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_predict

from training.scoring.decisions import Labels
from training.scoring.evaluation import TokenizedRows
from training.scoring.out_of_fold import Fit, Predict, cross_validate, fold_rank, scorable
from training.task.scoring import Scoring

DRAW = np.random.default_rng(0)
LABELS = DRAW.integers(3, size=60)
STATES = (np.eye(3)[LABELS] + DRAW.normal(size=(60, 3))).astype(np.float32)
FOLDS = np.arange(60) % 5


def rows_of(labels: Labels) -> TokenizedRows:
    return TokenizedRows(tuple((n,) for n in range(len(labels))), labels, 0)


def logistic(strength: float) -> Fit:
    def fit(features: NDArray[np.float32], labels: Labels) -> Predict:
        model = LogisticRegression(C=strength).fit(features, labels)
        return lambda other: model.predict_log_proba(other).astype(np.float32)

    return fit


def test_predictions_are_those_of_scikit_learn_for_the_same_folds() -> None:
    (found,) = cross_validate([{"C = 1": logistic(1.0)}], STATES, rows_of(LABELS), FOLDS, scoring=Scoring())
    expected = cross_val_predict(
        LogisticRegression(C=1.0), STATES, LABELS, cv=PredefinedSplit(FOLDS), method="predict_log_proba"
    )
    assert np.array_equal(found.predictions.rows, np.arange(60))
    assert found.predictions.log_probs == pytest.approx(expected, abs=1e-5)
    assert found.predictions.num_folds == 5
    assert found.metrics.loss == pytest.approx(-expected[np.arange(60), LABELS].mean(), abs=1e-5)
    assert found.metrics.accuracy == (expected.argmax(1) == LABELS).mean()


def test_a_family_ends_once_weaker_regularisation_raises_the_loss() -> None:
    families = [{f"{strength:g}": logistic(strength) for strength in (1e-4, 1e-2, 1.0, 1e2, 1e4, 1e6)}] * 2
    found = list(cross_validate(families, STATES, rows_of(LABELS), FOLDS, scoring=Scoring()))
    losses = [each.metrics.loss for each in found[: len(found) // 2]]
    assert len(losses) < 6
    assert losses[-1] > losses[-2] == min(losses)
    assert [each.name for each in found[len(losses) :]] == [each.name for each in found[: len(losses)]]
    best = max(found, key=lambda each: fold_rank(each.metrics, Scoring()))
    assert best.metrics.loss == min(losses)


def test_the_score_chooses_among_numbers_and_every_strength_is_tried() -> None:
    scoring = Scoring(metrics=("pearson",), values=(0.0, 1.0, 2.0))
    family = {f"{strength:g}": logistic(strength) for strength in (1e-4, 1e-2, 1.0, 1e2, 1e4, 1e6)}
    found = list(cross_validate([family], STATES, rows_of(LABELS), FOLDS, scoring=scoring))
    assert len(found) == 6
    best = max(found, key=lambda each: fold_rank(each.metrics, scoring))
    assert best.metrics.score == max(each.metrics.score for each in found)


def test_a_row_with_a_label_of_its_own_cannot_be_scored() -> None:
    labels = np.array([0, 0, 1, 1, 2, 3, 3])
    folds = np.array([0, 1, 0, 1, 0, 1, 1])
    assert scorable(labels, folds).tolist() == [0, 1, 2, 3]
    found = next(
        cross_validate([{"C = 1": logistic_of_present}], STATES[:7], rows_of(labels), folds, scoring=Scoring())
    )
    assert found.predictions.rows.tolist() == [0, 1, 2, 3]
    assert found.predictions.log_probs.shape == (4, 4)
    assert found.metrics.loss < 5, "a label that a model has not seen does not count against it"


def logistic_of_present(features: NDArray[np.float32], labels: Labels) -> Predict:
    """A model of four labels, as a head is: those without rows get none of the probability."""
    model = LogisticRegression().fit(features, labels)

    def predict(other: NDArray[np.float32]) -> NDArray[np.float32]:
        log_probs = np.full((len(other), 4), -30.0, dtype=np.float32)
        log_probs[:, model.classes_] = model.predict_log_proba(other)
        return log_probs

    return predict


def test_a_row_with_several_labels_needs_each_decision_in_another_fold() -> None:
    labels = np.array([[1, 0], [1, 0], [0, 0], [0, 1], [0, 0], [1, 0]])
    folds = np.array([0, 1, 0, 1, 1, 0])
    # the only row with the second label is row 3
    assert scorable(labels, folds).tolist() == [0, 1, 2, 4, 5]
    everyone = np.array([[1, 1], [1, 0], [1, 1], [0, 0]])
    # in fold 1, no other fold lacks the first label
    assert scorable(everyone, np.array([0, 0, 1, 1])).tolist() == [0, 1, 2]
