"""Out-of-fold predictions: each row is scored by a model that was fitted to the other folds.

They choose among models and calibrate the chosen one where rows are few (`training.data.few_rows`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.scoring.decisions import Labels
from training.scoring.evaluation import TokenizedRows
from training.scoring.metrics import Metrics
from training.task.scoring import Scoring

Features = Any
"""Features of n rows, a dense array or a sparse matrix of scipy, [n, D]."""
LogProbs = NDArray[np.float32]
Predict = Callable[[Features], LogProbs]
"""Returns label log-probabilities [n, K] of features [n, D]."""
Fit = Callable[[Features, Labels], Predict]
"""Fits a model to features [n, D] and labels."""


@dataclass(frozen=True, slots=True, eq=False)
class OutOfFold:
    """Out-of-fold predictions of a run's training rows, followed by its selection rows."""

    rows: NDArray[np.int64]  # [m]
    """The indices of the rows that could be scored, ascending (`scorable`)."""
    log_probs: LogProbs  # [m, K]
    num_folds: int


@dataclass(frozen=True, slots=True, eq=False)
class CrossValidated:
    """A candidate with its out-of-fold predictions and their metrics."""

    name: str
    predictions: OutOfFold
    metrics: Metrics


def cross_validate(
    families: Iterable[Mapping[str, Fit]],
    features: Features,
    rows: TokenizedRows,
    folds: NDArray[np.int64],  # [n]
    *,
    scoring: Scoring,
) -> Iterator[CrossValidated]:
    """Yield candidates with their out-of-fold metrics.

    The loss over the strengths of a family has one minimum. Weaker regularisation than that of the minimum, whose fits
    take longest, is therefore not tried, except in ordinal tasks, where the loss does not choose (`fold_rank`).

    Args:
        families: models by name that differ only in their strength of regularisation, the strongest first
        folds: the fold of each row
    """
    scored = scorable(rows.labels, folds)
    measured = rows.at(scored)
    for family in families:
        lowest = np.inf
        for name, fit in family.items():
            log_probs = _predicted(fit, features, rows.labels, folds)[scored]
            metrics = measured.selected_by(log_probs, scoring)
            yield CrossValidated(name, OutOfFold(scored, log_probs, int(folds.max()) + 1), metrics)
            if scoring.values is None and metrics.loss > lowest:
                break
            lowest = min(lowest, metrics.loss)


def scorable(labels: Labels, folds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the indices of rows, ascending, that a model of the other folds can score.

    It cannot score a row if no row of the other folds has its label. In a multi-label task, for each label, one of them
    must agree with the row.
    """
    found = np.zeros(len(labels), dtype=np.bool_)
    for fold in np.unique(folds):
        inside, rest = labels[folds == fold], labels[folds != fold]
        if labels.ndim == 1:
            found[folds == fold] = np.isin(inside, rest)
        else:
            seen = np.stack([(rest == 0).any(axis=0), (rest == 1).any(axis=0)])  # [2, K]
            found[folds == fold] = seen[inside, np.arange(labels.shape[1])].all(axis=1)
    return np.flatnonzero(found)


def fold_rank(metrics: Metrics, scoring: Scoring) -> tuple[float, float]:
    """Rank a candidate by its out-of-fold metrics; the best is highest.

    The loss decides, which few rows measure better than a share of right answers. In an ordinal task the score does: a
    correlation is as fine as a loss, and the loss of ridge regression depends on a variance that calibration corrects.
    """
    return (-metrics.loss, metrics.score) if scoring.values is None else (metrics.score, -metrics.loss)


def _predicted(fit: Fit, features: Features, labels: Labels, folds: NDArray[np.int64]) -> LogProbs:
    """Return the out-of-fold predictions of all rows, [n, K]."""
    predicted: LogProbs | None = None
    for fold in np.unique(folds):
        inside = folds == fold
        log_probs = fit(features[~inside], labels[~inside])(features[inside])
        if predicted is None:
            predicted = np.empty((len(labels), log_probs.shape[1]), dtype=np.float32)
        predicted[inside] = log_probs
    assert predicted is not None, "rows are never without folds"
    return predicted
