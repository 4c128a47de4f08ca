"""The tally: what this process counts, gathered on the event loop and added to the ledger each second.

A process that is killed loses what it counted since its last flush, a second's worth at most while the ledger can be
reached. While it cannot, counts are kept up to `MAX_COUNTERS` names; what comes on top is dropped, counted and logged.
"""

import asyncio
from dataclasses import dataclass
from uuid import uuid4

import structlog

from service.counters.store import BatchId, CounterStore, Key, encode
from service.periodic import PeriodicTask

MAX_COUNTERS = 50_000
"""Distinct names that wait at most: about 20 MB."""
_BATCH_COUNTERS = 2_000
"""Names in one transaction, which nobody else's command interrupts in Redis: 10 ms."""
_FLUSH_INTERVAL_S = 1.0
_log = structlog.get_logger("service")


@dataclass(frozen=True, slots=True)
class _Batch:
    """What was sent and is not known to have arrived: it stays as it is, so that it can be sent again."""

    id: BatchId
    counts: dict[Key, float]


class CounterBuffer:
    """Counts by name. Belongs to the event loop."""

    def __init__(self, ledger: CounterStore, *, max_counters: int = MAX_COUNTERS) -> None:
        self._ledger, self._max_counters = ledger, max_counters
        self._writer, self._sequence = uuid4().hex, 0
        self._waiting: dict[Key, float] = {}
        self._batch: _Batch | None = None
        self._flushing = asyncio.Lock()
        self._loop = PeriodicTask(
            "counter-buffer",
            self.flush,
            interval_s=_FLUSH_INTERVAL_S,
            on_down=lambda error: _log.warning("ledger_unavailable", reason=str(error), waiting=len(self)),
            on_up=lambda: _log.info("ledger_back", dropped=self.dropped),
        )
        self.dropped = 0.0
        """The sum of what found no place while the ledger was away."""

    @property
    def degraded(self) -> bool:
        """Whether the last flush failed."""
        return self._loop.degraded

    def __len__(self) -> int:
        """Names that wait for the ledger."""
        return len(self._waiting) + (0 if self._batch is None else len(self._batch.counts))

    def count(self, *key: str, by: float = 1) -> None:
        """Add to a counter; `key` begins with its use, like `("usage", tenant, task, …)`.

        Every word comes out of a bounded set (a name that exists, a date), never out of a caller's request.
        """
        if key in self._waiting:
            self._waiting[key] += by
        elif len(self) < self._max_counters:
            encode(key)  # a bug is known where it is, not at the flush
            self._waiting[key] = by
        else:
            self.dropped += by

    async def read(self, *prefix: str) -> dict[Key, float]:
        """All replicas' counters under a prefix, this one's up to now (`RegistryUnavailable` where it is away)."""
        await self.flush()
        return await asyncio.to_thread(self._ledger.read, *prefix)

    async def flush(self) -> None:
        """Add everything that waits; what fails is tried again as the very same batch (`RegistryUnavailable`)."""
        async with self._flushing:
            while batch := self._next_batch():
                await asyncio.to_thread(self._ledger.add, batch.counts, batch.id)
                self._batch = None

    async def start(self) -> None:
        """Flush each second from now on."""
        self._loop.start()

    async def stop(self) -> None:
        """End that, with one last flush; what the ledger does not take is lost and logged."""
        await self._loop.stop()
        await self._loop.run_once()
        if len(self):
            _log.error("counts_lost", counters=len(self))

    def _next_batch(self) -> _Batch | None:
        if self._batch is None and self._waiting:
            names = list(self._waiting)[:_BATCH_COUNTERS]
            self._sequence += 1
            batch_id = BatchId(self._writer, self._sequence)
            self._batch = _Batch(batch_id, {name: self._waiting.pop(name) for name in names})
        return self._batch
