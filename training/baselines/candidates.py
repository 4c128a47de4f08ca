"""Candidates of a baseline: one model with several strengths of regularisation, of which the held-out rows choose."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.scoring.decisions import Labels
from training.scoring.evaluation import TokenizedRows
from training.scoring.metrics import Metrics, selecting_metrics
from training.task.scoring import Scoring

Features = Any
"""Features of n rows, a dense array or a sparse matrix of scipy, [n, D]."""
LogProbs = NDArray[np.float32]
Predict = Callable[[Features], LogProbs]
"""Returns label log-probabilities [n, K] of features [n, D]."""
Fit = Callable[[Features, Labels], Predict]
"""Fits a model to features [n, D] and labels."""


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """The best candidate's scores."""

    setting: str
    """Its name, such as `C = 10`."""
    report: LogProbs  # [n, K], of the report rows
    selection: LogProbs  # [n, K], of the selection rows


MIN_SELECTION_ROWS = 50
"""With fewer selection rows, the training rows choose by cross-validation."""
_FOLDS = 5


def best_of(
    candidates: Mapping[str, Fit],
    features: Features,
    rows: TokenizedRows,
    held_out: Features,
    selection: TokenizedRows,
    *,
    scoring: Scoring,
) -> tuple[str, Predict]:
    """Fit the candidates to the training rows, and return the best of them with its name.

    The task's score on the selection rows decides, on equal scores the loss, as for the epochs of a prompt.

    Args:
        candidates: by name, the strongest regularisation first
        features: of the training rows
        held_out: features of the selection rows
    """
    if len(selection) >= MIN_SELECTION_ROWS:
        fitted = {name: fit(features, rows.labels) for name, fit in candidates.items()}
        best = max(fitted, key=lambda name: _rank(selection.selected_by(fitted[name](held_out), scoring)))
        return best, fitted[best]
    folds = _folds(rows.labels)
    ranks = {
        name: _rank(_cross_validated(fit, features, rows.labels, folds, scoring=scoring))
        for name, fit in (candidates.items() if folds else ())
    }
    best = max(ranks, key=lambda name: ranks[name]) if ranks else list(candidates)[len(candidates) // 2]
    return best, candidates[best](features, rows.labels)


def _rank(metrics: Metrics) -> tuple[float, float]:
    return metrics.score, -metrics.loss


def _folds(labels: Labels) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return training and held-out indices of stratified folds; none if no label has two rows.

    Multi-label rows are stratified by their set of labels.
    """
    from sklearn.model_selection import StratifiedKFold  # noqa: PLC0415 - imports scipy, which takes a second

    _, which, counts = np.unique(labels, axis=0, return_inverse=True, return_counts=True)
    which = which.reshape(-1)
    most = int(counts.max())
    if most < 2:
        return []
    # a label with fewer rows than folds is absent from some of them; scikit-learn warns of that
    folds = min(_FOLDS, most)
    shuffled = StratifiedKFold(n_splits=folds, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return list(shuffled.split(np.zeros(len(labels)), which))


def _cross_validated(
    fit: Fit,
    features: Features,
    labels: Labels,
    folds: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
    *,
    scoring: Scoring,
) -> Metrics:
    """Measure every row by a model that was fitted without its fold."""
    found = [(fit(features[train], labels[train])(features[left]), labels[left]) for train, left in folds]
    return selecting_metrics(
        np.concatenate([log_probs for log_probs, _ in found]),
        np.concatenate([expected for _, expected in found]),
        scoring=scoring,
    )
