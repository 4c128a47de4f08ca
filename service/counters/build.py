"""Builds the buffer of counters over the store of a storage location."""

from adapters.storage.opening import Storage
from adapters.storage.redis import RedisStore
from service.counters.buffer import CounterBuffer
from service.counters.redis_store import RedisCounterStore
from service.counters.sqlite_store import SqliteCounterStore


def build_counters(storage: Storage) -> CounterBuffer:
    """Return a buffer over the storage's counters (`RegistryUnavailable` if a file's tables cannot be created)."""
    return CounterBuffer(RedisCounterStore(storage) if isinstance(storage, RedisStore) else SqliteCounterStore(storage))
