"""Opens the counter store of a storage location."""

from adapters.storage.opening import Storage
from adapters.storage.redis import RedisStore
from service.counters.redis_store import RedisCounterStore
from service.counters.sqlite_store import SqliteCounterStore
from service.counters.store import CounterStore


def open_counter_store(storage: Storage) -> CounterStore:
    """Return the counters of a storage (`RegistryUnavailable` if a file's tables cannot be created)."""
    return RedisCounterStore(storage) if isinstance(storage, RedisStore) else SqliteCounterStore(storage)
