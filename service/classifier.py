"""Classification as a use case: from a ref and inputs to predictions. Nothing of HTTP in it."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters import Calibration, InvalidRow, Ref, Resolution, TaskSpec
from backbone import Backbone, TokenizedText, Truncation
from service.admission import Admission
from service.catalog import Catalog
from service.engine import Engine, EngineRow
from service.errors import DeadlineExceeded
from service.forward import RowScores
from service.loaded import AdapterCache, LoadedAdapter

Item = str | Mapping[str, str]


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


@dataclass(frozen=True, slots=True)
class Classification:
    """The answers to one request, all by the one version named."""

    resolution: Resolution
    predictions: list[Prediction]


class Classifier:
    """Resolve, render, tokenize, admit, run, calibrate."""

    def __init__(
        self,
        backbone: Backbone,
        engine: Engine,
        catalog: Catalog,
        adapters: AdapterCache,
        admission: Admission,
        *,
        max_text_chars: int,
        on_answered: Callable[[Sequence[Prediction]], None] = lambda predictions: None,
    ) -> None:
        self._backbone, self._engine, self._catalog = backbone, engine, catalog
        self._adapters, self._admission, self._max_text_chars = adapters, admission, max_text_chars
        self._on_answered = on_answered

    async def classify(
        self,
        tenant: str,
        ref: Ref,
        items: Sequence[Item],
        *,
        truncation: Truncation,
        top_k: int | None,
        timeout_s: float,
    ) -> Classification:
        """Answer every item, or none.

        Raises:
            NotFound, Conflict, BackboneMismatch: what the ref means cannot be served
            InvalidRow, TextTooLong: an item does not fit its task; says which
            QueueFull, DeadlineExceeded, InferenceFailed, NotReady
        """
        deadline = time.monotonic() + timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                resolution = self._catalog.resolve(tenant, ref)
                adapter = await self._adapters.get(resolution.digest)
                texts = await self._tokenize(adapter.spec, items, truncation)
                scores = await self._run(adapter, texts, deadline)
        except TimeoutError as exc:
            raise DeadlineExceeded(f"no answer within {timeout_s:g} s") from exc
        predictions = [_prediction(row, adapter, text, top_k) for row, text in zip(scores, texts, strict=True)]
        self._on_answered(predictions)
        return Classification(resolution, predictions)

    async def try_out(self, adapter: LoadedAdapter, *, timeout_s: float) -> None:
        """One real forward of an adapter that nobody can name yet; raises what `classify` would."""
        token_ids = (self._backbone.architecture.eos_id,)
        await self._run(adapter, [TokenizedText(token_ids, truncated=False)], time.monotonic() + timeout_s)

    async def _tokenize(self, spec: TaskSpec, items: Sequence[Item], truncation: Truncation) -> list[TokenizedText]:
        texts = [self._render(spec, index, item) for index, item in enumerate(items)]
        return await asyncio.to_thread(self._fit, texts, spec.max_tokens, truncation)

    def _render(self, spec: TaskSpec, index: int, item: Item) -> str:
        try:
            text = spec.render(item)
        except InvalidRow as exc:
            raise InvalidRow(f"inputs[{index}]: {exc}") from exc
        if len(text) > self._max_text_chars:
            raise InvalidRow(
                f"inputs[{index}]: text has {len(text)} characters, expected at most {self._max_text_chars}"
            )
        return text

    def _fit(self, texts: list[str], max_tokens: int, truncation: Truncation) -> list[TokenizedText]:
        return self._backbone.tokenizer.tokenize(texts, max_tokens=max_tokens, truncation=truncation)

    async def _run(self, adapter: LoadedAdapter, texts: Sequence[TokenizedText], deadline: float) -> list[RowScores]:
        rows = [EngineRow(adapter, text.token_ids, deadline) for text in texts]
        with self._admission.admit(rows=len(rows), tokens=sum(row.num_tokens for row in rows)):
            # cancelled here (deadline, caller gone), the rows that wait are cancelled in the queue
            return await asyncio.gather(*map(asyncio.wrap_future, self._engine.submit(rows)))


def _prediction(log_probs: RowScores, adapter: LoadedAdapter, text: TokenizedText, top_k: int | None) -> Prediction:
    names = adapter.spec.label_names
    scores = _calibrated(log_probs, adapter.calibration)  # [K]
    order = np.argsort(-log_probs, kind="stable")[:top_k]
    best = int(order[0])
    threshold = adapter.calibration.abstain_threshold
    return Prediction(
        label=names[best],
        score=float(scores[best]),
        scores={names[i]: float(scores[i]) for i in order},
        logprobs={names[i]: float(log_probs[i]) for i in order},
        abstained=threshold is not None and bool(scores[best] < threshold),
        tokens=text.num_tokens,
        truncated=text.truncated,
    )


def _calibrated(log_probs: RowScores, calibration: Calibration) -> NDArray[np.float64]:
    """softmax(log p / temperature), [K]."""
    scaled = log_probs.astype(np.float64) / calibration.temperature
    weights = np.exp(scaled - scaled.max())
    result: NDArray[np.float64] = weights / weights.sum()
    return result
