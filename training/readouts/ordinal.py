"""Heads for labels that are numbers: ridge regression to the number, as label vectors.

The number ŷ that regression predicts is linear in the state, and −(ŷ − v)² / 2σ² is linear in ŷ up to what all labels
share. So the distribution over the labels' numbers v that has its mode at the number nearest to ŷ is that of label
vectors and biases, and an adapter can hold it like any other head.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.readouts.head import Head

ALPHAS = (10_000.0, 1_000.0, 100.0)
"""Values of ridge regression's alpha that are tried; the strongest regularisation first."""
_SMALLEST_VARIANCE = 1e-3
"""Share of the variance of the labels' numbers that a perfect fit keeps, so that no probability is 0."""


def fit_ordinal_heads(
    states: NDArray[np.float32],  # [n, H]
    labels: NDArray[np.int64],  # [n]
    *,
    values: Sequence[float],
    alphas: Sequence[float] = ALPHAS,
) -> list[Head]:
    """Fit a head for each strength of regularisation; σ² is the variance of its errors on the rows.

    Args:
        values: the number of each label, [K]
    """
    from sklearn.linear_model import Ridge  # noqa: PLC0415 - imports scipy, which takes a second

    numbers = np.array(values, dtype=np.float64)
    centred = numbers - numbers.mean()
    mean, scale = states.mean(axis=0, dtype=np.float64), states.std(axis=0, dtype=np.float64)
    scale[scale == 0] = 1.0
    standardised = (states - mean) / scale
    heads = []
    for alpha in alphas:
        model = Ridge(alpha=alpha).fit(standardised, centred[labels])
        errors = model.predict(standardised) - centred[labels]
        variance = max(float(np.mean(errors**2)), _SMALLEST_VARIANCE * float(centred.var()))
        weights = np.asarray(model.coef_, np.float64) / scale  # [H], of states as they are
        offset = float(model.intercept_) - float(weights @ mean)
        vectors = np.outer(centred, weights) / variance
        bias = (centred * offset - centred**2 / 2) / variance
        heads.append(Head(vectors.astype(np.float32), bias.astype(np.float32)))
    return heads
