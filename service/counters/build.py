"""Builds the buffer of counters over the store of a storage location."""

from adapters.storage.opening import Storage
from adapters.storage.sqlite import SqliteFile
from service.counters.buffer import CounterBuffer
from service.counters.sqlite_store import SqliteCounterStore


def build_counters(storage: Storage) -> CounterBuffer:
    """Return a buffer over the storage's counters (`RegistryUnavailable` if a file's tables cannot be created)."""
    if isinstance(storage, SqliteFile):
        return CounterBuffer(SqliteCounterStore(storage))
    from service.counters.redis_store import RedisCounterStore  # noqa: PLC0415 - as `open_storage`

    return CounterBuffer(RedisCounterStore(storage))
