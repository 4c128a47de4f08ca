"""The validation profile: an adapter's answers on held-out rows, with which live answers are compared."""

from collections.abc import Sequence
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FailFast, Field, model_validator

CONFIDENCE_BINS = 10
"""Bins of the best label's calibrated probability, each 0.1 wide; 1.0 belongs to the last."""
_MAX_ROWS = 2**53 - 1
"""The largest integer of canonical JSON (RFC 8785)."""

Count = Annotated[int, Field(ge=0, le=_MAX_ROWS, strict=True)]


class ValidationProfile(BaseModel):
    """Counts of labels and confidences in the answers to `rows` rows of one data set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label_counts: Annotated[tuple[Count, ...], FailFast()]
    """In the order of the task's labels."""
    confidence_counts: Annotated[tuple[Count, ...], FailFast()]
    """Rows per bin of confidence, lowest first."""
    rows: Annotated[int, Field(ge=1, le=_MAX_ROWS, strict=True)]

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if len(self.confidence_counts) != CONFIDENCE_BINS:
            raise ValueError(f"confidence_counts has {len(self.confidence_counts)} bins, expected {CONFIDENCE_BINS}")
        for name in ("label_counts", "confidence_counts"):
            if (total := sum(getattr(self, name))) != self.rows:
                raise ValueError(f"{name} add up to {total}, expected {self.rows}, the rows")
        return self


def confidence_bin(confidence: float) -> int:
    """Return the bin of a probability, 0 to `CONFIDENCE_BINS` − 1."""
    return min(max(int(confidence * CONFIDENCE_BINS), 0), CONFIDENCE_BINS - 1)


def profile_of(probabilities: NDArray[np.float64]) -> ValidationProfile:
    """Build the profile of answers from their calibrated probabilities [n, K]."""
    return ValidationProfile(
        label_counts=_counts(probabilities.argmax(axis=1).tolist(), probabilities.shape[1]),
        confidence_counts=_counts([confidence_bin(p) for p in probabilities.max(axis=1).tolist()], CONFIDENCE_BINS),
        rows=len(probabilities),
    )


def _counts(indices: Sequence[int], size: int) -> tuple[int, ...]:
    return tuple(np.bincount(indices, minlength=size).tolist())
