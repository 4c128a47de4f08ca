"""Rate counters and concurrency slots: of one process, shared in Redis, and shared with a fallback to one process.

Counts are kept by the storages of the `limits` library, but not limited by its strategies: those answer only yes or no,
while responses say what is left. The windows here are fixed and numbered by the clock, so that one round trip both
counts and returns the sum.
"""

import math
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import redis.asyncio
import structlog
from limits.aio.storage import MemoryStorage, RedisStorage
from redis.exceptions import RedisError

from adapters.storage.redis import RedisStore
from adapters.storage.redis_faults import is_refused_write

_log = structlog.get_logger("service")
SLOT_LIFETIME_S = 60.0
"""Frees the slots of a replica that died. A request that lasts longer stops being counted."""
_RETRY_AFTER_S = 1.0
_OUTAGES = (RedisError, OSError, sqlite3.Error)
_ACQUIRE = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local held = redis.call('ZCARD', KEYS[1])
if held >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[1])
redis.call('PEXPIRE', KEYS[1], math.ceil(tonumber(ARGV[3]) * 1000))
return held + 1
"""

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


class RedisRateCounter:
    """A `RateCounter` shared by all replicas. Errors are those of redis-py, raised within the pool's timeouts."""

    def __init__(self, store: RedisStore) -> None:
        self._pool, self._prefix = store.async_pool, store.key("limits")
        # the pool has the real address; this URL is not used
        self._counters = RedisStorage(
            "async+redis://",
            implementation="redispy",
            key_prefix=self._prefix,
            connection_pool=self._pool,  # type: ignore[arg-type]
        )
        self.degraded = False
        self._client = redis.asyncio.Redis(connection_pool=self._pool)
        self._acquire = self._client.register_script(_ACQUIRE)

    async def add(self, key: str, amount: int, *, window_s: int) -> int:
        async with self._on_master():
            return await self._counters.incr(key, window_s, amount)

    async def acquire(self, key: str, name: str, *, limit: int) -> ConcurrencySlot | None:
        slots = f"{self._prefix}:{key}"
        async with self._on_master():
            held = int(await self._acquire(keys=[slots], args=[name, limit, SLOT_LIFETIME_S]))
        return ConcurrencySlot(held, lambda: self._client.zrem(slots, name)) if held else None

    async def close(self) -> None:
        await self._client.aclose()
        await self._pool.disconnect()

    @asynccontextmanager
    async def _on_master(self) -> AsyncIterator[None]:
        """Connect again after a failover: a connection to a server that is now a replica would stay in the pool."""
        try:
            yield
        except RedisError as exc:
            if is_refused_write(exc):
                await self._pool.disconnect(inuse_connections=False)
            raise


class FallbackRateCounter:
    """A shared `RateCounter`, replaced by one of this process alone while the shared one fails.

    After a failure one request per second tries the shared one; no other request waits for it.
    """

    def __init__(self, shared: RateCounter, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._shared, self._local, self._clock = shared, LocalRateCounter(), clock
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
        except _OUTAGES as exc:
            self._fail(exc)
            return await call(self._local)
        if self.degraded:
            _log.info("quotas_shared_again")
            self.degraded = False
        return answer

    async def _release(self, slot: ConcurrencySlot) -> None:
        try:
            await slot.release()
        except _OUTAGES as exc:
            self._fail(exc)  # the slot expires by itself

    def _fail(self, exc: Exception) -> None:
        if not self.degraded:
            _log.warning("quotas_local", reason=type(exc).__name__)
        self.degraded = True
        self._try_again_at = self._clock() + _RETRY_AFTER_S
