"""Loads adapters that the registry announces, before the first request asks for them. Belongs to the event loop."""

import asyncio
from collections.abc import Sequence
from contextvars import Context

import structlog

from adapters import Change
from adapters.errors import AdapterError
from backbone import BackboneError
from service.errors import ServiceError
from service.loaded import AdapterCache

_log = structlog.get_logger("service")


class Prefetch:
    """A few loads at a time in the background; what fails is logged, and told to whoever asks for it."""

    def __init__(self, adapters: AdapterCache, *, concurrency: int = 2, max_waiting: int = 1_024) -> None:
        self._adapters, self._concurrency, self._max_waiting = adapters, concurrency, max_waiting
        self._waiting: dict[str, None] = {}  # digests in order, each once
        self._workers: set[asyncio.Task[None]] = set()

    def announce(self, changes: Sequence[Change]) -> None:
        """Load what was published or is newly pointed at; past the limit, the first request does."""
        for change in changes:
            wanted = change.kind in {"published", "alias_set"} and change.digest not in self._adapters
            if wanted and len(self._waiting) < self._max_waiting:
                self._waiting[change.digest] = None
        for _ in range(min(len(self._waiting), self._concurrency) - len(self._workers)):
            worker = asyncio.create_task(self._work(), name="prefetch", context=Context())  # no request's
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def stop(self) -> None:
        """Give up what is not loaded yet."""
        self._waiting.clear()
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def _work(self) -> None:
        while self._waiting:
            digest = next(iter(self._waiting))
            del self._waiting[digest]
            try:
                await self._adapters.get(digest)
            except (AdapterError, BackboneError, ServiceError) as exc:
                _log.info("adapter_not_loaded", adapter=digest, reason=str(exc))
