"""From inputs to label scores: render, look up, tokenize, admit, run. Independent of refs and versions."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from adapters import InvalidRow
from backbone import Backbone, FramedText, TextTooLong, TokenizedText
from service.catalog.adapter_cache import LoadedAdapter
from service.engine.engine import Engine
from service.engine.futures import gather
from service.engine.types import Row, RowScores, share_texts
from service.errors import ServiceError
from service.inference.admission import Admission
from service.inference.predictions import RowResult, Stages, num_searched, num_wanted
from service.inference.request import InferenceRequest, Item
from service.inference.result_cache import CacheKey, ResultCache
from service.inference.tokenization import Tokenization

InferenceResult = tuple[list[RowResult], Stages]
"""The result of every item of a request, and where the time went."""


@dataclass(slots=True, eq=False)
class _Part:
    """One adapter's part of a request: the results that the cache knows, and rows for the others."""

    keys: Sequence[CacheKey | None]
    known: list[RowResult | None]
    missing: list[int]
    """Indices of the items that the model must compute; the next two have an entry for each."""
    tokenized: list[TokenizedText] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    began: float = 0.0
    tokenize_s: float = 0.0

    def stages(self) -> Stages:
        """Combine the times of the rows, which were submitted together."""
        if not self.rows:
            return Stages()
        queue_s = min(row.queue_s for row in self.rows)
        ended_s = max(row.queue_s + row.infer_s for row in self.rows)
        tokens = sum(row.total_tokens for row in self.rows)
        return Stages(self.began, self.tokenize_s, queue_s, ended_s - queue_s, tokens)


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

    async def infer(self, request: InferenceRequest, adapter: LoadedAdapter) -> InferenceResult:
        """Return the result of every item, or fail as a whole.

        Raises:
            InvalidRow, TextTooLong: an item does not fit its task; the message says which
            QueueFull, DeadlineExceeded, InferenceFailed, NotReady
        """
        part = await self._prepare(request, adapter)
        scores = await self._run(request, part.rows) if part.rows else []
        return self._finish(request, part, scores)

    async def infer_together(
        self, request: InferenceRequest, adapters: Sequence[LoadedAdapter]
    ) -> list[InferenceResult | Exception]:
        """Return for each adapter what `infer` would return, or the error that it would raise.

        The rows of all adapters are admitted, charged and submitted as one: those with the same text and no prompt
        share an encoder pass. If the tenant's share of the queue or its quota has no room for all of them, each
        adapter's rows are admitted and charged on their own, and pay for their texts again.
        """
        parts = await asyncio.gather(
            *(self._prepare_in_time(request, adapter) for adapter in adapters), return_exceptions=True
        )
        scores = iter(await self._run_together(request, [part for part in parts if isinstance(part, _Part)]))
        outcomes: list[InferenceResult | Exception] = []
        for part in parts:
            outcome = next(scores) if isinstance(part, _Part) else part
            if isinstance(part, _Part) and not isinstance(outcome, BaseException):
                outcomes.append(self._finish(request, part, outcome))
            elif isinstance(outcome, Exception):
                outcomes.append(outcome)
            else:
                assert isinstance(outcome, BaseException)
                raise outcome
        return outcomes

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

    async def _prepare(self, request: InferenceRequest, adapter: LoadedAdapter) -> _Part:
        """Look up every item of a request in the result cache, and make rows of those that it does not know."""
        texts = [self._framed(adapter, index, item) for index, item in enumerate(request.items)]
        top_k = num_searched(adapter, num_wanted(adapter, request.top_k))
        keys = self._keys(request.tenant, adapter.digest, texts, top_k)
        known = [None if key is None else self._results.get(key, request.truncation) for key in keys]
        missing = [index for index, result in enumerate(known) if result is None]
        if not missing:
            return _Part(keys, known, missing)
        began = time.monotonic()
        tokenized = await self._tokenize(request, adapter, texts, missing)
        tokenize_s = time.monotonic() - began
        rows = self._rows(request, adapter, tokenized, top_k)
        return _Part(keys, known, missing, tokenized, rows, began, tokenize_s)

    async def _prepare_in_time(self, request: InferenceRequest, adapter: LoadedAdapter) -> _Part:
        async with request.before_deadline():
            return await self._prepare(request, adapter)

    async def _tokenize(
        self, request: InferenceRequest, adapter: LoadedAdapter, texts: Sequence[FramedText], indices: Sequence[int]
    ) -> list[TokenizedText]:
        """Tokenize the texts at some indices; an error names the index in the request."""
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
        return tokenized

    def _finish(self, request: InferenceRequest, part: _Part, scores: Sequence[RowScores]) -> InferenceResult:
        """Combine the scores of a part's rows with what the cache knew, and add them to the cache."""
        results = list(part.known)
        for index, text, row_scores in zip(part.missing, part.tokenized, scores, strict=True):
            result = RowResult(row_scores, text.num_tokens, text.lost_tokens, text.unknown_share)
            results[index] = result
            if (key := part.keys[index]) is not None:
                self._results.put(key, request.truncation, result)
        return [result for result in results if result is not None], part.stages()

    def _rows(
        self, request: InferenceRequest, adapter: LoadedAdapter, texts: Sequence[TokenizedText], top_k: int | None
    ) -> list[Row]:
        weight, deadline = self._weight(request.tenant), request.deadline
        return [
            Row(adapter, text.token_ids, deadline, request.tenant, weight, top_k, request.background) for text in texts
        ]

    async def _run(self, request: InferenceRequest, rows: Sequence[Row]) -> list[RowScores]:
        async with self._admitted(request, rows):
            # if this is cancelled (deadline, caller gone), the rows that still wait are cancelled in the queue
            return await gather(self._engine.submit(rows))

    async def _run_together(
        self, request: InferenceRequest, parts: Sequence[_Part]
    ) -> list[list[RowScores] | BaseException]:
        """Return the scores of each part's rows, or its error."""
        rows = [row for part in parts for row in part.rows]
        if not rows:
            return [[] for _ in parts]
        try:
            async with AsyncExitStack() as stack:
                try:
                    async with request.before_deadline():
                        await stack.enter_async_context(self._admitted(request, rows))
                except ServiceError:
                    # there is no room for all of them, but there may be for some
                    runs = [self._run_in_time(request, part) for part in parts]
                else:
                    self._engine.submit(rows)
                    runs = [self._wait(request, part) for part in parts]
                return await asyncio.gather(*runs, return_exceptions=True)
        finally:
            for row in rows:
                row.future.cancel()

    async def _wait(self, request: InferenceRequest, part: _Part) -> list[RowScores]:
        async with request.before_deadline():
            return await gather([row.future for row in part.rows])

    async def _run_in_time(self, request: InferenceRequest, part: _Part) -> list[RowScores]:
        if not part.rows:
            return []
        async with request.before_deadline():
            return await self._run(request, part.rows)

    @asynccontextmanager
    async def _admitted(self, request: InferenceRequest, rows: Sequence[Row]) -> AsyncIterator[None]:
        """Admit and charge rows for the time of the block, at the end of which they have run or are cancelled."""
        share_texts(rows)
        if request.background:
            yield
            return
        tokens = sum(row.num_tokens for row in rows)
        with self._admission.admit(request.tenant, rows=len(rows), tokens=tokens, weight=rows[0].weight):
            await self._charge(request.tenant, tokens)
            try:
                yield
            finally:
                # an exhausted search is charged for its second pass, however the request ends
                if more := sum(row.total_tokens for row in rows) - tokens:
                    await self._charge_more(request.tenant, more)
