"""The metrics of a set of predictions, and those of the best constant answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters.calibration import Calibration
from training.scoring.confusion import (
    Confusion,
    accuracy,
    confusion_of,
    f1,
    macro_f1,
    matthews,
    pearson,
    spearman,
)
from training.scoring.decisions import Labels, decide, fit_label_thresholds
from training.scoring.multi_label import binary_loss, constant_metrics, multi_label_metrics
from training.task.scoring import ACCURACY, MetricName, Scoring


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """The metrics of n rows. Shares are in [0, 1]; correlations, Matthews' included, may be negative."""

    values: Mapping[MetricName, float]
    score: float
    """The mean of the task's metrics, by which the best epoch is selected."""
    loss: float
    """Mean negative log-likelihood of the right label, in nats; of a multi-label task, of each decision."""
    constants: Mapping[MetricName, float]
    """The best value of each metric that a constant answer reaches. A score near it means that nothing was learned."""
    constant_score: float
    """The best score of a constant answer."""
    collapsed: bool
    """Whether all rows have the same answer."""

    @property
    def accuracy(self) -> float:
        return self.values["accuracy"]

    @property
    def macro_f1(self) -> float:
        return self.values["macro_f1"]

    def figures(self) -> dict[str, float]:
        """Return the figures by name: metrics, `score`, `loss`, and the constant answer's, prefixed `constant_`."""
        constants = {f"constant_{name}": value for name, value in self.constants.items()}
        values: dict[str, float] = {name: value for name, value in self.values.items()}  # noqa: C416 - str keys
        return {
            **values,
            "score": self.score,
            "loss": self.loss,
            **constants,
            "constant_score": self.constant_score,
        }


def measure(
    log_probs: NDArray[np.float32],  # [n, K]
    labels: Labels,
    *,
    scoring: Scoring = ACCURACY,
    groups: Sequence[str] | None = None,  # [n]
    calibration: Calibration | None = None,
) -> Metrics:
    """Measure predictions against labels.

    Args:
        groups: the groups of the rows, for exact match: a group is right if all its rows are
        calibration: what decides the labels of multi-label rows; None for thresholds of 0.5
    """
    if labels.ndim == 2:
        decisions = decide(log_probs, multi_label=True, calibration=calibration)
        return measure_decisions(log_probs, decisions, labels, scoring=scoring)
    return measure_answers(
        log_probs.argmax(axis=1),
        labels,
        num_labels=log_probs.shape[1],
        loss=float(-log_probs[np.arange(len(labels)), labels].mean(dtype=np.float64)),
        scoring=scoring,
        groups=groups,
    )


def selecting_metrics(
    log_probs: NDArray[np.float32],  # [n, K]
    labels: Labels,
    *,
    scoring: Scoring = ACCURACY,
    groups: Sequence[str] | None = None,  # [n]
) -> Metrics:
    """Measure predictions on the rows that choose among models; multi-label ones, under the thresholds that suit them.

    These are the thresholds that the chosen model is served with.
    """
    if labels.ndim == 1:
        return measure(log_probs, labels, scoring=scoring, groups=groups)
    fit = fit_label_thresholds(np.exp(log_probs.astype(np.float64)), labels)
    return measure(log_probs, labels, scoring=scoring, calibration=Calibration(label_thresholds=fit.thresholds))


def measure_decisions(
    log_probs: NDArray[np.float32], decisions: Labels, labels: Labels, *, scoring: Scoring
) -> Metrics:
    """Measure the decisions on multi-label rows; all arrays are [n, K]."""
    values = multi_label_metrics(log_probs, decisions, labels, scoring)
    constants = constant_metrics(labels, scoring)
    return Metrics(
        values=values,
        score=_mean(values, scoring),
        loss=binary_loss(log_probs, labels),
        constants={name: max(constant[name] for constant in constants) for name in scoring.measured},
        constant_score=max(_mean(constant, scoring) for constant in constants),
        collapsed=len(np.unique(decisions, axis=0)) == 1,
    )


def measure_answers(
    answers: NDArray[np.int64],  # [n], INVALID if not a label
    labels: NDArray[np.int64],  # [n]
    *,
    num_labels: int,
    loss: float,
    scoring: Scoring,
    groups: Sequence[str] | None = None,  # [n]
) -> Metrics:
    """Measure answers against labels, as `measure` does for predictions."""
    codes = group_codes(groups, len(labels))
    values = answer_metrics(answers, labels, codes, num_labels=num_labels, scoring=scoring)
    constants = [
        answer_metrics(np.full_like(labels, label), labels, codes, num_labels=num_labels, scoring=scoring)
        for label in np.unique(labels)
    ]
    return Metrics(
        values=values,
        score=_mean(values, scoring),
        loss=loss,
        constants={name: max(constant[name] for constant in constants) for name in scoring.measured},
        constant_score=max(_mean(constant, scoring) for constant in constants),
        collapsed=len(np.unique(answers)) == 1,
    )


def answer_metrics(
    answers: NDArray[np.int64],  # [n]
    labels: NDArray[np.int64],  # [n]
    groups: NDArray[np.int64],  # [n], 0 … G − 1
    *,
    num_labels: int,
    scoring: Scoring,
) -> dict[MetricName, float]:
    """Compute every measured metric of one set of answers."""
    confusion = confusion_of(answers, labels, num_labels)
    whole = float(groups_right(answers == labels, groups).mean())
    return {
        name: whole if name == "exact_match" else float(confusion_metric(name, confusion, scoring))
        for name in scoring.measured
    }


def confusion_metric(name: MetricName, confusion: Confusion, scoring: Scoring) -> NDArray[np.float64]:
    """Compute a metric of every resample from its counts, [...]; `exact_match` needs more than counts.

    `f1a` is F1 over all answers of all groups, so it has the same counts.
    """
    match name:
        case "accuracy":
            return accuracy(confusion)
        case "f1" | "f1a":
            return f1(confusion, scoring.positive)
        case "macro_f1":
            return macro_f1(confusion)
        case "matthews":
            return matthews(confusion)
        case "pearson":
            return pearson(confusion, np.array(scoring.values, dtype=np.float64))
        case "spearman":
            return spearman(confusion)
        case "exact_match" | "micro_f1" | "map":
            raise AssertionError(f"{name} cannot be computed from counts")


def group_codes(groups: Sequence[str] | None, num_rows: int) -> NDArray[np.int64]:
    """Return the group of each row as a number from 0, [n]; without groups, every row is its own group."""
    if groups is None:
        return np.arange(num_rows)
    codes: dict[str, int] = {}
    return np.array([codes.setdefault(group, len(codes)) for group in groups], dtype=np.int64)


def groups_right(right: NDArray[np.bool_], groups: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which groups have all rows right, [G]."""
    return np.equal(np.bincount(groups, weights=~right), 0)


def _mean(values: Mapping[MetricName, float], scoring: Scoring) -> float:
    return sum(values[name] for name in scoring.metrics) / len(scoring.metrics)
