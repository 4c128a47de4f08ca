"""Tokenization without blocking the event loop: queued texts are tokenized together in a thread.

Belongs to the event loop. One batch is in flight at a time, and texts that arrive meanwhile form the next one: no text
waits for a batch to fill.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from backbone import FramedText, TextTokenizer, TokenizedText, Truncation

INLINE_CHARS = 1_000
"""Largest request tokenized on the event loop: 9 µs for one short text against 53 in a thread, at most 0.1 ms."""
MAX_BATCH_CHARS = 65_536
"""Characters of one batch, 8 ms: a request of millions of characters continues after requests that came later."""


@dataclass(slots=True, eq=False)
class _Job:
    """The texts of one request, and those that are tokenized so far."""

    texts: Sequence[FramedText]
    max_tokens: int
    truncation: Truncation
    future: asyncio.Future[list[TokenizedText]]
    tokenized: list[TokenizedText] = field(default_factory=list)

    @property
    def begun(self) -> int:
        return len(self.tokenized)


@dataclass(frozen=True, slots=True)
class _Share:
    """The texts of one job that are in a batch."""

    job: _Job
    texts: Sequence[FramedText]


_Outcome = list[TokenizedText] | Exception


class Tokenization:
    """Tokenizes rendered texts, short requests inline and long ones in a thread."""

    def __init__(
        self, tokenizer: TextTokenizer, *, inline_chars: int = INLINE_CHARS, max_batch_chars: int = MAX_BATCH_CHARS
    ) -> None:
        self._tokenizer, self._inline_chars, self._max_batch_chars = tokenizer, inline_chars, max_batch_chars
        # an executor of its own: calls to a hung store may occupy the default one for seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="superpos-tokenize")
        self._waiting: deque[_Job] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def tokenize(
        self, texts: Sequence[FramedText], *, max_tokens: int, truncation: Truncation
    ) -> list[TokenizedText]:
        """Return the result of `TextTokenizer.tokenize`, in turn.

        Raises:
            TextTooLong: one of these texts, under `error` or if too little of a field would remain
        """
        if sum(map(len, texts)) <= self._inline_chars:
            return self._tokenizer.tokenize(texts, max_tokens=max_tokens, truncation=truncation)
        job = _Job(texts, max_tokens, truncation, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work(), name="tokenizer")
        return await job.future

    async def _work(self) -> None:
        try:
            while batch := self._next_batch():
                outcomes = await asyncio.get_running_loop().run_in_executor(self._thread, self._tokenize, batch)
                for share, outcome in zip(batch, outcomes, strict=True):
                    self._settle(share.job, outcome)
        finally:
            self._worker = None

    def _next_batch(self) -> list[_Share]:
        """Take from each job in turn what still fits; a text larger than a batch is a batch of its own."""
        batch: list[_Share] = []
        room = self._max_batch_chars
        while self._waiting and room > 0:
            job = self._waiting.popleft()
            if job.future.done():  # its caller has left
                continue
            end = job.begun
            while end < len(job.texts) and (room >= len(job.texts[end]) or not (batch or end > job.begun)):
                room -= len(job.texts[end])
                end += 1
            if end == job.begun:
                self._waiting.appendleft(job)
                break
            batch.append(_Share(job, job.texts[job.begun : end]))
        return batch

    def _settle(self, job: _Job, outcome: _Outcome) -> None:
        if job.future.done():
            return
        if isinstance(outcome, Exception):
            job.future.set_exception(outcome)
            return
        job.tokenized += outcome
        if job.begun == len(job.texts):
            job.future.set_result(job.tokenized)
        else:
            self._waiting.append(job)

    def _tokenize(self, batch: Sequence[_Share]) -> list[_Outcome]:
        """Tokenize a batch in one call, in a thread; return the outcome of each share."""
        try:
            pieces = iter(self._tokenizer.ids([text for share in batch for text in share.texts]))
        except Exception as exc:  # noqa: BLE001 - whatever a tokenizer raises is raised for the requests of the batch
            return [exc] * len(batch)
        return [self._fit(share, [next(pieces) for _ in share.texts]) for share in batch]

    def _fit(self, share: _Share, pieces: Sequence[list[int]]) -> _Outcome:
        job = share.job
        try:
            return [
                self._tokenizer.fit(job.begun + number, text, ids, job.max_tokens, job.truncation)
                for number, (text, ids) in enumerate(zip(share.texts, pieces, strict=True))
            ]
        except Exception as exc:  # noqa: BLE001 - see above; mostly `TextTooLong`
            return exc
