"""Calibration: from a model's label log-probabilities to the probabilities that are served."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

DEFAULT_LABEL_THRESHOLD = 0.5
"""The probability from which on a text gets a label of a multi-label task, where no other threshold was chosen."""


MAX_THRESHOLDS = 1_000
"""The largest number of labels of a task."""
Probability = Annotated[float, Field(ge=0, le=1)]

_MAX_LOGIT = 80.0
"""float32 holds the log-probabilities of smaller ones exactly enough; exp of larger ones overflows nothing."""


class Calibration(BaseModel):
    """How scores become probabilities and answers.

    One label per text: softmax(log p / temperature); below `abstain_threshold` the task abstains. Multi-label:
    sigmoid(logit / temperature) of each label; a text has the labels that reach their thresholds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    temperature: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    abstain_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    label_thresholds: Annotated[tuple[Probability, ...], Field(max_length=MAX_THRESHOLDS)] | None = None
    """Multi-label tasks: one per label, in the task's order; None means 0.5 for all."""

    def thresholds(self, num_labels: int) -> NDArray[np.float64]:
        """Return the threshold of each label of a multi-label task, [K]."""
        if self.label_thresholds is None:
            return np.full(num_labels, DEFAULT_LABEL_THRESHOLD)
        return np.array(self.label_thresholds, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class AbstainPromise:
    """Bound on the precision of answers above an abstain threshold, as its fit proved it by fixed-sequence testing."""

    precision: float
    """Lower bound on the share of right answers among the answered rows, 0 to 1."""
    confidence: float
    """Share of draws of the fitted rows in which the bound holds, 0 to 1."""
    num_rows: int
    """Number of rows that the threshold was fitted on."""

    def __str__(self) -> str:
        return (
            f"a precision of at least {100 * self.precision:g} % at confidence {100 * self.confidence:g} % "
            f"(fixed-sequence testing on {self.num_rows} rows)"
        )

    def figures(self) -> dict[str, float]:
        """Return the promise as metrics of a provenance."""
        return dict(zip(PROMISE_METRICS, (self.precision, self.confidence, float(self.num_rows)), strict=True))


PROMISE_METRICS = ("promised_precision", "promised_confidence", "promised_rows")


def read_promise(metrics: Mapping[str, float], *, role: str = "report") -> AbstainPromise | None:
    """Return the promise in a provenance's metrics; None without a threshold, or in files of older versions."""
    found = [metrics.get(f"{role}_{name}") for name in PROMISE_METRICS]
    precision, confidence, num_rows = found
    if precision is None or confidence is None or num_rows is None:
        return None
    return AbstainPromise(precision, confidence, int(num_rows))


def calibrated(log_probs: NDArray[np.float32], temperature: float, *, multi_label: bool = False) -> NDArray[np.float64]:
    """Return calibrated probabilities, [..., K].

    One label per text: softmax(log p / temperature) over the last axis (Guo et al. 2017, "On Calibration of Modern
    Neural Networks", section 4.2). Multi-label: sigmoid(logit / temperature) of each label. At temperature 1 this is p
    itself, even if only the best labels are known.
    """
    if temperature == 1:
        return np.exp(log_probs.astype(np.float64))
    if multi_label:
        return np.asarray(1 / (1 + np.exp(-label_logits(log_probs) / temperature)))
    scaled = log_probs.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    result: NDArray[np.float64] = weights / weights.sum(axis=-1, keepdims=True)
    return result


def label_logits(log_probs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the logits of independent label log-probabilities, log p − log(1 − p), [..., K], within ±`_MAX_LOGIT`."""
    known = np.minimum(log_probs.astype(np.float64), -np.exp(-_MAX_LOGIT))
    return np.asarray(np.maximum(known - np.log(-np.expm1(known)), -_MAX_LOGIT))


def reached(probabilities: NDArray[np.float64], thresholds: Sequence[float] | NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which labels of a multi-label task texts have, [..., K]: those whose probability reaches its threshold."""
    return np.asarray(probabilities >= np.asarray(thresholds))
