"""Shadow versions: answered rows are computed again by another version whenever the model is idle.

The answers are compared and counted, and returned to no caller.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from functools import partial

import structlog

from adapters import AdapterError
from backbone import BackboneError
from service.catalog.adapter_cache import AdapterCache, LoadedAdapter
from service.counters.store import Key
from service.errors import DeadlineExceeded, QueueFull, ServiceError
from service.inference.admission import Admission
from service.inference.pipeline import InferencePipeline
from service.inference.predictions import Prediction, Shadowed, predict_all
from service.inference.request import InferenceRequest
from service.monitoring.shadow_report import compared, dropped, failed, outcomes, pair_key

_log = structlog.get_logger("service")
_PATIENCE_S = 30.0
"""How long rows may wait for a busy model."""


class ShadowRunner:
    """Runs requests through shadow versions in the background, bounded in rows and tokens. Belongs to the event loop.

    A request for which there is no room is dropped and counted.

    Args:
        count: adds to a counter that all replicas share
        on_rows: receives rows by outcome: agreed, flipped, dropped, failed
        on_answers: receives each compared request with the shadow's answers
    """

    def __init__(
        self,
        pipeline: InferencePipeline,
        adapters: AdapterCache,
        admission: Admission,
        *,
        count: Callable[[Key, float], None],
        on_rows: Callable[[Mapping[str, float]], None] = lambda rows: None,
        on_answers: Callable[[Shadowed, Sequence[Prediction]], None] = lambda rows, answers: None,
    ) -> None:
        self._pipeline, self._adapters, self._admission = pipeline, adapters, admission
        self._count, self._on_rows, self._on_answers = count, on_rows, on_answers
        self._tasks: set[asyncio.Task[dict[Key, float]]] = set()

    @property
    def rows(self) -> int:
        """Rows under way."""
        return self._admission.rows

    def offer(self, rows: Shadowed) -> None:
        """Schedule the comparison of a request's rows; returns at once and never raises."""
        # in a context of its own: the request has its answer, and its record must not change
        task = asyncio.create_task(self._compare(rows), name="shadow", context=Context())
        self._tasks.add(task)
        task.add_done_callback(partial(self._record, rows))

    async def stop(self) -> None:
        """Drop all comparisons under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _compare(self, rows: Shadowed) -> dict[Key, float]:
        """Return what the comparison adds to the counters."""
        num_rows = len(rows.request.items)
        try:
            with self._admission.admit(rows.request.tenant, rows=num_rows, tokens=0):
                async with asyncio.timeout(_PATIENCE_S):
                    answers = await self._answer(rows)
        except (QueueFull, DeadlineExceeded, TimeoutError):
            return dropped(num_rows)
        except (AdapterError, BackboneError, ServiceError):
            return failed(num_rows)
        self._on_answers(rows, answers)
        return compared(rows.predictions, answers)

    def _record(self, rows: Shadowed, task: asyncio.Task[dict[Key, float]]) -> None:
        """Count a comparison however it ended, even if the server stopped before it began."""
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error("shadow_failed", exc_info=error)
        counts = dropped(len(rows.request.items)) if task.cancelled() or error is not None else task.result()
        key = pair_key(rows.request.tenant, rows.primary, rows.shadow)
        for what, by in counts.items():
            self._count((*key, *what), by)
        self._on_rows(outcomes(counts))

    async def _answer(self, rows: Shadowed) -> list[Prediction]:
        """Return what a caller would get if the shadow version were in production."""
        adapter = await self._adapters.get(rows.shadow.digest)
        asked = rows.request
        request = InferenceRequest(asked.tenant, asked.items, _PATIENCE_S, asked.truncation, background=True)
        with self._admission.admit(asked.tenant, rows=0, tokens=_most_tokens(rows, adapter)):
            results, _ = await self._pipeline.infer(request, adapter)
        return await predict_all(results, adapter, top_k=adapter.readout.num_labels)


def _most_tokens(rows: Shadowed, adapter: LoadedAdapter) -> int:
    """Return an upper bound on the rows' tokens, apart from words that only the shadow's template has."""
    own = adapter.num_virtual_tokens + adapter.readout.cost(None)
    return sum(min(prediction.tokens, adapter.max_tokens) + own for prediction in rows.predictions)
