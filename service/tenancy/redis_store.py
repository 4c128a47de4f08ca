"""Tenants and keys in Redis, under the registry's prefix.

Tenants, keys and tombstones are hashes, the revision is a string, and the audit log a stream.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from adapters.storage.redis import RedisStore
from service.tenancy.models import ENTRY, TENANT, AuditEntry, Edit, Snapshot, decode_keys, encode_key

_WRITE = """
local revision = tonumber(redis.call('GET', KEYS[1]) or '0')
if revision ~= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], revision + 1)
redis.call('XADD', KEYS[4], (revision + 1) .. '-0', 'entry', ARGV[2])
local at = 4
for _, key in ipairs({KEYS[2], KEYS[3]}) do
    local count = tonumber(ARGV[at])
    at = at + 1
    for _ = 1, count do
        redis.call('HSET', key, ARGV[at], ARGV[at + 1])
        at = at + 2
    end
end
local trimmed = tonumber(ARGV[at])
for i = at + 1, at + trimmed do redis.call('XDEL', KEYS[4], ARGV[i] .. '-0') end
at = at + trimmed + 1
local deleted = tonumber(ARGV[at])
for i = at + 1, #ARGV do
    if i <= at + deleted then redis.call('HDEL', KEYS[3], ARGV[i]) end
    redis.call('HSETNX', KEYS[5], ARGV[i], ARGV[3])
end
return 1
"""


class RedisAccounts:
    """An `AccountStore` in Redis. The position of an audit entry is the revision that it created."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        names = ("revision", "tenants", "keys", "audit", "tombstones")
        self._revision, self._tenants, self._keys, self._audit, self._tombstones = (
            store.key("accounts", name) for name in names
        )
        self._write = store.client.register_script(_WRITE)

    def revision(self) -> int:
        with self._store.reaching():
            return int(cast(bytes | None, self._store.client.get(self._revision)) or 0)

    def snapshot(self) -> Snapshot:
        with self._store.reaching(), self._store.client.pipeline(transaction=True) as pipe:
            pipe.get(self._revision)
            pipe.hgetall(self._tenants)
            pipe.hgetall(self._keys)
            revision, tenants, keys = pipe.execute()
        return Snapshot(
            int(revision or 0),
            {name.decode(): TENANT.validate_json(value) for name, value in tenants.items()},
            decode_keys(keys.values()),
        )

    def write(self, edit: Edit, *, expected: int) -> bool:
        arguments: list[str | bytes | int] = [expected, ENTRY.dump_json(edit.entry), edit.entry.at.isoformat()]
        arguments.append(len(edit.tenants))
        for tenant in edit.tenants:
            arguments += [tenant.id, TENANT.dump_json(tenant)]
        arguments.append(len(edit.keys))
        for key in edit.keys:
            arguments += [key.id, encode_key(key)]
        arguments += [len(edit.trimmed), *edit.trimmed]
        arguments += [len(edit.deleted_keys), *edit.deleted_keys, *edit.tombstones]
        names = [self._revision, self._tenants, self._keys, self._audit, self._tombstones]
        return bool(self._store.write(self._write, names, arguments))

    def audit(self, since: int = 0, *, limit: int = 1_000) -> Sequence[AuditEntry]:
        with self._store.reaching():
            found = cast(
                list[tuple[bytes, dict[bytes, bytes]]],
                self._store.client.xrange(self._audit, min=f"{since + 1}-0", count=limit),
            )
        return [
            replace(ENTRY.validate_json(fields[b"entry"]), position=int(position.partition(b"-")[0]))
            for position, fields in found
        ]

    def buried(self, names: Sequence[str]) -> set[str]:
        with self._store.reaching():
            found = cast(list[bytes | None], self._store.client.hmget(self._tombstones, list(names)))
        return {name for name, at in zip(names, found, strict=True) if at is not None}

    def tombstones(self) -> Sequence[str]:
        with self._store.reaching():
            return sorted(name.decode() for name in cast(list[bytes], self._store.client.hkeys(self._tombstones)))
