"""From inputs to label scores: render, look up, tokenize, admit, run. Independent of refs and versions."""

import time
from collections.abc import Awaitable, Callable, Sequence

from adapters import InvalidRow
from backbone import Backbone, FramedText, TextTooLong, TokenizedText
from service.catalog.adapter_cache import LoadedAdapter
from service.engine.engine import Engine
from service.engine.futures import gather
from service.engine.types import Row, RowScores
from service.inference.admission import Admission
from service.inference.predictions import RowResult, Stages, num_searched, num_wanted
from service.inference.request import InferenceRequest, Item
from service.inference.result_cache import CacheKey, ResultCache
from service.inference.tokenization import Tokenization


async def _free_of_charge(tenant: str, tokens: int) -> None:
    """Charge nothing."""


class InferencePipeline:
    """The only path from inputs to the engine and back.

    Args:
        weight: returns a tenant's weight in admission and fair queuing
        charge: charges a tenant for the packed tokens and label nodes of an admitted request; raises to refuse it
        charge_more: charges for tokens that an admitted request took beyond that; never refuses
    """

    def __init__(
        self,
        backbone: Backbone,
        engine: Engine,
        admission: Admission,
        *,
        results: ResultCache,
        max_text_chars: int,
        weight: Callable[[str], float] = lambda tenant: 1.0,
        charge: Callable[[str, int], Awaitable[None]] = _free_of_charge,
        charge_more: Callable[[str, int], Awaitable[None]] = _free_of_charge,
    ) -> None:
        self._backbone, self._engine, self._admission = backbone, engine, admission
        self._results, self._weight = results, weight
        self._charge, self._charge_more = charge, charge_more
        self._tokenization = Tokenization(backbone.tokenizer)
        self._max_text_chars = max_text_chars

    async def infer(self, request: InferenceRequest, adapter: LoadedAdapter) -> tuple[list[RowResult], Stages]:
        """Return the result of every item, or fail as a whole.

        Raises:
            InvalidRow, TextTooLong: an item does not fit its task; the message says which
            QueueFull, DeadlineExceeded, InferenceFailed, NotReady
        """
        texts = [self._framed(adapter, index, item) for index, item in enumerate(request.items)]
        top_k = num_searched(adapter, num_wanted(adapter, request.top_k))
        keys = self._keys(request.tenant, adapter.digest, texts, top_k)
        known = [None if key is None else self._results.get(key, request.truncation) for key in keys]
        missing = [index for index, result in enumerate(known) if result is None]
        if not missing:
            return [result for result in known if result is not None], Stages()
        fresh, stages = await self._compute(request, adapter, texts, missing, top_k)
        for index, result in zip(missing, fresh, strict=True):
            if (key := keys[index]) is not None:
                self._results.put(key, request.truncation, result)
        computed = iter(fresh)
        return [result or next(computed) for result in known], stages

    async def try_out(self, request: InferenceRequest, adapter: LoadedAdapter) -> None:
        """Run one forward of an adapter that is not published yet; raises what `infer` would."""
        text = TokenizedText((self._backbone.architecture.eos_id,))
        await self._run(request, self._rows(request, adapter, [text], None))

    def _keys(
        self, tenant: str, digest: str, texts: Sequence[FramedText], top_k: int | None
    ) -> Sequence[CacheKey | None]:
        """Return the texts' keys in the result cache; a cache that is off costs no hash."""
        if not self._results.enabled:
            return [None] * len(texts)
        return [CacheKey.of(tenant, digest, text.key, top_k=top_k) for text in texts]

    def _framed(self, adapter: LoadedAdapter, index: int, item: Item) -> FramedText:
        try:
            text = adapter.frame.fill(adapter.template.values(item))
        except InvalidRow as exc:
            raise InvalidRow(f"inputs[{index}]: {exc}") from exc
        if len(text) > self._max_text_chars:
            raise InvalidRow(
                f"inputs[{index}]: text has {len(text)} characters, expected at most {self._max_text_chars}"
            )
        return text

    async def _compute(
        self,
        request: InferenceRequest,
        adapter: LoadedAdapter,
        texts: Sequence[FramedText],
        indices: Sequence[int],
        top_k: int | None,
    ) -> tuple[list[RowResult], Stages]:
        """Tokenize and run the texts at some indices; return their results in that order."""
        started = time.monotonic()
        try:
            tokenized = await self._tokenization.tokenize(
                [texts[index] for index in indices], max_tokens=adapter.max_tokens, truncation=request.truncation
            )
        except TextTooLong as exc:
            raise exc.at(indices[exc.index]) from exc
        for index, text in zip(indices, tokenized, strict=True):
            if text.is_empty:
                raise InvalidRow(
                    f"inputs[{index}]: the text is empty (at most white space, control and zero-width characters), "
                    "expected at least one visible character"
                )
        tokenize_s = time.monotonic() - started
        rows = self._rows(request, adapter, tokenized, top_k)
        scores = await self._run(request, rows)
        results = [
            RowResult(row_scores, text.num_tokens, text.lost_tokens, text.unknown_share)
            for row_scores, text in zip(scores, tokenized, strict=True)
        ]
        return results, _stages(started, tokenize_s, rows)

    def _rows(
        self, request: InferenceRequest, adapter: LoadedAdapter, texts: Sequence[TokenizedText], top_k: int | None
    ) -> list[Row]:
        weight, deadline = self._weight(request.tenant), request.deadline
        return [
            Row(adapter, text.token_ids, deadline, request.tenant, weight, top_k, request.background) for text in texts
        ]

    async def _run(self, request: InferenceRequest, rows: Sequence[Row]) -> list[RowScores]:
        if request.background:
            return await gather(self._engine.submit(rows))
        tokens = sum(row.num_tokens for row in rows)
        with self._admission.admit(request.tenant, rows=len(rows), tokens=tokens, weight=rows[0].weight):
            await self._charge(request.tenant, tokens)
            try:
                # if this is cancelled (deadline, caller gone), the rows that still wait are cancelled in the queue
                return await gather(self._engine.submit(rows))
            finally:
                # an exhausted search is charged for its second pass, however the request ends
                if more := sum(row.total_tokens for row in rows) - tokens:
                    await self._charge_more(request.tenant, more)


def _stages(started: float, tokenize_s: float, rows: Sequence[Row]) -> Stages:
    """Combine the times of a request's rows, which were submitted together."""
    queue_s = min(row.queue_s for row in rows)
    ended_s = max(row.queue_s + row.infer_s for row in rows)
    return Stages(started, tokenize_s, queue_s, ended_s - queue_s, sum(row.total_tokens for row in rows))
