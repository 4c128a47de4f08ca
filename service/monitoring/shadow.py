"""Shadow versions: answered rows are computed again by another version whenever the model is idle.

The answers are compared and counted, and returned to no caller.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextvars import Context

from adapters import AdapterError
from backbone import BackboneError
from service.catalog.adapter_cache import AdapterCache
from service.counters.store import Key
from service.errors import DeadlineExceeded, QueueFull, ServiceError
from service.inference.admission import Admission
from service.inference.pipeline import InferencePipeline
from service.inference.predictions import Prediction, Shadowed, predict
from service.inference.request import InferenceRequest
from service.monitoring.shadow_report import compared, dropped, failed, outcomes, pair_key

_PATIENCE_S = 30.0
"""How long rows may wait for a busy model."""


class ShadowRunner:
    """Runs requests through shadow versions in the background, bounded in rows and tokens. Belongs to the event loop.

    A request for which there is no room is dropped and counted.

    Args:
        count: adds to a counter that all replicas share
        on_rows: receives rows by outcome: agreed, flipped, dropped, failed
    """

    def __init__(
        self,
        pipeline: InferencePipeline,
        adapters: AdapterCache,
        admission: Admission,
        *,
        count: Callable[[Key, float], None],
        on_rows: Callable[[Mapping[str, float]], None] = lambda rows: None,
    ) -> None:
        self._pipeline, self._adapters, self._admission = pipeline, adapters, admission
        self._count, self._on_rows = count, on_rows
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def rows(self) -> int:
        """Rows under way."""
        return self._admission.rows

    def offer(self, rows: Shadowed) -> None:
        """Schedule the comparison of a request's rows; returns at once and never raises."""
        # in a context of its own: the request has its answer, and its record must not change
        task = asyncio.create_task(self._compare(rows), name="shadow", context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Drop all comparisons under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _compare(self, rows: Shadowed) -> None:
        counts = dropped(len(rows.request.items))
        try:
            with self._admission.admit(rows.request.tenant, rows=len(rows.request.items), tokens=_num_tokens(rows)):
                async with asyncio.timeout(_PATIENCE_S):
                    counts = compared(rows.predictions, await self._answer(rows))
        except (QueueFull, DeadlineExceeded, TimeoutError):
            pass  # counted as dropped
        except (AdapterError, BackboneError, ServiceError):
            counts = failed(len(rows.request.items))
        finally:  # also when the server stops
            key = pair_key(rows.request.tenant, rows.primary, rows.shadow)
            for what, by in counts.items():
                self._count((*key, *what), by)
            self._on_rows(outcomes(counts))

    async def _answer(self, rows: Shadowed) -> list[Prediction]:
        """Return what a caller would get if the shadow version were in production."""
        adapter = await self._adapters.get(rows.shadow.digest)
        asked = rows.request
        request = InferenceRequest(asked.tenant, asked.items, _PATIENCE_S, asked.truncation, background=True)
        results, _ = await self._pipeline.infer(request, adapter)
        return [predict(result, adapter, top_k=adapter.trie.num_labels) for result in results]


def _num_tokens(rows: Shadowed) -> int:
    """Estimate the rows' cost; the shadow version's prompt length is unknown until it is loaded."""
    return sum(prediction.tokens for prediction in rows.predictions)
