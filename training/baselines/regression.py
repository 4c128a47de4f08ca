"""Ridge regression for ordinal labels: a predicted number, as a distribution over the labels' numbers."""

import numpy as np
from numpy.typing import NDArray

from training.scoring.out_of_fold import Features, LogProbs, Predict

_SMALLEST_VARIANCE = 1e-4
"""Share of the variance of the labels' numbers that a perfect fit keeps, so that no probability is 0."""


def fit_ridge(
    features: Features,
    labels: NDArray[np.int64],  # [n]
    *,
    grid: NDArray[np.float64],  # [K], ascending
    alpha: float,
) -> Predict:
    """Fit a number to features [n, D]; the label of a row is that of the nearest number.

    The errors are taken as normal, so a label's log-probability falls with the square of its distance.
    """
    from sklearn.linear_model import Ridge  # noqa: PLC0415 - imports scipy, which takes a second

    expected = grid[labels]
    model = Ridge(alpha=alpha, solver="auto").fit(features, expected)
    floor = _SMALLEST_VARIANCE * float(grid.var())
    variance = max(float(np.mean((model.predict(features) - expected) ** 2)), floor)

    def predict(other: Features) -> LogProbs:
        distances = np.asarray(model.predict(other), np.float64)[:, None] - grid  # [n, K]
        logits = -(distances**2) / (2 * variance)
        logits -= logits.max(axis=1, keepdims=True)
        log_probs: LogProbs = (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)
        return log_probs

    return predict
