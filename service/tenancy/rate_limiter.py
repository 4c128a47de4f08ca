"""Rate counters and concurrency slots: of one process, and shared ones with a fallback to one process.

Counts are kept by the storages of the `limits` library, but not limited by its strategies: those answer only yes or no,
while responses say what is left. The windows here are fixed and numbered by the clock, so that one round trip both
counts and returns the sum.
"""

import math
import sqlite3
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog
from limits.aio.storage import MemoryStorage

_log = structlog.get_logger("service")
SLOT_LIFETIME_S = 60.0
"""Frees the slots of a replica that died. A request that lasts longer stops being counted."""
_RETRY_AFTER_S = 1.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ConcurrencySlot:
    """The right to one of a tenant's concurrent requests, held until it is released."""

    held: int
    """Slots in use, this one included."""
    release: Callable[[], Awaitable[object]]


class RateCounter(Protocol):
    """Counts for all processes that share it. Keys never hold text of a client."""

    degraded: bool
    """Whether this process counts alone although the counts should be shared."""

    async def add(self, key: str, amount: int, *, window_s: int) -> int:
        """Add to the window that `key` names and return its sum. It is forgotten after `window_s`."""
        ...

    async def acquire(self, key: str, name: str, *, limit: int) -> ConcurrencySlot | None:
        """Take one of `limit` slots; return None if all are held."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class LocalRateCounter:
    """A `RateCounter` of one process, on the event loop."""

    def __init__(self) -> None:
        self._counters = MemoryStorage()
        self.degraded = False
        self._held: dict[str, set[str]] = {}

    async def add(self, key: str, amount: int, *, window_s: int) -> int:
        return await self._counters.incr(key, window_s, amount)

    async def acquire(self, key: str, name: str, *, limit: int) -> ConcurrencySlot | None:
        held = self._held.setdefault(key, set())
        if len(held) >= limit:
            return None
        held.add(name)
        return ConcurrencySlot(len(held), lambda: self._release(key, name))

    async def close(self) -> None:
        pass

    async def _release(self, key: str, name: str) -> None:
        held = self._held.get(key, set())
        held.discard(name)
        if not held:
            self._held.pop(key, None)


class FallbackRateCounter:
    """A shared `RateCounter`, replaced by one of this process alone while the shared one fails.

    After a failure one request per second tries the shared one; no other request waits for it.
    """

    def __init__(
        self,
        shared: RateCounter,
        *,
        outages: tuple[type[Exception], ...] = (OSError, sqlite3.Error),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Count in `shared`.

        Args:
            outages: the errors of `shared` while its store cannot be used; others are raised
            clock: in seconds
        """
        self._shared, self._local, self._outages, self._clock = shared, LocalRateCounter(), outages, clock
        self._try_again_at = -math.inf
        self.degraded = False

    async def add(self, key: str, amount: int, *, window_s: int) -> int:
        return await self._call(lambda counter: counter.add(key, amount, window_s=window_s))

    async def acquire(self, key: str, name: str, *, limit: int) -> ConcurrencySlot | None:
        slot = await self._call(lambda counter: counter.acquire(key, name, limit=limit))
        return None if slot is None else ConcurrencySlot(slot.held, lambda: self._release(slot))

    async def close(self) -> None:
        await self._shared.close()

    async def _call(self, call: Callable[[RateCounter], Awaitable[T]]) -> T:
        if self.degraded:
            if self._clock() < self._try_again_at:
                return await call(self._local)
            self._try_again_at = self._clock() + _RETRY_AFTER_S
        try:
            answer = await call(self._shared)
        except self._outages as exc:
            self._fail(exc)
            return await call(self._local)
        if self.degraded:
            _log.info("quotas_shared_again")
            self.degraded = False
        return answer

    async def _release(self, slot: ConcurrencySlot) -> None:
        try:
            await slot.release()
        except self._outages as exc:
            self._fail(exc)  # the slot expires by itself

    def _fail(self, exc: Exception) -> None:
        if not self.degraded:
            _log.warning("quotas_local", reason=type(exc).__name__)
        self.degraded = True
        self._try_again_at = self._clock() + _RETRY_AFTER_S
