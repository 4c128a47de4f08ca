"""From inputs to label scores: render, look up, tokenize, admit, run. Independent of refs and versions."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from adapters import AdapterError, InvalidRow
from backbone import Backbone, BackboneError, FramedText, TextTooLong, TokenizedText
from service.catalog.adapter_cache import LoadedAdapter
from service.engine.engine import Engine
from service.engine.futures import all_ended, gather, results
from service.engine.types import Row, RowScores, share_texts
from service.errors import DeadlineExceeded, ServiceError
from service.inference.admission import Admission
from service.inference.predictions import RowResult, Stages, num_searched, num_wanted
from service.inference.request import InferenceRequest, Item
from service.inference.result_cache import CacheKey, ResultCache
from service.inference.tokenization import Tokenization

REFUSALS = (AdapterError, BackboneError, ServiceError)
"""Errors by which a ref or an item is refused. Everything else is a fault of the program."""
InferenceResult = tuple[list[RowResult], Stages]
"""The result of every item of a request, and where the time went."""


@dataclass(slots=True, eq=False)
class _Part:
    """One adapter's part of a request: the results that the cache knows, and rows for the others."""

    adapter: LoadedAdapter
    top_k: int | None
    keys: Sequence[CacheKey | None]
    known: list[RowResult | None]
    missing: list[int]
    """Indices of the items that the model must compute; the next three have an entry for each."""
    texts: list[FramedText]
    tokenized: Sequence[TokenizedText] = ()
    rows: list[Row] = field(default_factory=list)
    scores: Sequence[RowScores] = ()
    began: float = 0.0
    tokenize_s: float = 0.0

    @property
    def futures(self) -> list[Future[RowScores]]:
        return [row.future for row in self.rows]

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
        part = self._look_up(request, adapter)
        if part.missing:
            await self._tokenize(request, [part])
            part.scores = await self._run(request, part.rows)
        return self._finish(request, part)

    async def infer_together(
        self, request: InferenceRequest, adapters: Sequence[LoadedAdapter]
    ) -> list[InferenceResult | Exception]:
        """Return for each adapter what `infer` would return, or the error that it would raise.

        The rows of all adapters are admitted, charged and submitted as one: those with the same text and no prompt
        share an encoder pass. If the tenant's share of the queue or its quota has no room for all of them, each
        adapter's rows are admitted and charged on their own, and pay for their texts again.
        """
        outcomes: dict[int, InferenceResult | Exception] = {}
        parts: dict[int, _Part] = {}
        for number, adapter in enumerate(adapters):
            try:
                parts[number] = self._look_up(request, adapter)
            except REFUSALS as exc:
                outcomes[number] = exc
        refused = await self._tokenize_together(request, list(parts.values()))
        refused |= await self._run_together(request, [part for part in parts.values() if part not in refused])
        for number, part in parts.items():
            outcomes[number] = refused.get(part) or self._finish(request, part)
        return [outcomes[number] for number in range(len(adapters))]

    async def try_out(self, request: InferenceRequest, adapter: LoadedAdapter) -> None:
        """Run one forward of an adapter that is not published yet; raises what `infer` would."""
        text = TokenizedText((self._backbone.architecture.eos_id,))
        await self._run(request, _rows(request, adapter, [text], None, weight=self._weight(request.tenant)))

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

    def _look_up(self, request: InferenceRequest, adapter: LoadedAdapter) -> _Part:
        """Fill the template with every item of a request, and look the texts up in the result cache."""
        texts = [self._framed(adapter, index, item) for index, item in enumerate(request.items)]
        top_k = num_searched(adapter, num_wanted(adapter, request.top_k))
        keys = self._keys(request.tenant, adapter.digest, texts, top_k)
        known = [None if key is None else self._results.get(key, request.truncation) for key in keys]
        missing = [index for index, result in enumerate(known) if result is None]
        return _Part(adapter, top_k, keys, known, missing, [texts[index] for index in missing])

    async def _tokenize(self, request: InferenceRequest, parts: Sequence[_Part]) -> None:
        """Tokenize the texts that parts have in common, and make their rows; an error names the index of the item."""
        texts, missing, max_tokens = parts[0].texts, parts[0].missing, parts[0].adapter.max_tokens
        began = time.monotonic()
        try:
            tokenized = await self._tokenization.tokenize(texts, max_tokens=max_tokens, truncation=request.truncation)
        except TextTooLong as exc:
            raise exc.at(missing[exc.index]) from exc
        for index, text in zip(missing, tokenized, strict=True):
            if text.is_empty:
                raise InvalidRow(
                    f"inputs[{index}]: the text is empty (at most white space, control and zero-width characters), "
                    "expected at least one visible character"
                )
        tokenize_s = time.monotonic() - began
        weight = self._weight(request.tenant)
        for part in parts:
            part.tokenized, part.began, part.tokenize_s = tokenized, began, tokenize_s
            part.rows = _rows(request, part.adapter, tokenized, part.top_k, weight=weight)

    async def _tokenize_together(self, request: InferenceRequest, parts: Sequence[_Part]) -> dict[_Part, Exception]:
        """Tokenize texts that several parts render alike once; return the parts that are refused."""
        alike: dict[tuple[object, ...], list[_Part]] = {}
        for part in parts:
            if part.missing:
                key = (part.adapter.max_tokens, *part.missing, *part.texts)
                alike.setdefault(key, []).append(part)
        refused: dict[_Part, Exception] = {}

        async def tokenize(some: Sequence[_Part]) -> None:
            try:
                await self._tokenize(request, some)
            except REFUSALS as exc:
                refused.update(dict.fromkeys(some, exc))

        try:
            async with request.before_deadline():
                await asyncio.gather(*map(tokenize, alike.values()))
        except DeadlineExceeded as exc:
            return dict.fromkeys(parts, exc) | refused
        return refused

    def _finish(self, request: InferenceRequest, part: _Part) -> InferenceResult:
        """Combine the scores of a part's rows with what the cache knew, and add them to the cache."""
        found = list(part.known)
        for index, text, scores in zip(part.missing, part.tokenized, part.scores, strict=True):
            result = RowResult(scores, text.num_tokens, text.lost_tokens, text.unknown_share)
            found[index] = result
            if (key := part.keys[index]) is not None:
                self._results.put(key, request.truncation, result)
        return [result for result in found if result is not None], part.stages()

    async def _run(self, request: InferenceRequest, rows: Sequence[Row]) -> list[RowScores]:
        async with self._admitted(request, rows):
            # if this is cancelled (deadline, caller gone), the rows that still wait are cancelled in the queue
            return await gather(self._engine.submit(rows))

    async def _run_together(self, request: InferenceRequest, parts: Sequence[_Part]) -> dict[_Part, Exception]:
        """Compute the scores of all parts' rows; return the parts that are refused."""
        rows = [row for part in parts for row in part.rows]
        if not rows:
            return {}
        async with AsyncExitStack() as stack:
            try:
                async with request.before_deadline():
                    await stack.enter_async_context(self._admitted(request, rows))
            except ServiceError:
                # there is no room for all of them, but there may be for some
                refused = await asyncio.gather(*(self._run_apart(request, part) for part in parts))
                return {part: error for part, error in zip(parts, refused, strict=True) if error is not None}
            self._engine.submit(rows)
            return await self._wait(request, parts)

    async def _wait(self, request: InferenceRequest, parts: Sequence[_Part]) -> dict[_Part, Exception]:
        """Wait for rows that were submitted, at most until the deadline; return the parts that are refused."""
        late: DeadlineExceeded | None = None
        try:
            async with request.before_deadline():
                await all_ended([part.futures for part in parts])
        except DeadlineExceeded as exc:
            late = exc
        refused: dict[_Part, Exception] = {}
        for part in parts:
            try:
                part.scores = results(part.futures)
            except ServiceError as exc:
                refused[part] = exc
            except CancelledError:
                if late is None:
                    raise
                refused[part] = late
        return refused

    async def _run_apart(self, request: InferenceRequest, part: _Part) -> ServiceError | None:
        """Admit, charge and run the rows of one part; return the error by which it is refused."""
        try:
            if part.rows:
                async with request.before_deadline():
                    part.scores = await self._run(request, part.rows)
        except ServiceError as exc:
            return exc
        return None

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


def _rows(
    request: InferenceRequest,
    adapter: LoadedAdapter,
    texts: Sequence[TokenizedText],
    top_k: int | None,
    *,
    weight: float,
) -> list[Row]:
    deadline = request.deadline
    return [Row(adapter, text.token_ids, deadline, request.tenant, weight, top_k, request.background) for text in texts]
