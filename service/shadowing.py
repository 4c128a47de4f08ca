"""Shadowing: rows that were answered are computed again by another version, when nobody else wants the model.

Its answers are compared and counted, and go to nobody. Belongs to the event loop.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass

from adapters import AdapterError, Resolution
from backbone import BackboneError, Truncation
from service.admission import Admission
from service.answering import Answering, Asked, Item
from service.errors import DeadlineExceeded, QueueFull, ServiceError
from service.ledger import Key
from service.loaded import AdapterCache
from service.predictions import Prediction, num_searched, num_wanted, predict
from service.shadow_counts import compared, dropped, failed, outcomes, pair_key

_PATIENCE_S = 30.0
"""How long rows may wait for a model that others keep busy."""


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


class Shadowing:
    """A few requests at a time in the background, bounded in rows and tokens; what finds no room is dropped.

    Args:
        count: adds to a counter of all replicas
        on_rows: told of rows by what became of them: agreed, flipped, dropped, failed
    """

    def __init__(
        self,
        answering: Answering,
        adapters: AdapterCache,
        admission: Admission,
        *,
        count: Callable[[Key, float], None],
        on_rows: Callable[[Mapping[str, float]], None] = lambda rows: None,
    ) -> None:
        self._answering, self._adapters, self._admission = answering, adapters, admission
        self._count, self._on_rows = count, on_rows
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def rows(self) -> int:
        """Those that are on their way."""
        return self._admission.rows

    def offer(self, rows: Shadowed) -> None:
        """Compare a request's rows, some time. It returns at once and never fails."""
        # a context of its own: what is learnt here is no fact of the request, which has its answer
        task = asyncio.create_task(self._compare(rows), name="shadow", context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Drop what is not done."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _compare(self, rows: Shadowed) -> None:
        counts = dropped(len(rows.items))
        try:
            with self._admission.admit(rows.tenant, rows=len(rows.items), tokens=_num_tokens(rows)):
                async with asyncio.timeout(_PATIENCE_S):
                    counts = compared(rows.predictions, await self._answer(rows))
        except (QueueFull, DeadlineExceeded, TimeoutError):
            pass  # counted as dropped
        except (AdapterError, BackboneError, ServiceError):
            counts = failed(len(rows.items))
        finally:  # also where the server stops
            key = pair_key(rows.tenant, rows.primary, rows.shadow)
            for what, by in counts.items():
                self._count((*key, *what), by)
            self._on_rows(outcomes(counts))

    async def _answer(self, rows: Shadowed) -> list[Prediction]:
        """What a caller would get, were the shadow version in production."""
        adapter = await self._adapters.get(rows.shadow.digest)
        search = num_searched(adapter, num_wanted(adapter, None))
        deadline = time.monotonic() + _PATIENCE_S
        asked = Asked(rows.tenant, 1.0, adapter, rows.truncation, search, deadline, background=True)
        answered = await self._answering.answer(asked, rows.items)
        all_labels = adapter.trie.num_labels
        return [predict(result, adapter, top_k=all_labels, cached=False) for result in answered.results]


def _num_tokens(rows: Shadowed) -> int:
    """About what they cost; how long the other version's prompt is, is not known before it is loaded."""
    return sum(prediction.tokens for prediction in rows.predictions)
