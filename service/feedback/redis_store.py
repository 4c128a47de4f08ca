"""Kept answers and corrections in Redis, under the registry's prefix.

A tenant's rows are one hash, its state and its datasets' versions are two more, and each list is a sorted set.
A write is a transaction that fails if the tenant's state was changed since it was read.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from redis.exceptions import WatchError

from adapters.storage.redis import RedisStore
from service.feedback.models import (
    CORRECTED,
    KEPT,
    Edit,
    FeedbackRow,
    Place,
    TenantState,
    decode,
    encode,
    places,
)

_PAGE = """
local from = 0
if ARGV[1] ~= '' then
    local was_absent = redis.call('ZADD', KEYS[1], 'NX', ARGV[1], ARGV[2]) == 1
    from = redis.call('ZRANK', KEYS[1], ARGV[2]) + 1
    if was_absent then
        redis.call('ZREM', KEYS[1], ARGV[2])
        from = from - 1
    end
end
local ids = redis.call('ZRANGE', KEYS[1], from, from + ARGV[3] - 1)
if #ids == 0 then return {} end
return redis.call('HMGET', KEYS[2], unpack(ids))
"""
"""Reads a page. The place after which it begins is added for the time of the script, if its row has left the list."""
_STATE = ("revision", "kept_bytes", "corrected_bytes")


class RedisFeedback:
    """A `FeedbackStore` on one server."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._page = store.client.register_script(_PAGE)

    def state(self, tenant: str) -> TenantState:
        with self._store.reaching():
            return _state(cast(list[bytes | None], self._store.client.hmget(self._key(tenant, "state"), _STATE)))

    def write(self, tenant: str, edit: Edit, *, expected: int) -> bool:
        state, rows = self._key(tenant, "state"), self._key(tenant, "rows")
        with self._store.reaching(), self._store.client.pipeline(transaction=True) as pipe:
            pipe.watch(state)  # type: ignore[no-untyped-call]
            if _state(cast(list[bytes | None], pipe.hmget(state, _STATE))).revision != expected:
                return False
            pipe.multi()
            for row in edit.deleted:
                pipe.hdel(rows, row.id)
                for name in places(row):
                    pipe.zrem(self._list(tenant, name), row.id)
            for row in edit.added:
                pipe.hset(rows, row.id, cast(Any, encode(row)))
                for name, sort in places(row).items():
                    pipe.zadd(self._list(tenant, name), {row.id: sort})
            pipe.hincrby(state, "revision", 1)
            pipe.hincrby(state, "kept_bytes", edit.growth[KEPT])
            pipe.hincrby(state, "corrected_bytes", edit.growth[CORRECTED])
            for task in edit.datasets:
                pipe.hincrby(self._key(tenant, "datasets"), task, 1)
            pipe.sadd(self._store.key("feedback", "tenants"), tenant)
            try:
                pipe.execute()
            except WatchError:
                return False
        return True

    def rows(self, tenant: str, ids: Sequence[str]) -> list[FeedbackRow]:
        if not ids:
            return []
        with self._store.reaching():
            return _decoded(cast(list[bytes | None], self._store.client.hmget(self._key(tenant, "rows"), list(ids))))

    def page(self, tenant: str, name: str, *, after: Place | None = None, limit: int) -> list[FeedbackRow]:
        keys = [self._list(tenant, name), self._key(tenant, "rows")]
        start = ["", ""] if after is None else [repr(after.sort), after.id]
        with self._store.reaching():
            return _decoded(cast(list[bytes | None], self._page(keys=keys, args=[*start, limit])))

    def first(self, tenant: str, names: Sequence[str]) -> list[FeedbackRow | None]:
        if not names:
            return []
        with self._store.reaching(), self._store.client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.zrange(self._list(tenant, name), 0, 0)
            firsts = [found[0].decode() if found else None for found in pipe.execute()]
        ids = sorted({each for each in firsts if each is not None})
        known = {row.id: row for row in self.rows(tenant, ids)}
        return [None if each is None else known.get(each) for each in firsts]

    def counts(self, tenant: str, names: Sequence[str]) -> list[int]:
        with self._store.reaching(), self._store.client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.zcard(self._list(tenant, name))
            return [int(found) for found in pipe.execute()]

    def datasets(self, tenant: str) -> Mapping[str, int]:
        with self._store.reaching():
            found = cast(dict[bytes, bytes], self._store.client.hgetall(self._key(tenant, "datasets")))
        return {task.decode(): int(version) for task, version in found.items()}

    def tenants(self) -> list[str]:
        with self._store.reaching():
            found = cast(set[bytes], self._store.client.smembers(self._store.key("feedback", "tenants")))
        return sorted(name.decode() for name in found)

    def _key(self, tenant: str, what: str) -> str:
        return self._store.key("feedback", tenant, what)

    def _list(self, tenant: str, name: str) -> str:
        return self._store.key("feedback", tenant, "list", name)


def _state(values: Sequence[bytes | None]) -> TenantState:
    return TenantState(*(int(value or 0) for value in values))


def _decoded(values: Sequence[bytes | None]) -> list[FeedbackRow]:
    return [decode(value) for value in values if value is not None]
