"""Calibration: from the model's label log-probabilities to the probabilities that are answered."""

import numpy as np
from numpy.typing import NDArray


def calibrated(log_probs: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """softmax(log p / temperature) over the last axis, [..., K] (Guo et al. 2017, "On Calibration of Modern Neural
    Networks", section 4.2); at temperature 1 that is p itself, also where only the best labels are known.
    """
    if temperature == 1:
        return np.exp(log_probs.astype(np.float64))
    scaled = log_probs.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    result: NDArray[np.float64] = weights / weights.sum(axis=-1, keepdims=True)
    return result
