"""Counters with a window and leases with an end: in this process, in Redis for all replicas, and one for want of other.

The counters are the storages of the `limits` library. Its strategies only say yes or no, and a caller is told what is
left: the windows here are fixed ones, numbered by the clock, so one round trip counts and tells.
"""

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import redis.asyncio
import structlog
from limits.aio.storage import MemoryStorage, RedisStorage
from redis.exceptions import RedisError

from adapters.storage.opening import Storage
from adapters.storage.redis import RedisStore

_log = structlog.get_logger("service")
_LEASE_S = 60.0
"""After this the place of a replica that died is free again; a request that lasts longer is not counted further."""
_PAUSE_S = 1.0
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
    """A place that is held until it is given back."""

    held: int
    """How many are held with it."""
    give_back: Callable[[], Awaitable[object]]


class RateCounter(Protocol):
    """Counts for everybody who shares it. Keys are ours, never a caller's words."""

    degraded: bool
    """Whether it counts for fewer than it should."""

    async def add(self, key: str, amount: int, *, window_s: int) -> int:
        """Count in the window that `key` names, which is forgotten after `window_s`; what it holds now."""
        ...

    async def acquire(self, key: str, name: str, *, limit: int) -> ConcurrencySlot | None:
        """Take one of `limit` places; None where all are held."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
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
    """A `RateCounter` for all replicas; raises what redis-py raises, within its pool's timeouts."""

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
        return await self._counters.incr(key, window_s, amount)

    async def acquire(self, key: str, name: str, *, limit: int) -> ConcurrencySlot | None:
        place = f"{self._prefix}:{key}"
        held = int(await self._acquire(keys=[place], args=[name, limit, _LEASE_S]))
        return ConcurrencySlot(held, lambda: self._client.zrem(place, name)) if held else None

    async def close(self) -> None:
        await self._client.aclose()
        await self._pool.disconnect()


class FallbackRateCounter:
    """Another meter's numbers while it answers, this process's own while it does not.

    After a failure one request a second tries the other; nobody else waits for it.
    """

    def __init__(self, shared: RateCounter, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._shared, self._local, self._clock = shared, LocalRateCounter(), clock
        self._try_again_at = -math.inf
        self.degraded = False
        """Whether this process counts by itself."""

    async def add(self, key: str, amount: int, *, window_s: int) -> int:
        return await self._ask(lambda meter: meter.add(key, amount, window_s=window_s))

    async def acquire(self, key: str, name: str, *, limit: int) -> ConcurrencySlot | None:
        lease = await self._ask(lambda meter: meter.acquire(key, name, limit=limit))
        return None if lease is None else ConcurrencySlot(lease.held, lambda: self._give_back(lease))

    async def close(self) -> None:
        await self._shared.close()

    async def _ask(self, question: Callable[[RateCounter], Awaitable[T]]) -> T:
        if self.degraded:
            if self._clock() < self._try_again_at:
                return await question(self._local)
            self._try_again_at = self._clock() + _PAUSE_S
        try:
            answer = await question(self._shared)
        except (RedisError, OSError) as exc:
            self._fail(exc)
            return await question(self._local)
        if self.degraded:
            _log.info("quotas_shared_again")
            self.degraded = False
        return answer

    async def _give_back(self, lease: ConcurrencySlot) -> None:
        try:
            await lease.give_back()
        except (RedisError, OSError) as exc:
            self._fail(exc)  # its end gives it back

    def _fail(self, exc: Exception) -> None:
        if not self.degraded:
            _log.warning("quotas_local", reason=type(exc).__name__)
        self.degraded = True
        self._try_again_at = self._clock() + _PAUSE_S


def open_rate_counter(storage: Storage) -> RateCounter:
    """Return what counts for all replicas in Redis, or for this process alone beside a SQLite file."""
    return FallbackRateCounter(RedisRateCounter(storage)) if isinstance(storage, RedisStore) else LocalRateCounter()
