"""Calibration: from a model's label log-probabilities to the probabilities that are served."""

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field


class Calibration(BaseModel):
    """How scores become probabilities: softmax(log p / temperature). Below the threshold the task abstains."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    temperature: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    abstain_threshold: Annotated[float, Field(ge=0, le=1)] | None = None


def calibrated(log_probs: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Return softmax(log p / temperature) over the last axis, [..., K] (Guo et al. 2017, "On Calibration of Modern
    Neural Networks", section 4.2). At temperature 1 this is p itself, even if only the best labels are known.
    """
    if temperature == 1:
        return np.exp(log_probs.astype(np.float64))
    scaled = log_probs.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    result: NDArray[np.float64] = weights / weights.sum(axis=-1, keepdims=True)
    return result
