"""Classification as a use case: from a ref and inputs to predictions. Nothing of HTTP in it."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from adapters import InvalidRow, Ref, Resolution
from backbone import Backbone, TextTooLong, TokenizedText, Truncation
from service.admission import Admission
from service.catalog import Catalog
from service.engine import Engine
from service.errors import DeadlineExceeded
from service.facts import current_facts
from service.gathering import gather_answers
from service.loaded import AdapterCache, LoadedAdapter
from service.predictions import Prediction, RowResult, num_searched, num_wanted, predict
from service.result_cache import ResultCache
from service.routing import route
from service.rows import EngineRow, RowAnswer
from service.tokenization import Tokenization

Item = str | Mapping[str, str] | tuple[str, ...]
"""A text, or the texts of the task's fields: by name, or in the fields' order."""


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


@dataclass(frozen=True, slots=True)
class _Asked:
    """What all rows of a request have in common."""

    tenant: str
    weight: float
    adapter: LoadedAdapter
    truncation: Truncation
    top_k: int | None
    """How many of the best labels the model looks for, None for all."""
    deadline: float


async def _for_nothing(tenant: str, tokens: int) -> None:
    """Charge nothing."""


class Classifier:
    """Resolve, render, look up, tokenize, admit, run, calibrate."""

    def __init__(
        self,
        backbone: Backbone,
        engine: Engine,
        catalog: Catalog,
        adapters: AdapterCache,
        admission: Admission,
        *,
        results: ResultCache,
        max_text_chars: int,
        weight: Callable[[str], float] = lambda tenant: 1.0,
        charge: Callable[[str, int], Awaitable[None]] = _for_nothing,
        on_answered: Callable[[Classification], None] = lambda classification: None,
    ) -> None:
        """The parts it works with.

        Args:
            weight: a tenant's share against the others'
            charge: told of a tenant's tokens before the model sees them; refuses them by raising
        """
        self._backbone, self._engine, self._catalog = backbone, engine, catalog
        self._adapters, self._admission, self._results = adapters, admission, results
        self._tokenization = Tokenization(backbone.tokenizer)
        self._max_text_chars, self._on_answered = max_text_chars, on_answered
        self._weight, self._charge = weight, charge

    async def classify(
        self,
        tenant: str,
        ref: Ref,
        items: Sequence[Item],
        *,
        truncation: Truncation,
        top_k: int | None,
        timeout_s: float,
        sticky_key: str | None = None,
    ) -> Classification:
        """Answer every item, or none, all by one version.

        Args:
            sticky_key: requests with the same one get the same version of a bare task name, while its traffic is as is

        Raises:
            NotFound, Conflict, BackboneMismatch: what the ref means cannot be served
            InvalidRow, TextTooLong: an item does not fit its task; says which
            QueueFull, DeadlineExceeded, InferenceFailed, NotReady
        """
        deadline = time.monotonic() + timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                task = self._catalog.task(tenant, ref.task)
                resolution = route(task, ref, sticky_key=sticky_key, draw=random.random).primary
                current_facts().resolved.append(resolution)
                adapter = await self._adapters.get(resolution.digest)
                wanted = num_wanted(adapter, top_k)
                search = num_searched(adapter, wanted)
                asked = _Asked(tenant, self._weight(tenant), adapter, truncation, search, deadline)
                texts = [self._render(adapter, index, item) for index, item in enumerate(items)]
                known = [self._results.get(adapter.digest, text, truncation, top_k=asked.top_k) for text in texts]
                fresh, stages = await self._compute(asked, texts, known)
        except TimeoutError as exc:
            raise DeadlineExceeded(f"no answer within {timeout_s:g} s") from exc
        computed = iter(fresh)
        predictions = [
            predict(result or next(computed), adapter, top_k=wanted, cached=result is not None) for result in known
        ]
        classification = Classification(tenant, resolution, predictions, stages, adapter.label_names)
        self._on_answered(classification)
        return classification

    async def try_out(self, tenant: str, adapter: LoadedAdapter, *, timeout_s: float) -> None:
        """One real forward of an adapter that nobody can name yet; raises what `classify` would."""
        token_ids = (self._backbone.architecture.eos_id,)
        asked = _Asked(tenant, self._weight(tenant), adapter, "error", None, time.monotonic() + timeout_s)
        await self._run(asked, _rows(asked, [TokenizedText(token_ids, truncated=False)]))

    def _render(self, adapter: LoadedAdapter, index: int, item: Item) -> str:
        try:
            text = adapter.template.render(item)
        except InvalidRow as exc:
            raise InvalidRow(f"inputs[{index}]: {exc}") from exc
        if len(text) > self._max_text_chars:
            raise InvalidRow(
                f"inputs[{index}]: text has {len(text)} characters, expected at most {self._max_text_chars}"
            )
        return text

    async def _compute(
        self, asked: "_Asked", texts: Sequence[str], known: Sequence[RowResult | None]
    ) -> tuple[list[RowResult], Stages]:
        """Results of the texts that are not known, in their order; they are known from then on."""
        indices = [index for index, result in enumerate(known) if result is None]
        if not indices:
            return [], Stages()
        started = time.monotonic()
        try:
            tokenized = await self._tokenization.tokenize(
                [texts[index] for index in indices], max_tokens=asked.adapter.max_tokens, truncation=asked.truncation
            )
        except TextTooLong as exc:
            raise TextTooLong(indices[exc.index], exc.num_tokens, exc.max_tokens) from exc
        tokenize_s = time.monotonic() - started
        await self._charge(asked.tenant, sum(len(text.token_ids) for text in tokenized))
        rows = _rows(asked, tokenized)
        answers = await self._run(asked, rows)
        fresh = [
            RowResult(answer.scores, row.num_tokens, row.truncated)
            for answer, row in zip(answers, tokenized, strict=True)
        ]
        for index, result in zip(indices, fresh, strict=True):
            self._results.put(asked.adapter.digest, texts[index], asked.truncation, result, top_k=asked.top_k)
        return fresh, _stages(started, tokenize_s, rows, answers)

    async def _run(self, asked: "_Asked", rows: Sequence[EngineRow]) -> list[RowAnswer]:
        tokens = sum(row.num_tokens for row in rows)
        with self._admission.admit(asked.tenant, rows=len(rows), tokens=tokens, weight=asked.weight):
            # cancelled here (deadline, caller gone), the rows that wait are cancelled in the queue
            return await gather_answers(self._engine.submit(rows))


def _rows(asked: "_Asked", texts: Sequence[TokenizedText]) -> list[EngineRow]:
    return [
        EngineRow(asked.adapter, text.token_ids, asked.deadline, asked.tenant, asked.weight, top_k=asked.top_k)
        for text in texts
    ]


def _stages(began: float, tokenize_s: float, rows: Sequence[EngineRow], answers: Sequence[RowAnswer]) -> Stages:
    """A request's rows were submitted together: their times share a beginning."""
    queue_s = min(answer.queued_s for answer in answers)
    ended_s = max(answer.queued_s + answer.infer_s for answer in answers)
    return Stages(began, tokenize_s, queue_s, ended_s - queue_s, sum(row.num_tokens for row in rows))
