"""From a row's label log-probabilities to its prediction: calibration, order, abstention."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from adapters import Resolution
from adapters.calibration import calibrated
from backbone import SMALL_TRIE, Truncation
from service.catalog.adapter_cache import LoadedAdapter
from service.engine.model_runner import RowScores

Item = str | Mapping[str, str] | tuple[str, ...]
"""A text, or the texts of the task's fields: by name, or in the fields' order."""
FEW_LABELS = 20
"""A task with more labels answers its best `DEFAULT_TOP_K` unless the caller says how many."""
DEFAULT_TOP_K = 5


@dataclass(frozen=True, slots=True)
class Prediction:
    """One row's answer."""

    label: str
    score: float
    value: float | None
    """Ordinal tasks: the expected value, the sum of each label's number times its probability. Else null."""
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


def num_wanted(adapter: LoadedAdapter, top_k: int | None) -> int:
    """How many labels an answer has."""
    num_labels = adapter.trie.num_labels
    if top_k is None:
        return num_labels if num_labels <= FEW_LABELS else DEFAULT_TOP_K
    return min(top_k, num_labels)


def num_searched(adapter: LoadedAdapter, wanted: int) -> int | None:
    """How many of the best labels the model looks for, where `wanted` are to be answered; None for all.

    A temperature rescales every label's probability by all the others', and an expected value is made of all.
    """
    trie = adapter.trie
    if wanted == trie.num_labels or trie.num_nodes <= SMALL_TRIE:
        return None
    return wanted if adapter.temperature == 1 and adapter.values is None else None


def predict(result: RowResult, adapter: LoadedAdapter, *, top_k: int, cached: bool) -> Prediction:
    """Calibrate and order a row's labels, the best `top_k` of them."""
    log_probs, names = result.scores, adapter.label_names
    scores = calibrated(log_probs, adapter.temperature)  # [K]
    order = np.argsort(-log_probs, kind="stable")[:top_k].tolist()
    probabilities, raw = scores.tolist(), log_probs.tolist()
    best = probabilities[order[0]]
    threshold = adapter.abstain_threshold
    return Prediction(
        label=names[order[0]],
        score=best,
        value=None if adapter.values is None else float(scores @ np.array(adapter.values)),
        scores={names[i]: probabilities[i] for i in order},
        logprobs={names[i]: raw[i] for i in order},
        abstained=threshold is not None and best < threshold,
        tokens=result.num_tokens,
        truncated=result.truncated,
        cached=cached,
    )


@dataclass(frozen=True, slots=True)
class Stages:
    """Where a request's time went, and what it cost the model; zero for what it did not need."""

    began: float = 0.0
    """When tokenizing began, on `time.monotonic`'s clock; the queue follows, then the model."""
    tokenize_s: float = 0.0
    queue_s: float = 0.0
    """Until its first row's batch began."""
    infer_s: float = 0.0
    """From there until its last row's batch ended."""
    packed_tokens: int = 0
    """Prompts, texts and further trie nodes of the rows that the model ran."""


@dataclass(frozen=True, slots=True)
class Classification:
    """The answers to one request, all by the one version named."""

    tenant: str
    resolution: Resolution
    predictions: list[Prediction]
    stages: Stages
    label_names: tuple[str, ...]
    """All of the task, in its own order."""
    watched: bool
    """The version has a validation profile."""


@dataclass(frozen=True, slots=True)
class Shadowed:
    """A request that was answered, and the version to compare with."""

    tenant: str
    primary: Resolution
    shadow: Resolution
    items: Sequence[Item]
    truncation: Truncation
    predictions: Sequence[Prediction]
    """What the caller got."""
