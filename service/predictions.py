"""From a row's label log-probabilities to its prediction: calibration, order, abstention."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from service.forward import RowScores
from service.loaded import LoadedAdapter


@dataclass(frozen=True, slots=True)
class Prediction:
    """One row's answer."""

    label: str
    score: float
    scores: dict[str, float]
    """Calibrated probabilities of the best labels, best first."""
    logprobs: dict[str, float]
    """Raw log-probabilities of the same labels, before calibration."""
    abstained: bool
    tokens: int
    """Tokens of the text as the model read it, end-of-sequence counted, the prompt not."""
    truncated: bool
    cached: bool
    """The answer was remembered, not computed again."""


@dataclass(frozen=True, slots=True)
class RowResult:
    """What the model gave for a row, before anything that depends on how it was asked."""

    scores: RowScores
    num_tokens: int
    truncated: bool

    def detached(self) -> Self:
        """The same with scores of its own, where they are a view into a batch's."""
        return replace(self, scores=self.scores.copy())


def predict(result: RowResult, adapter: LoadedAdapter, *, top_k: int | None, cached: bool) -> Prediction:
    """Calibrate and order a row's labels."""
    log_probs, names = result.scores, adapter.label_names
    scores = _calibrated(log_probs, adapter.temperature)  # [K]
    order = np.argsort(-log_probs, kind="stable")[:top_k].tolist()
    probabilities, raw = scores.tolist(), log_probs.tolist()
    best = probabilities[order[0]]
    threshold = adapter.abstain_threshold
    return Prediction(
        label=names[order[0]],
        score=best,
        scores={names[i]: probabilities[i] for i in order},
        logprobs={names[i]: raw[i] for i in order},
        abstained=threshold is not None and best < threshold,
        tokens=result.num_tokens,
        truncated=result.truncated,
        cached=cached,
    )


def _calibrated(log_probs: RowScores, temperature: float) -> NDArray[np.float64]:
    """softmax(log p / temperature), [K]."""
    scaled = log_probs.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max())
    result: NDArray[np.float64] = weights / weights.sum()
    return result
