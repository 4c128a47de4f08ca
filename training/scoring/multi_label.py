"""Metrics of multi-label answers: of one set of rows, and of many weightings of them at once for the bootstrap."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from training.scoring.decisions import Labels, are_same
from training.task.scoring import MetricName, Scoring

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFigures:
    """One label over a set of rows. A share with nothing to divide by is 0, as in scikit-learn."""

    name: str
    support: int
    """Rows that have the label."""
    threshold: float
    precision: float
    recall: float
    f1: float
    average_precision: float | None
    """None without a row that has the label."""


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """How many rows get and have each label, in numbers or weights; arrays are [..., K]."""

    hits: Floats
    """Rows that have a label and get it."""
    given: Floats
    """Rows that get a label."""
    wanted: Floats
    """Rows that have a label."""

    @property
    def precision(self) -> Floats:
        """Precision of each label, [..., K]."""
        return _share(self.hits, self.given)

    @property
    def recall(self) -> Floats:
        """Recall of each label, [..., K]."""
        return _share(self.hits, self.wanted)

    @property
    def f1(self) -> Floats:
        """F1 of each label, [..., K]."""
        return _share(2 * self.hits, self.given + self.wanted)

    @property
    def micro_f1(self) -> Floats:
        """F1 over all labels together, [...]."""
        return _share(2 * self.hits.sum(axis=-1), (self.given + self.wanted).sum(axis=-1))

    @property
    def macro_f1(self) -> Floats:
        """Mean F1 of the labels that occur in answers or labels, [...]."""
        return _mean(self.f1, self.given + self.wanted > 0)


# not slotted: cached properties need a dictionary
@dataclass(frozen=True)
class WeightedRows:
    """n rows under R weightings, such as how often each row was drawn by a bootstrap."""

    log_probs: NDArray[np.float32]  # [n, K]
    decisions: Labels  # [n, K]
    labels: Labels  # [n, K]
    weights: Floats  # [R, n]

    @cached_property
    def counts(self) -> LabelCounts:
        """The weights of the rows that get and have each label, [R, K]."""
        return LabelCounts(
            hits=self.weights @ (self.decisions * self.labels),
            given=self.weights @ self.decisions,
            wanted=self.weights @ self.labels,
        )

    def metric(self, name: MetricName) -> Floats:
        """Return a metric under each weighting, [R].

        The means over labels are over those that occur: in answers or labels for `macro_f1`, in labels for `map`.
        """
        match name:
            case "accuracy":
                return np.asarray(self.weights @ are_same(self.decisions, self.labels) / self.weights.sum(axis=1))
            case "micro_f1":
                return self.counts.micro_f1
            case "macro_f1":
                return self.counts.macro_f1
            case "map":
                return _mean(self.average_precision, self.counts.wanted > 0)
            case _:
                raise AssertionError(f"{name} is not a metric of multi-label tasks")

    @cached_property
    def average_precision(self) -> Floats:
        """Average precision of each label, [R, K]; 0 for a label without rows."""
        found = np.zeros((len(self.weights), self.labels.shape[1]))
        for label in range(self.labels.shape[1]):
            found[:, label] = _average_precision(self.log_probs[:, label], self.labels[:, label], self.weights)
        return found


def _average_precision(scores: NDArray[np.float32], labels: Labels, weights: Floats) -> Floats:
    """Return Σ (R_i − R_{i−1}) P_i over the distinct scores, from high to low, under each weighting, [R].

    P_i and R_i are precision and recall of the rows with at least that score, as in scikit-learn's
    `average_precision_score`.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(scores[order][:-1] > scores[order][1:], True))
    seen = np.cumsum(weights[:, order], axis=1)[:, ends]  # [R, S]
    hits = np.cumsum(weights[:, order] * labels[order], axis=1)[:, ends]
    gained = np.diff(hits, axis=1, prepend=0.0)
    return _share((gained * _share(hits, seen)).sum(axis=1), hits[:, -1])


def multi_label_metrics(
    log_probs: NDArray[np.float32], decisions: Labels, labels: Labels, scoring: Scoring
) -> dict[MetricName, float]:
    """Compute every measured metric of one set of rows; all arrays are [n, K]."""
    rows = WeightedRows(log_probs, decisions, labels, np.ones((1, len(labels))))
    return {name: float(rows.metric(name)[0]) for name in scoring.measured}


def constant_answers(labels: Labels) -> Labels:
    """Return the constant answers of multi-label rows [n, K] that may be the best by some metric, [A, K].

    These are the most common labels, from none to all, and the most common set of labels.
    """
    num_labels = labels.shape[1]
    ranks = np.empty(num_labels, dtype=np.int64)
    ranks[np.argsort(-labels.sum(axis=0), kind="stable")] = np.arange(num_labels)
    sets, counts = np.unique(labels, axis=0, return_counts=True)
    answers = np.vstack([*(ranks < count for count in range(num_labels + 1)), sets[counts.argmax()]]).astype(np.int64)
    return np.asarray(np.unique(answers, axis=0))


def constant_metrics(labels: Labels, scoring: Scoring) -> list[dict[MetricName, float]]:
    """Compute the metrics of `constant_answers`, whose average precision is the share of rows with a label."""
    equal = np.zeros(labels.shape, dtype=np.float32)
    rows = WeightedRows(equal, equal.astype(np.int64), labels, np.ones((1, len(labels))))
    precision = float(rows.metric("map")[0])
    found = []
    for answer in constant_answers(labels):
        given = WeightedRows(equal, np.broadcast_to(answer, labels.shape), labels, rows.weights)
        found.append({name: precision if name == "map" else float(given.metric(name)[0]) for name in scoring.measured})
    return found


def label_figures(
    log_probs: NDArray[np.float32],  # [n, K]
    decisions: Labels,  # [n, K]
    labels: Labels,  # [n, K]
    *,
    names: Sequence[str],
    thresholds: Sequence[float],
) -> list[LabelFigures]:
    """Compute the figures of each label, in the task's order."""
    rows = WeightedRows(log_probs, decisions, labels, np.ones((1, len(labels))))
    counts = rows.counts
    precision, recall, f1 = counts.precision[0], counts.recall[0], counts.f1[0]
    return [
        LabelFigures(
            name=name,
            support=int(counts.wanted[0, label]),
            threshold=float(thresholds[label]),
            precision=float(precision[label]),
            recall=float(recall[label]),
            f1=float(f1[label]),
            average_precision=float(rows.average_precision[0, label]) if counts.wanted[0, label] else None,
        )
        for label, name in enumerate(names)
    ]


def binary_loss(log_probs: NDArray[np.float32], labels: Labels) -> float:
    """Return the mean binary cross-entropy over rows and labels, in nats."""
    negative = np.log(-np.expm1(np.minimum(log_probs.astype(np.float64), -1e-35)))
    return float(-np.where(labels == 1, log_probs, negative).mean(dtype=np.float64))


def _share(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros_like(part, dtype=np.float64), where=whole > 0)


def _mean(values: Floats, kept: NDArray[np.bool_]) -> Floats:
    """Return the mean of values [..., K] over the kept labels, [...]."""
    return _share((values * kept).sum(axis=-1), kept.sum(axis=-1).astype(np.float64))
