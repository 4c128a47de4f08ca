"""Fills a registry with the rows or keys of a million publications, by bulk statements of its store."""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

from adapters import Change, PromptAdapter
from adapters.files import content_id, to_files
from adapters.names import PRODUCTION
from adapters.registry.opening import open_registry
from adapters.registry.redis_records import at_field
from adapters.storage.redis import connect
from benchmarks.common.workload import originals, perturbed

ACTOR = "benchmark"
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_TASKS_PER_TENANT = 50_000
"""Default limit of a tenant."""
_CHUNK = 5_000
_FILL_REDIS = """
local prefix, actor, at, tasks = ARGV[1], ARGV[2], ARGV[3], cjson.decode(ARGV[4])
for _, parts in ipairs(tasks) do
  local tenant, task, production, versions = unpack(parts)
  local fields = {'last', #versions, 'live', #versions, 'alias:production', production}
  for number, pair in ipairs(versions) do
    local digest, content = unpack(pair)
    local more = {'digest:' .. number, digest, 'content:' .. number, content, 'actor:' .. number, actor,
                  'at:' .. number, at, 'known:' .. digest, number}
    for _, part in ipairs(more) do table.insert(fields, part) end
    redis.call('SADD', prefix .. ':uses:' .. content, tenant .. ':' .. task)
  end
  redis.call('HSET', prefix .. ':task:' .. tenant .. ':' .. task, unpack(fields))
  redis.call('SADD', prefix .. ':tenants', tenant)
  redis.call('SADD', prefix .. ':tasks:' .. tenant, task)
end
"""
"""The keys are those that `adapters/registry/redis_scripts.py` describes."""


@dataclass(frozen=True, slots=True)
class Extent:
    """A registry: each task has versions 1 to `versions`; entries beyond their publication move an alias."""

    tasks: int
    entries: int
    distinct: int
    """Number of different adapters, which the versions have in turn."""
    versions: int

    def name(self, number: int) -> tuple[str, str]:
        """Return the tenant and name of a task."""
        tenants = max(20, -(-self.tasks // _TASKS_PER_TENANT))
        return f"tenant-{number % tenants:03d}", f"task-{number:07d}"

    def entry(self, position: int) -> tuple[int, bool, int]:
        """Return an entry's task, whether it publishes (else it sets `production`), and its version."""
        turn, number = divmod(position - 1, self.tasks)
        if turn < 2 * self.versions:
            return number, turn % 2 == 0, turn // 2 + 1
        return number, False, turn % self.versions + 1

    def production(self, number: int) -> int:
        """Return the version that a task's alias points at after all entries."""
        turns = (self.entries - 1 - number) // self.tasks + 1
        last = turns - 1 if turns > 2 * self.versions or turns % 2 == 0 else turns - 2
        return self.entry(last * self.tasks + number + 1)[2]


@dataclass(frozen=True, slots=True)
class Uploads:
    """The different adapters: digests, contents and files."""

    digests: Sequence[str]
    contents: Sequence[str]
    files: Sequence[Mapping[str, bytes]]

    def of(self, number: int, version: int) -> int:
        """Return which adapter a task's version has."""
        return (number + version - 1) % len(self.digests)


def make_uploads(count: int) -> Uploads:
    """Make different adapters of one task."""
    original = originals()["sst2"]
    adapters: list[PromptAdapter] = [perturbed(original, seed) for seed in range(count)]
    files = [to_files(adapter) for adapter in adapters]
    return Uploads([adapter.digest for adapter in adapters], [content_id(each) for each in files], files)


def fill(place: str, extent: Extent) -> None:
    """Fill an empty registry and check a task of it."""
    uploads = make_uploads(extent.distinct)
    registry = open_registry(place)
    (_fill_redis if place.startswith("redis") else _fill_sqlite)(place, extent, uploads)
    for first in range(1, extent.entries + 1, _CHUNK):
        positions = range(first, min(first + _CHUNK, extent.entries + 1))
        registry.restore_log([_change(extent, uploads, position) for position in positions])
    tenant, task = extent.name(extent.tasks - 1)
    info = registry.describe(tenant, task)
    assert len(info.versions) == extent.versions
    assert info.aliases == {PRODUCTION: extent.production(extent.tasks - 1)}
    assert registry.get(info.versions[0].digest)


def _change(extent: Extent, uploads: Uploads, position: int) -> Change:
    number, publishes, version = extent.entry(position)
    digest = uploads.digests[uploads.of(number, version)]
    alias = None if publishes else PRODUCTION
    kind = "published" if publishes else "alias_set"
    return Change(position, kind, *extent.name(number), version, digest, alias, ACTOR, AT)


def _fill_sqlite(place: str, extent: Extent, uploads: Uploads) -> None:
    def versions() -> Iterator[tuple[tuple[str, str], int, int]]:
        for number in range(extent.tasks):
            for version in range(1, extent.versions + 1):
                yield extent.name(number), version, uploads.of(number, version)

    tasks = ((*extent.name(number), extent.versions) for number in range(extent.tasks))
    aliases = ((*extent.name(number), PRODUCTION, extent.production(number)) for number in range(extent.tasks))
    files = (
        (content, name, data)
        for content, files in zip(uploads.contents, uploads.files, strict=True)
        for name, data in files.items()
    )
    of_versions = ((*key, n, uploads.digests[upload], ACTOR, AT.isoformat()) for key, n, upload in versions())
    contents = ((*key, n, uploads.contents[upload]) for key, n, upload in versions())
    with closing(sqlite3.connect(place)) as db, db:
        db.execute("PRAGMA synchronous=OFF")
        db.executemany("INSERT INTO files VALUES (?,?,?)", files)
        db.executemany("INSERT INTO tasks VALUES (?,?,?)", tasks)
        db.executemany("INSERT INTO versions VALUES (?,?,?,?,?,?)", of_versions)
        db.executemany("INSERT INTO contents VALUES (?,?,?,?)", contents)
        db.executemany("INSERT INTO aliases VALUES (?,?,?,?)", aliases)


def _fill_redis(place: str, extent: Extent, uploads: Uploads) -> None:
    store = connect(place)
    script = store.client.register_script(_FILL_REDIS)
    with store.client.pipeline(transaction=False) as pipe:
        for digest, content, files in zip(uploads.digests, uploads.contents, uploads.files, strict=True):
            pipe.hset(store.key("files", content), mapping=dict(files))
            pipe.sadd(store.key("contents", digest), content)
        pipe.execute()
    for first in range(0, extent.tasks, _CHUNK):
        tasks = [
            [
                *extent.name(number),
                extent.production(number),
                [
                    [uploads.digests[upload], uploads.contents[upload]]
                    for upload in (uploads.of(number, version) for version in range(1, extent.versions + 1))
                ],
            ]
            for number in range(first, min(first + _CHUNK, extent.tasks))
        ]
        script([], [store.prefix, ACTOR, at_field(AT), json.dumps(tasks)])
