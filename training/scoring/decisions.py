"""Decisions: from label log-probabilities to answers, and the thresholds of a multi-label task.

Answers have the shape of labels: [n], the label of each row; or [n, K], which labels each row has.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters.calibration import DEFAULT_LABEL_THRESHOLD, Calibration, calibrated, reached

MIN_POSITIVES = 5
"""With fewer held-out rows that have the label, or that lack it, its threshold stays at 0.5."""

FITTED_THRESHOLDS = "fitted_label_thresholds"
"""Entry of a provenance's `data`: how many labels have a threshold that was fitted on held-out rows."""

Labels = NDArray[np.int64]  # [n], or [n, K] of 0 and 1 in a multi-label task


def indicators(labels: Sequence[Sequence[int]], num_labels: int) -> Labels:
    """Return the labels of multi-label rows as a matrix of 0 and 1, [n, K], as in scikit-learn."""
    matrix = np.zeros((len(labels), num_labels), dtype=np.int64)
    for row, own in enumerate(labels):
        matrix[row, list(own)] = 1
    return matrix


def decide(log_probs: NDArray[np.float32], *, multi_label: bool, calibration: Calibration | None = None) -> Labels:
    """Return the answers of log-probabilities [n, K], as a server gives them under a calibration.

    Args:
        multi_label: whether a row has every label that reaches its threshold, instead of the most likely one
        calibration: None for thresholds of 0.5
    """
    if not multi_label:
        return np.asarray(log_probs.argmax(axis=1))
    served = calibration or Calibration()
    probabilities = calibrated(log_probs, served.temperature, multi_label=True)
    return reached(probabilities, served.thresholds(log_probs.shape[1])).astype(np.int64)


def are_same(first: Labels, second: Labels) -> NDArray[np.bool_]:
    """Return in which rows two sets of answers are the same, [n]: of a multi-label row, all decisions."""
    same = np.asarray(first == second)
    return same if same.ndim == 1 else np.asarray(same.all(axis=1))


@dataclass(frozen=True, slots=True)
class ThresholdFit:
    """The thresholds of a multi-label task."""

    thresholds: tuple[float, ...]  # [K]
    num_positives: tuple[int, ...]
    """Held-out rows with each label, [K]."""
    is_fitted: tuple[bool, ...]
    """Whether a threshold was chosen on them, [K]; else it is 0.5."""

    def described(self) -> dict[str, int]:
        """Return the entry of an adapter's provenance."""
        return {FITTED_THRESHOLDS: sum(self.is_fitted)}


def fit_label_thresholds(probabilities: NDArray[np.float64], labels: Labels) -> ThresholdFit:
    """Choose the threshold of each label that maximises its F1 on held-out rows.

    A label with fewer than `MIN_POSITIVES` rows with or without it keeps 0.5, since the best threshold of so few rows
    is chance. A threshold is halfway between two probabilities; of several with the same F1, the one nearest to 0.5.

    Args:
        probabilities: [n, K], calibrated
        labels: [n, K]
    """
    positives = labels.sum(axis=0)
    fitted = (positives >= MIN_POSITIVES) & (len(labels) - positives >= MIN_POSITIVES)
    thresholds = tuple(
        _best_threshold(probabilities[:, label], labels[:, label]) if fitted[label] else DEFAULT_LABEL_THRESHOLD
        for label in range(labels.shape[1])
    )
    return ThresholdFit(thresholds, tuple(positives.tolist()), tuple(fitted.tolist()))


def _best_threshold(probabilities: NDArray[np.float64], labels: Labels) -> float:
    order = np.argsort(-probabilities, kind="stable")
    descending, hits = probabilities[order], np.cumsum(labels[order])
    # equal probabilities are decided together
    ends = np.flatnonzero(np.append(descending[:-1] > descending[1:], True))
    f1 = 2 * hits[ends] / (ends + 1 + labels.sum())
    below = np.append(descending[1:], 0.0)[ends]
    candidates = (descending[ends] + below) / 2
    best = candidates[f1 >= f1.max() - 1e-12]
    return round(float(best[np.abs(best - DEFAULT_LABEL_THRESHOLD).argmin()]), 6)
