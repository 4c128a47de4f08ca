"""Rate counters and concurrency slots that all replicas share in Redis."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import redis.asyncio
from limits.aio.storage import RedisStorage
from redis.exceptions import RedisError

from adapters.storage.redis import RedisStore
from adapters.storage.redis_faults import is_refused_write
from service.tenancy.rate_limiter import SLOT_LIFETIME_S, ConcurrencySlot

OUTAGES = (RedisError, OSError)
"""The errors of a counter whose Redis cannot be used."""
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
