"""The shared registry: one Redis server (6.2 or later) for any number of processes and machines.

`redis_scripts.py` describes the keys. With a Redis cluster the prefix must be a hash tag (`?prefix={superpos}`),
because a script's keys must be on one node.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, cast

from adapters.errors import Conflict, NotFound
from adapters.files import SIZE_LIMITS, from_files
from adapters.names import PRODUCTION, Ref, check_alias, check_publication
from adapters.registry import redis_scripts as scripts
from adapters.registry.archive import TaskRecord, check_restored
from adapters.registry.protocol import (
    NO_TRAFFIC,
    Change,
    Publication,
    Resolution,
    TaskInfo,
    Traffic,
    VersionInfo,
    check_expected,
)
from adapters.registry.redis_records import at_field, change, entry, task_record, text, traffic_field
from adapters.storage.redis import RedisStore

_PAGE = 500
"""Tasks or log entries per command: about 100 KB of reply, some milliseconds of the server."""
_DIGESTS_PER_TRIP = 250
"""Digests per pipeline."""


class RedisRegistry:
    """A `Registry` under one prefix of a server. Every write is one script; every read is one consistent state."""

    def __init__(self, store: RedisStore) -> None:
        """Register the scripts; nothing is sent yet."""
        self._store = store
        register = store.client.register_script
        self._publish, self._delete = register(scripts.PUBLISH), register(scripts.DELETE_VERSION)
        self._set_alias, self._delete_alias = register(scripts.SET_ALIAS), register(scripts.DELETE_ALIAS)
        self._set_traffic = register(scripts.SET_TRAFFIC)
        self._restore_version, self._restore_task = register(scripts.RESTORE_VERSION), register(scripts.RESTORE_TASK)
        self._restore_log = register(scripts.RESTORE_LOG)

    def publish(
        self,
        tenant: str,
        task: str,
        files: Mapping[str, bytes],
        *,
        actor: str,
        aliases: Sequence[str] | None = None,
        digest: str | None = None,
    ) -> Publication:
        check_publication(tenant, task, aliases)
        digest = digest or from_files(files).digest
        for_known, for_new = list(aliases or ()), list((PRODUCTION,) if aliases is None else aliases)
        with self._store.reaching():
            version, created = self._publish(
                self._keys(tenant, task, digest),
                [tenant, task, actor, digest, json.dumps(for_known), json.dumps(for_new), *_flat(files)],
            )
        return Publication(int(version), digest, created=bool(created))

    def get(self, digest: str) -> dict[str, bytes]:
        with self._store.reaching():
            files = self._store.client.hgetall(self._store.key("files", digest))
        if not files:
            raise NotFound(f"no adapter {digest}")
        return {_str(name): cast(bytes, data) for name, data in files.items()}

    def size_bytes(self, digests: Collection[str]) -> int:
        known, total = sorted(digests), 0
        for start in range(0, len(known), _DIGESTS_PER_TRIP):
            with self._store.reaching(), self._store.client.pipeline(transaction=False) as pipe:
                for digest in known[start : start + _DIGESTS_PER_TRIP]:
                    for name in SIZE_LIMITS:
                        pipe.hstrlen(self._store.key("files", digest), name)
                total += sum(pipe.execute())
        return total

    def resolve(self, tenant: str, ref: Ref) -> Resolution:
        return self.describe(tenant, ref.task).resolve(ref)

    def set_alias(
        self, tenant: str, task: str, alias: str, version: int, *, actor: str, expected: int | None = None
    ) -> None:
        check_alias(alias)
        arguments = [tenant, task, actor, alias, version, "" if expected is None else expected]
        match self._run(self._set_alias, tenant, task, arguments):
            case ["missing"]:
                raise NotFound(f"no {task}@{version}")
            case ["elsewhere", current]:
                check_expected(f"{task}@{alias}", int(current), expected)

    def delete_alias(self, tenant: str, task: str, alias: str, *, actor: str, expected: int | None = None) -> None:
        arguments = [tenant, task, actor, alias, "" if expected is None else expected]
        match self._run(self._delete_alias, tenant, task, arguments):
            case ["missing"]:
                raise NotFound(f"no {task}@{alias}")
            case ["elsewhere", current]:
                check_expected(f"{task}@{alias}", int(current), expected)

    def set_traffic(
        self, tenant: str, task: str, traffic: Traffic, *, actor: str, expected: Traffic | None = None
    ) -> None:
        needed = json.dumps([str(version) for version in sorted(traffic.versions)])
        arguments = [tenant, task, actor, traffic_field(traffic), traffic_field(NO_TRAFFIC), needed]
        arguments.append("" if expected is None else traffic_field(expected))
        match self._run(self._set_traffic, tenant, task, arguments):
            case ["no task"]:
                raise NotFound(f"no task {task!r}")
            case ["elsewhere", current]:
                raise Conflict(f"the traffic of {task} is {current}, expected {traffic_field(expected or NO_TRAFFIC)}")
            case ["missing", version]:
                raise NotFound(f"no {task}@{version}")

    def list(self, tenant: str) -> Sequence[TaskInfo]:
        return [record.info for record in self._records(tenant) if record.info.versions]

    def describe(self, tenant: str, task: str) -> TaskInfo:
        with self._store.reaching():
            fields = self._store.client.hgetall(self._task_key(tenant, task))
        info = task_record(tenant, task, text(fields)).info
        if not info.versions:
            raise NotFound(f"no task {task!r}")
        return info

    def delete(self, tenant: str, task: str, version: int, *, actor: str) -> None:
        # a version never changes its digest, so the script's keys are known in advance
        with self._store.reaching():
            digest = self._store.client.hget(self._task_key(tenant, task), f"digest:{version}")
        if digest is None:
            raise NotFound(f"no {task}@{version}")
        match self._run(self._delete, tenant, task, [tenant, task, actor, version], _str(digest)):
            case ["missing"]:
                raise NotFound(f"no {task}@{version}")
            case ["aliased", alias]:
                raise Conflict(f"{task}@{alias} points at version {version}, move it first")
            case ["in traffic"]:
                raise Conflict(f"the traffic of {task} needs version {version}, change that first")

    def changes(self, since: int = 0, *, limit: int | None = None) -> Sequence[Change]:
        found: list[Change] = []
        while True:
            count = _PAGE if limit is None else min(_PAGE, limit - len(found))
            with self._store.reaching():
                page = self._store.client.xrange(self._store.key("changes"), min=f"{since + 1}-0", count=count) or []
            found.extend(change(entry_id, text(fields)) for entry_id, fields in page if entry_id and fields)
            if len(page) < count or len(found) == limit:
                return found
            since = found[-1].position

    def records(self) -> Sequence[TaskRecord]:
        with self._store.reaching():
            tenants = self._store.client.smembers(self._store.key("tenants"))
        return [record for tenant in sorted(map(_str, tenants)) for record in self._records(tenant)]

    def restore_version(self, tenant: str, task: str, version: VersionInfo, files: Mapping[str, bytes]) -> None:
        check_restored(tenant, task, version, files)
        arguments = [tenant, task, version.actor, version.version, version.digest, at_field(version.created_at)]
        done = self._run(self._restore_version, tenant, task, [*arguments, *_flat(files)], version.digest)
        if done == ["taken"]:
            raise Conflict(f"{task}@{version.version} or its adapter {version.digest} is there already")

    def restore_task(self, record: TaskRecord) -> None:
        info = record.info
        aliases = json.dumps([[name, str(version)] for name, version in info.aliases.items()])
        arguments = [info.tenant, info.task, "", record.last_version, traffic_field(info.traffic), aliases]
        match self._run(self._restore_task, info.tenant, info.task, arguments):
            case ["missing", version]:
                raise NotFound(f"no {info.task}@{version}")

    def restore_log(self, changes: Sequence[Change]) -> None:
        keys = [self._store.key("position"), self._store.key("changes")]
        for first in range(0, len(changes), _PAGE):
            entries = json.dumps([entry(logged) for logged in changes[first : first + _PAGE]])
            with self._store.reaching():
                done = self._restore_log(keys, [entries])
            if _strs(done)[0] == "past":
                raise Conflict(f"the log is at position {_strs(done)[1]}, expected less than {changes[first].position}")

    def _records(self, tenant: str) -> Iterator[TaskRecord]:
        """Yield the tenant's tasks by name, including those without versions."""
        with self._store.reaching():
            names = sorted(map(_str, self._store.client.smembers(self._store.key("tasks", tenant))))
        for first in range(0, len(names), _PAGE):
            page = names[first : first + _PAGE]
            with self._store.reaching(), self._store.client.pipeline(transaction=False) as pipeline:
                for task in page:
                    pipeline.hgetall(self._task_key(tenant, task))
                found = pipeline.execute()
            for task, fields in zip(page, found, strict=True):
                yield task_record(tenant, task, text(fields))

    def _run(self, script: Any, tenant: str, task: str, arguments: Sequence[Any], digest: str = "") -> Sequence[str]:
        with self._store.reaching():
            return _strs(script(self._keys(tenant, task, digest), arguments))

    def _keys(self, tenant: str, task: str, digest: str) -> Sequence[str]:
        key = self._store.key
        shared = [key("position"), key("changes"), key("tenants"), key("tasks", tenant)]
        return [self._task_key(tenant, task), *shared, *((key("files", digest), key("uses", digest)) if digest else ())]

    def _task_key(self, tenant: str, task: str) -> str:
        return self._store.key("task", tenant, task)


def _flat(files: Mapping[str, bytes]) -> list[str | bytes]:
    return [part for file in files.items() for part in file]


def _str(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _strs(answer: Sequence[str | bytes]) -> list[str]:
    return [_str(part) for part in answer]
