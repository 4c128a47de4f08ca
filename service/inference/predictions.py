"""Predictions from a row's label log-probabilities: calibration, order, abstention; and the answer to a request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from adapters import Resolution
from adapters.calibration import calibrated, reached
from backbone import NOTABLE_UNKNOWN_SHARE, Precision
from service.catalog.adapter_cache import LoadedAdapter
from service.engine.types import RowScores
from service.inference.request import InferenceRequest
from service.pieces import map_in_pieces

FEW_LABELS = 20
"""A task with more labels returns its best `DEFAULT_TOP_K` unless the request says how many."""
DEFAULT_TOP_K = 5


@dataclass(frozen=True, slots=True)
class Prediction:
    """Answer to one item."""

    label: str
    """The most probable label; in a multi-label task, also where it does not reach its threshold."""
    score: float
    """Its calibrated probability."""
    labels: tuple[str, ...] | None
    """Multi-label tasks: the labels whose probability reaches their threshold, most probable first; may be empty. Else
    null."""
    value: float | None
    """Ordinal tasks: the expected value, which is the sum of each label's number times its probability. Else null."""
    scores: dict[str, float]
    """Calibrated probabilities of the best labels, best first. Those of a multi-label task do not sum to 1."""
    logprobs: dict[str, float]
    """Raw log-probabilities of the same labels, before calibration."""
    abstained: bool
    tokens: int
    """Tokens of the text as the model read it, with the end-of-sequence token, without the prompt."""
    truncated: bool
    cached: bool
    """The answer came from the result cache."""
    lost_tokens: Mapping[str, int]
    """Tokens that truncation cut, by field; empty for a whole text."""
    unknown_tokens: float | None
    """Share of the text's visible characters that the backbone has no piece for, if it is above 0.1: a warning that the
    answer means little. Else null."""


@dataclass(frozen=True, slots=True)
class RowResult:
    """A row's scores before calibration, which are the same for every request with this text."""

    scores: RowScores
    num_tokens: int
    lost_tokens: Mapping[str, int]
    unknown_share: float
    cached: bool = False

    def to_cache(self) -> Self:
        """Return the result as the cache keeps it: with a copy of the scores, which may be a view into a batch's."""
        return replace(self, scores=self.scores.copy(), cached=True)


def num_wanted(adapter: LoadedAdapter, top_k: int | None) -> int:
    """Return how many labels an answer has."""
    num_labels = adapter.readout.num_labels
    if top_k is None:
        return num_labels if num_labels <= FEW_LABELS else DEFAULT_TOP_K
    return min(top_k, num_labels)


def num_searched(adapter: LoadedAdapter, wanted: int) -> int | None:
    """Return how many of the best labels the model must score to answer with `wanted` of them, None for all.

    All are needed to calibrate with a temperature, which normalizes over all labels, and for an expected value.
    """
    if adapter.temperature != 1 or adapter.values is not None:
        return None
    return None if adapter.readout.search_budget(wanted) is None else wanted


async def predict_all(results: Sequence[RowResult], adapter: LoadedAdapter, *, top_k: int) -> list[Prediction]:
    """Return the predictions of rows; other tasks run while those of many labels are computed."""
    return await map_in_pieces(
        lambda result: predict(result, adapter, top_k=top_k), results, values_each=adapter.readout.num_labels
    )


def predict(result: RowResult, adapter: LoadedAdapter, *, top_k: int) -> Prediction:
    """Calibrate a row's scores and return the best `top_k` labels."""
    log_probs, names = result.scores, adapter.label_names
    scores = calibrated(log_probs, adapter.temperature, multi_label=adapter.label_thresholds is not None)  # [K]
    ranked = np.argsort(-log_probs, kind="stable").tolist()
    order = ranked[:top_k]
    probabilities, raw = scores.tolist(), log_probs.tolist()
    best = probabilities[order[0]]
    threshold = adapter.abstain_threshold
    return Prediction(
        label=names[order[0]],
        score=best,
        labels=_labels(scores, ranked, adapter),
        value=None if adapter.values is None else float(scores @ np.array(adapter.values)),
        scores={names[i]: probabilities[i] for i in order},
        logprobs={names[i]: raw[i] for i in order},
        abstained=threshold is not None and best < threshold,
        tokens=result.num_tokens,
        truncated=bool(result.lost_tokens),
        cached=result.cached,
        lost_tokens=dict(result.lost_tokens),
        unknown_tokens=result.unknown_share if result.unknown_share > NOTABLE_UNKNOWN_SHARE else None,
    )


def _labels(scores: NDArray[np.float64], ranked: Sequence[int], adapter: LoadedAdapter) -> tuple[str, ...] | None:
    """Return the labels that a text has in a multi-label task, most probable first; None in another task."""
    if adapter.label_thresholds is None:
        return None
    has = reached(scores, adapter.label_thresholds)  # [K]
    return tuple(adapter.label_names[i] for i in ranked if has[i])


@dataclass(frozen=True, slots=True)
class Stages:
    """Durations of a request's stages and its cost to the model; zero for a stage that did not run."""

    began: float = 0.0
    """Start of tokenization on the clock of `time.monotonic`; the queue follows, then the model."""
    tokenize_s: float = 0.0
    queue_s: float = 0.0
    """Until the batch of its first row started."""
    infer_s: float = 0.0
    """From there until the batch of its last row ended."""
    packed_tokens: int = 0
    """Prompts, texts and additional trie nodes of the rows that the model ran."""


@dataclass(frozen=True, slots=True)
class Classification:
    """The predictions of one request, all by the same version."""

    tenant: str
    resolution: Resolution
    predictions: list[Prediction]
    stages: Stages
    label_names: tuple[str, ...]
    """All labels of the task, in its own order."""
    has_profile: bool
    """The version has a validation profile."""
    precision: Precision
    """In which the model computed the scores."""
    is_multi_label: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """An answered request with its texts."""

    request: InferenceRequest
    fields: tuple[str, ...]
    """The task's fields."""
    classification: Classification


@dataclass(frozen=True, slots=True)
class Shadowed:
    """An answered request, and the shadow version to compare the answer with."""

    request: InferenceRequest
    primary: Resolution
    shadow: Resolution
    predictions: Sequence[Prediction]
    """The predictions that the caller got."""
