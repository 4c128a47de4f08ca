"""Metrics of predictions, and of the best constant answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
from training.task.scoring import ACCURACY, MetricName, Scoring


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Figures over n rows. Shares are in [0, 1]; Matthews' and the other correlations may be negative."""

    values: Mapping[MetricName, float]
    score: float
    """The mean of the task's metrics: what the best epoch is chosen by."""
    loss: float
    """Mean negative log-likelihood of the right label, in nats."""
    constants: Mapping[MetricName, float]
    """The best that one answer for every row would have been worth, by each metric alone. A score near it says that
    nothing was learnt."""
    constant_score: float
    """The best score of one answer for every row."""
    collapsed: bool
    """Every row got the same answer."""

    @property
    def accuracy(self) -> float:
        return self.values["accuracy"]

    @property
    def macro_f1(self) -> float:
        return self.values["macro_f1"]

    def figures(self) -> dict[str, float]:
        """The numbers by name: each metric's, `score`, `loss`, and the constant answer's after `constant_`."""
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
    labels: NDArray[np.int64],  # [n]
    *,
    scoring: Scoring = ACCURACY,
    groups: Sequence[str] | None = None,  # [n]
) -> Metrics:
    """Compare predictions with labels.

    Args:
        groups: the rows' groups, for exact match: a group is right where each of its rows is
    """
    return measure_answers(
        log_probs.argmax(axis=1),
        labels,
        num_labels=log_probs.shape[1],
        loss=float(-log_probs[np.arange(len(labels)), labels].mean(dtype=np.float64)),
        scoring=scoring,
        groups=groups,
    )


def measure_answers(
    answers: NDArray[np.int64],  # [n], INVALID if it is not a label
    labels: NDArray[np.int64],  # [n]
    *,
    num_labels: int,
    loss: float,
    scoring: Scoring,
    groups: Sequence[str] | None = None,  # [n]
) -> Metrics:
    """As `measure`, from the answers themselves."""
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
    """Every measured metric of one set of answers."""
    confusion = confusion_of(answers, labels, num_labels)
    whole = float(groups_right(answers == labels, groups).mean())
    return {
        name: whole if name == "exact_match" else float(confusion_metric(name, confusion, scoring))
        for name in scoring.measured
    }


def confusion_metric(name: MetricName, confusion: Confusion, scoring: Scoring) -> NDArray[np.float64]:
    """A metric that depends on the counts alone, which `exact_match` does not, of every resample, [...].

    `f1a` is F1 over all answers of all groups: the same counts.
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
        case "exact_match":
            raise AssertionError("exact match is of groups, not of counts")


def group_codes(groups: Sequence[str] | None, num_rows: int) -> NDArray[np.int64]:
    """Each row's group as a number from 0 on, [n]; without groups every row is one."""
    if groups is None:
        return np.arange(num_rows)
    codes: dict[str, int] = {}
    return np.array([codes.setdefault(group, len(codes)) for group in groups], dtype=np.int64)


def groups_right(right: NDArray[np.bool_], groups: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which groups have every row right, [G]."""
    return np.equal(np.bincount(groups, weights=~right), 0)


def _mean(values: Mapping[MetricName, float], scoring: Scoring) -> float:
    return sum(values[name] for name in scoring.metrics) / len(scoring.metrics)
