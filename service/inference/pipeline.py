"""From inputs to what the model says of them: rendered, looked up, tokenized, admitted, run. Knows no refs."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from adapters import InvalidRow
from backbone import Backbone, TextTooLong, TokenizedText, Truncation
from service.catalog.adapter_cache import LoadedAdapter
from service.engine.engine import Engine
from service.engine.futures import gather
from service.engine.types import EngineRow, RowAnswer
from service.inference.admission import Admission
from service.inference.predictions import Item, RowResult, Stages
from service.inference.result_cache import ResultCache
from service.inference.tokenization import Tokenization


@dataclass(frozen=True, slots=True)
class InferenceContext:
    """What all rows of a request have in common."""

    tenant: str
    weight: float
    """The tenant's share against the others'."""
    adapter: LoadedAdapter
    truncation: Truncation
    top_k: int | None
    """How many of the best labels the model looks for, None for all."""
    deadline: float
    """On `time.monotonic`'s clock."""
    background: bool = False
    """Nobody waits for it: it goes behind all others, holds no place among them and is charged to nobody."""


@dataclass(frozen=True, slots=True)
class InferenceResult:
    """What the model says of each item, now or before."""

    results: list[RowResult]
    cached: list[bool]
    """Of each, whether it was remembered."""
    stages: Stages


async def _for_nothing(tenant: str, tokens: int) -> None:
    """Charge nobody."""


class InferencePipeline:
    """The one way from inputs to the engine and back.

    Args:
        charge: told of a tenant's tokens before the model sees them; refuses them by raising
    """

    def __init__(
        self,
        backbone: Backbone,
        engine: Engine,
        admission: Admission,
        *,
        results: ResultCache,
        max_text_chars: int,
        charge: Callable[[str, int], Awaitable[None]] = _for_nothing,
    ) -> None:
        self._backbone, self._engine = backbone, engine
        self._admission, self._results, self._charge = admission, results, charge
        self._tokenization = Tokenization(backbone.tokenizer)
        self._max_text_chars = max_text_chars

    async def answer(self, asked: InferenceContext, items: Sequence[Item]) -> InferenceResult:
        """Every item's result, or none.

        Raises:
            InvalidRow, TextTooLong: an item does not fit its task; says which
            QueueFull, DeadlineExceeded, InferenceFailed, NotReady
        """
        texts = [self._render(asked.adapter, index, item) for index, item in enumerate(items)]
        digest = asked.adapter.digest
        known = [self._results.get(digest, text, asked.truncation, top_k=asked.top_k) for text in texts]
        fresh, stages = await self._compute(asked, texts, known)
        computed = iter(fresh)
        return InferenceResult(
            [result or next(computed) for result in known], [result is not None for result in known], stages
        )

    async def try_out(self, asked: InferenceContext) -> None:
        """One real forward of an adapter that nobody can name yet; raises what `answer` would."""
        token_ids = (self._backbone.architecture.eos_id,)
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
        self, asked: InferenceContext, texts: Sequence[str], known: Sequence[RowResult | None]
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
        if not asked.background:
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

    async def _run(self, asked: InferenceContext, rows: Sequence[EngineRow]) -> list[RowAnswer]:
        if asked.background:
            return await gather(self._engine.submit(rows))
        tokens = sum(row.num_tokens for row in rows)
        with self._admission.admit(asked.tenant, rows=len(rows), tokens=tokens, weight=asked.weight):
            # cancelled here (deadline, caller gone), the rows that wait are cancelled in the queue
            return await gather(self._engine.submit(rows))


def _rows(asked: InferenceContext, texts: Sequence[TokenizedText]) -> list[EngineRow]:
    return [
        EngineRow(
            asked.adapter,
            text.token_ids,
            asked.deadline,
            asked.tenant,
            asked.weight,
            top_k=asked.top_k,
            background=asked.background,
        )
        for text in texts
    ]


def _stages(began: float, tokenize_s: float, rows: Sequence[EngineRow], answers: Sequence[RowAnswer]) -> Stages:
    """A request's rows were submitted together: their times share a beginning."""
    queue_s = min(answer.queued_s for answer in answers)
    ended_s = max(answer.queued_s + answer.infer_s for answer in answers)
    return Stages(began, tokenize_s, queue_s, ended_s - queue_s, sum(row.num_tokens for row in rows))
