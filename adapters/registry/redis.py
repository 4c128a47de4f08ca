"""The shared registry: a Redis (6.2 or later), with or without Sentinel, for any number of processes and machines.

`redis_scripts.py` describes the keys. With a Redis cluster the prefix must be a hash tag (`?prefix={superpos}`),
because a script's keys must be on one node.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from redis.commands.core import Script

from adapters.errors import Conflict, NotFound
from adapters.files import SIZE_LIMITS, content_id, from_files
from adapters.names import PRODUCTION, Ref, check_alias, check_publication
from adapters.registry import redis_scripts as scripts
from adapters.registry.archive import TaskRecord, check_restored
from adapters.registry.protocol import (
    DEFAULT_LIMITS,
    NO_TRAFFIC,
    Change,
    Publication,
    RegistryLimits,
    Resolution,
    Snapshot,
    TaskInfo,
    Traffic,
    VersionInfo,
    check_expected,
    check_traffic,
    read_traffic,
)
from adapters.registry.redis_log import PAGE, RedisLog
from adapters.registry.redis_records import at_field, entry, family, task_record, text, traffic_field
from adapters.registry.redis_snapshot import RedisSnapshots
from adapters.registry.trimming import Trim, trim_in_steps
from adapters.storage.redis import RedisStore

_DIGESTS_PER_TRIP = 250
"""Digests per pipeline."""


class RedisRegistry:
    """A `Registry` under one prefix. Every write is one script; every read is one consistent state."""

    def __init__(self, store: RedisStore, limits: RegistryLimits = DEFAULT_LIMITS) -> None:
        """Register the scripts; nothing is sent yet."""
        self._store, self._limits, self._log = store, limits, RedisLog(store)
        self._snapshots = RedisSnapshots(store, self._log)
        register = store.client.register_script
        self._publish, self._delete = register(scripts.PUBLISH), register(scripts.DELETE_VERSION)
        self._set_alias, self._delete_alias = register(scripts.SET_ALIAS), register(scripts.DELETE_ALIAS)
        self._set_traffic = register(scripts.SET_TRAFFIC)
        self._restore_version, self._restore_task = register(scripts.RESTORE_VERSION), register(scripts.RESTORE_TASK)
        self._restore_log, self._trim_log = register(scripts.RESTORE_LOG), register(scripts.TRIM_LOG)

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
        content = content_id(files)
        named = list(dict.fromkeys(aliases or ()))
        for_new = [PRODUCTION] if aliases is None else named
        limits = [str(self._limits.aliases_per_task), str(self._limits.task_names)]
        arguments = [tenant, task, actor, digest, content, json.dumps(named), json.dumps(for_new), *limits]
        keys = self._keys(tenant, task, digest, content)
        first, second = self._store.write(self._publish, keys, [*arguments, *_flat(files)])
        match first:
            case b"aliases":
                self._limits.check_aliases(task, int(second))
            case b"names":
                self._limits.check_names(tenant, int(second))
        return Publication(int(first), digest, created=bool(second))

    def get(self, digest: str) -> dict[str, bytes]:
        with self._store.reaching():
            contents = sorted(map(_str, self._store.client.smembers(self._store.key("contents", digest))))
        for content in (*contents, digest):
            if files := self._files(content):
                return files
        raise NotFound(f"no adapter {digest}")

    def files(self, tenant: str, task: str, version: int) -> dict[str, bytes]:
        files = self._files(self._digest_and_content(tenant, task, version)[1])
        if not files:
            raise NotFound(f"no {task}@{version}")
        return files

    def content_sizes(self, tenant: str) -> Mapping[str, int]:
        contents: set[str] = set()
        for _, fields in self._task_fields(tenant):
            digests, known = (dict(family(fields, name)) for name in ("digest", "content"))
            contents |= {known.get(number, digest) for number, digest in digests.items()}
        found = sorted(contents)
        sizes: dict[str, int] = {}
        for start in range(0, len(found), _DIGESTS_PER_TRIP):
            page = found[start : start + _DIGESTS_PER_TRIP]
            with self._store.reaching(), self._store.client.pipeline(transaction=False) as pipe:
                for content in page:
                    for name in SIZE_LIMITS:
                        pipe.hstrlen(self._store.key("files", content), name)
                answered = pipe.execute()
            of_each = len(SIZE_LIMITS)
            sizes |= {content: sum(answered[i * of_each : (i + 1) * of_each]) for i, content in enumerate(page)}
        return sizes

    def resolve(self, tenant: str, ref: Ref) -> Resolution:
        return self.describe(tenant, ref.task).resolve(ref)

    def set_alias(
        self,
        tenant: str,
        task: str,
        alias: str,
        version: int,
        *,
        actor: str,
        expected: int | None = None,
        end_canary: bool = False,
    ) -> None:
        check_alias(alias)
        arguments = [tenant, task, actor, alias, version, "" if expected is None else expected]
        arguments += [int(end_canary), self._limits.aliases_per_task]
        match self._run(self._set_alias, self._keys(tenant, task), arguments):
            case ["missing"]:
                raise NotFound(f"no {task}@{version}")
            case ["elsewhere", current]:
                check_expected(f"{task}@{alias}", int(current), expected)
            case ["aliases", count]:
                self._limits.check_aliases(task, int(count))

    def delete_alias(self, tenant: str, task: str, alias: str, *, actor: str, expected: int | None = None) -> None:
        arguments = [tenant, task, actor, alias, "" if expected is None else expected]
        match self._run(self._delete_alias, self._keys(tenant, task), arguments):
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
        match self._run(self._set_traffic, self._keys(tenant, task), arguments):
            case ["no task"]:
                raise NotFound(f"no task {task!r}")
            case ["elsewhere", current]:
                raise Conflict(f"the traffic of {task} is {read_traffic(current)}, expected {expected}")
            case ["missing", version]:
                raise NotFound(f"no {task}@{version}")
            case ["production", version]:
                check_traffic(traffic, int(version))

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
        # a version never changes its digest and its files, so the script's keys are known in advance
        digest, content = self._digest_and_content(tenant, task, version)
        keys = self._keys(tenant, task, digest, content)
        match self._run(self._delete, keys, [tenant, task, actor, version, content]):
            case ["missing"]:
                raise NotFound(f"no {task}@{version}")
            case ["aliased", alias]:
                raise Conflict(f"{task}@{alias} points at version {version}, move it first")
            case ["in traffic"]:
                raise Conflict(f"the traffic of {task} needs version {version}, change that first")

    def changes(self, since: int = 0, *, limit: int | None = None) -> Sequence[Change]:
        return self._log.changes(since, limit)

    def snapshot(self) -> Snapshot:
        return self._snapshots.read()

    def trim_log(self, *, keep: int, min_new: int = 0, pause: Callable[[], None] = lambda: None) -> int:
        if self._log.num_new() < min_new:
            return 0
        return trim_in_steps(self.changes, self._remove, last_trim=self._log.last_trim, keep=keep, pause=pause)

    def _remove(self, trim: Trim) -> int | None:
        positions = json.dumps([f"{position}-0" for position in trim.positions])
        keys = [*self._keys("", ""), self._store.key("trimmed")]
        match self._run(self._trim_log, keys, ["", "", "", trim.horizon, trim.marker, positions]):
            case ["done", position]:
                return int(position)
        return None

    def records(self) -> Sequence[TaskRecord]:
        with self._store.reaching():
            tenants = self._store.client.smembers(self._store.key("tenants"))
        return [record for tenant in sorted(map(_str, tenants)) for record in self._records(tenant)]

    def restore_version(self, tenant: str, task: str, version: VersionInfo, files: Mapping[str, bytes]) -> None:
        check_restored(tenant, task, version, files)
        content = content_id(files)
        arguments = [tenant, task, version.actor, version.version, version.digest, content]
        arguments += [at_field(version.created_at), *_flat(files)]
        done = self._run(self._restore_version, self._keys(tenant, task, version.digest, content), arguments)
        if done == ["taken"]:
            raise Conflict(f"{task}@{version.version} or its adapter {version.digest} is there already")

    def restore_task(self, record: TaskRecord) -> None:
        info = record.info
        aliases = json.dumps([[name, str(version)] for name, version in info.aliases.items()])
        needed = json.dumps([str(version) for version in record.needed])
        arguments = [info.tenant, info.task, "", record.last_version, traffic_field(info.traffic), aliases, needed]
        match self._run(self._restore_task, self._keys(info.tenant, info.task), arguments):
            case ["missing", version]:
                raise NotFound(f"no {info.task}@{version}")

    def restore_log(self, changes: Sequence[Change]) -> None:
        keys = [self._store.key("position"), self._store.key("changes")]
        for first in range(0, len(changes), PAGE):
            entries = json.dumps([entry(logged) for logged in changes[first : first + PAGE]])
            done = self._store.write(self._restore_log, keys, [entries])
            if _strs(done)[0] == "past":
                raise Conflict(f"the log is at position {_strs(done)[1]}, expected less than {changes[first].position}")

    def _records(self, tenant: str) -> Iterator[TaskRecord]:
        """Yield the tenant's tasks by name, including those without versions."""
        for task, fields in self._task_fields(tenant):
            yield task_record(tenant, task, fields)

    def _task_fields(self, tenant: str) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield the names of the tenant's tasks, in order, and their hashes."""
        with self._store.reaching():
            names = sorted(map(_str, self._store.client.smembers(self._store.key("tasks", tenant))))
        for first in range(0, len(names), PAGE):
            page = names[first : first + PAGE]
            with self._store.reaching(), self._store.client.pipeline(transaction=False) as pipeline:
                for task in page:
                    pipeline.hgetall(self._task_key(tenant, task))
                found = pipeline.execute()
            yield from zip(page, map(text, found), strict=True)

    def _files(self, content: str) -> dict[str, bytes]:
        with self._store.reaching():
            files = self._store.client.hgetall(self._store.key("files", content))
        return {_str(name): cast(bytes, data) for name, data in files.items()}

    def _digest_and_content(self, tenant: str, task: str, version: int) -> tuple[str, str]:
        """Return a version's digest and the key of its files (`NotFound`)."""
        fields = [f"digest:{version}", f"content:{version}"]
        with self._store.reaching():
            digest, content = self._store.client.hmget(self._task_key(tenant, task), fields)
        if digest is None:
            raise NotFound(f"no {task}@{version}")
        return _str(digest), _str(content or digest)

    def _run(self, script: Script, keys: Sequence[str], arguments: Sequence[Any]) -> Sequence[str]:
        return _strs(self._store.write(script, keys, arguments))

    def _keys(self, tenant: str, task: str, digest: str = "", content: str = "") -> Sequence[str]:
        key = self._store.key
        keys = [self._task_key(tenant, task), key("position"), key("changes"), key("tenants"), key("tasks", tenant)]
        return [*keys, key("files", content), key("uses", content), key("contents", digest)] if digest else keys

    def _task_key(self, tenant: str, task: str) -> str:
        return self._store.key("task", tenant, task)


def _flat(files: Mapping[str, bytes]) -> list[str | bytes]:
    return [part for file in files.items() for part in file]


def _str(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _strs(answer: Sequence[str | bytes]) -> list[str]:
    return [_str(part) for part in answer]
