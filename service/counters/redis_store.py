"""Counters in a Redis server, stored next to the registry under the same prefix.

A counter is a field of a hash: the last word of its key names the field, the others name the hash. `index`, a sorted
set of the hashes' names, finds the hashes of a prefix; `expiries` holds the time when each expires. One script adds a
batch, completely or not at all.
"""

import time
from collections.abc import Callable, Mapping
from typing import cast

from adapters.storage.redis import RedisStore
from service.counters.store import SEPARATOR, WRITER_LIFETIME_S, BatchId, Key, decode, encode, lifetime_s

_ADD = """
local index, expiries, writer = KEYS[1], KEYS[2], KEYS[3]
local base, sequence, writer_lifetime, now = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local known = redis.call('GET', writer)
if known and tonumber(known) >= sequence then return 0 end
redis.call('SET', writer, sequence, 'EX', writer_lifetime)
for i = 5, #ARGV, 4 do
    local group, field, by, expires_at = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
    redis.call('HINCRBYFLOAT', base .. group, field, by)
    redis.call('ZADD', index, 0, group)
    if expires_at ~= '' then redis.call('ZADD', expiries, expires_at, group) end
end
for _, group in ipairs(redis.call('ZRANGEBYSCORE', expiries, '-inf', now, 'LIMIT', 0, 200)) do
    redis.call('UNLINK', base .. group)
    redis.call('ZREM', index, group)
    redis.call('ZREM', expiries, group)
end
return 1
"""
_AFTER_SEPARATOR = chr(ord(SEPARATOR) + 1)
_GROUPS_PER_READ = 500


class RedisCounterStore:
    """A `CounterStore` in one Redis server."""

    def __init__(self, store: RedisStore, *, now: Callable[[], float] = time.time) -> None:
        """Register the script; nothing is sent yet.

        Args:
            store: the registry's Redis server
            now: seconds since 1970
        """
        self._store, self._now = store, now
        self._index, self._expiries = store.key("ledger", "index"), store.key("ledger", "expiries")
        self._base = store.key("ledger", "of", "")
        self._add = store.client.register_script(_ADD)

    def add(self, counts: Mapping[Key, float], batch: BatchId) -> None:
        now = self._now()
        arguments: list[str | float | int] = [self._base, batch.sequence, int(WRITER_LIFETIME_S), now]
        for key, by in counts.items():
            encode(key)
            lifetime = lifetime_s(key)
            expires_at = "" if lifetime is None else now + lifetime
            arguments += [SEPARATOR.join(key[:-1]), key[-1], repr(float(by)), expires_at]
        with self._store.reaching():
            self._add(
                keys=[self._index, self._expiries, self._store.key("ledger", "writer", batch.writer)], args=arguments
            )

    def read(self, *prefix: str) -> dict[Key, float]:
        with self._store.reaching():
            found = self._one_counter(prefix)
            groups = self._groups(SEPARATOR.join(prefix))
            for start in range(0, len(groups), _GROUPS_PER_READ):
                found |= self._counters(groups[start : start + _GROUPS_PER_READ])
        return found

    def _one_counter(self, key: Key) -> dict[Key, float]:
        """Return the counter of exactly this key, if it exists."""
        if len(key) < 2:
            return {}
        group = SEPARATOR.join(key[:-1])
        return {name: value for name, value in self._counters([group.encode()]).items() if name == key}

    def _groups(self, start: str) -> list[bytes]:
        """Return the names of the hashes whose counters' keys begin with these whole words."""
        first, end = (f"[{start}{SEPARATOR}", f"({start}{_AFTER_SEPARATOR}") if start else ("-", "+")
        inner = cast(list[bytes], self._store.client.zrangebylex(self._index, first, end))
        return [start.encode(), *inner] if start else inner

    def _counters(self, groups: list[bytes]) -> dict[Key, float]:
        """Return the counters of these hashes, unless they have expired."""
        pipeline = self._store.client.pipeline(transaction=False)
        pipeline.zmscore(self._expiries, cast(list[str], groups))
        for group in groups:
            pipeline.hgetall(self._base.encode() + group)
        expiries, *hashes = pipeline.execute()
        now = self._now()
        return {
            (*decode(group.decode()), field.decode()): float(value)
            for group, expires_at, counters in zip(groups, expiries, hashes, strict=True)
            if expires_at is None or expires_at > now
            for field, value in counters.items()
        }
