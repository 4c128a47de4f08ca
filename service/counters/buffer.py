"""Buffer of the counts of this process, added to the counter store once per second.

A process that is killed loses the counts since its last flush: those of one second, if the store is reachable. During
an outage of the store, counts of up to `MAX_COUNTERS` keys are kept; others are dropped, and their sum is reported.
"""

import asyncio
from dataclasses import dataclass
from uuid import uuid4

import structlog

from adapters import RegistryReadOnly
from service.counters.store import BatchId, CounterStore, Key, encode
from service.periodic import PeriodicTask

MAX_COUNTERS = 50_000
"""Limit of distinct keys in the buffer: about 20 MB."""
_BATCH_COUNTERS = 2_000
"""Keys per transaction, which blocks Redis for about 10 ms."""
_FLUSH_INTERVAL_S = 1.0
_log = structlog.get_logger("service")


@dataclass(frozen=True, slots=True)
class _Batch:
    """Counts that were sent and not confirmed. They stay unchanged, so that they can be sent again."""

    id: BatchId
    counts: dict[Key, float]


class CounterBuffer:
    """Counts by key. Belongs to the event loop."""

    def __init__(self, store: CounterStore, *, max_counters: int = MAX_COUNTERS) -> None:
        self._store, self._max_counters = store, max_counters
        self._writer, self._sequence = uuid4().hex, 0
        self._waiting: dict[Key, float] = {}
        self._batch: _Batch | None = None
        self._flushing = asyncio.Lock()
        self._loop = PeriodicTask(
            "counter-buffer",
            self.flush,
            interval_s=_FLUSH_INTERVAL_S,
            on_down=lambda error: _log.warning("counters_unavailable", reason=str(error), waiting=len(self)),
            on_up=lambda: _log.info("counters_recovered", dropped=self.dropped),
        )
        self.dropped = 0.0
        """Sum of the counts that did not fit during outages of the store."""

    @property
    def degraded(self) -> bool:
        """Whether the last flush failed."""
        return self._loop.degraded

    def __len__(self) -> int:
        """Return the number of keys that are not yet stored."""
        return len(self._waiting) + (0 if self._batch is None else len(self._batch.counts))

    def count(self, *key: str, by: float = 1) -> None:
        """Add to a counter; `key` begins with its purpose, as in `("usage", tenant, task, …)`.

        All words come from bounded sets (an existing name, a date), never from a client's request.
        """
        if key in self._waiting:
            self._waiting[key] += by
        elif len(self) < self._max_counters:
            encode(key)  # raises for an invalid key here, where the bug is, and not in the flush
            self._waiting[key] = by
        else:
            self.dropped += by

    async def read(self, *prefix: str) -> dict[Key, float]:
        """Flush, and return all replicas' counters under a prefix (`RegistryUnavailable`).

        If the store is read-only, the counts of this process that it lacks are added to those that it has.
        """
        try:
            await self.flush()
        except RegistryReadOnly:
            stored = await asyncio.to_thread(self._store.read, *prefix)
            for counts in (self._waiting, {} if self._batch is None else self._batch.counts):
                for key, count in counts.items():
                    if key[: len(prefix)] == prefix:
                        stored[key] = stored.get(key, 0) + count
            return stored
        return await asyncio.to_thread(self._store.read, *prefix)

    async def flush(self) -> None:
        """Store all counts (`RegistryUnavailable`). A batch that fails is sent again unchanged."""
        async with self._flushing:
            while batch := self._next_batch():
                await asyncio.to_thread(self._store.add, batch.counts, batch.id)
                self._batch = None

    async def start(self) -> None:
        """Start to flush once per second."""
        self._loop.start()

    async def stop(self) -> None:
        """Flush one last time and stop; counts that cannot be stored are lost and logged."""
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
