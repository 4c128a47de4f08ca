"""A snapshot is the registry's state, to which later entries are added, whatever happens while it is read."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.redis import RedisServer
from support.registry import Store, Uploads

from adapters import Change, Registry, RegistryUnavailable, TaskInfo, Traffic
from adapters.registry.opening import open_registry
from adapters.registry.redis_snapshot import RedisSnapshots
from adapters.registry.trimming import is_behind
from adapters.storage.redis import connect
from service.catalog.catalog import Catalog

KEY = ("acme", "sst2")
Page = tuple[list[TaskInfo], Change | None]


def test_an_empty_registry_has_an_empty_snapshot(registry: Registry) -> None:
    snapshot = registry.snapshot()
    assert (list(snapshot.tasks), snapshot.last) == ([], None)


def test_a_snapshot_has_every_tenants_tasks_as_they_are(registry: Registry, uploads: Uploads) -> None:
    for files in uploads[:3]:
        registry.publish(*KEY, files, actor="ann", aliases=("production", "best"))
    registry.set_traffic(*KEY, Traffic(canary=1, percent=5, shadow=2), actor="ann")
    registry.set_alias(*KEY, "best", 1, actor="bob")
    registry.publish("zeta", "trec", uploads[0], actor="zoe", aliases=())
    registry.publish("zeta", "gone", uploads[0], actor="zoe", aliases=())
    registry.delete("zeta", "gone", 1, actor="zoe")
    snapshot = registry.snapshot()
    assert {(info.tenant, info.task): info for info in snapshot.tasks} == {
        KEY: registry.describe(*KEY),
        ("zeta", "trec"): registry.describe("zeta", "trec"),
    }
    assert snapshot.last == registry.changes()[-1]
    registry.trim_log(keep=1)
    assert list(registry.snapshot().tasks) == list(snapshot.tasks)


@pytest.mark.slow
def test_a_snapshot_that_is_read_while_others_write_becomes_the_state_with_the_entries_after_it(
    monkeypatch: pytest.MonkeyPatch, store: Store, uploads: Uploads
) -> None:
    monkeypatch.setattr("adapters.registry.redis_snapshot._PAGE", 2)
    registry, done = store.open(), threading.Event()
    for number in range(12):
        registry.publish("acme", f"task-{number:02d}", uploads[0], actor="ann")

    def write() -> None:
        writer = store.open()
        for number in range(60):
            task = f"task-{number % 12:02d}"
            version = writer.publish("acme", task, uploads[1 + number % 2], actor="ann").version
            writer.set_alias("acme", task, "production", 1, actor="ann")
            writer.delete("acme", task, version, actor="ann")
            if number % 20 == 19:
                writer.trim_log(keep=30)
        done.set()

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not done.is_set():
            try:
                snapshot = store.open().snapshot()
            except RegistryUnavailable:
                continue  # trimmed each time it was read
            catalog = Catalog()
            catalog.restore(snapshot)
        writing.result()
    changes = registry.changes(catalog.position)
    if is_behind(catalog.position, changes):
        catalog.restore(registry.snapshot())
    catalog.apply(changes)
    assert [(i.task, i.versions, i.aliases) for i in catalog.tasks("acme")] == [
        (i.task, i.versions, i.aliases) for i in registry.list("acme")
    ]


@pytest.mark.redis
def test_pages_of_a_history_that_a_failover_lost_are_read_again(
    monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer, uploads: Uploads
) -> None:
    """The entry that was the last when a page was read is not in the log at the end: another server answers now."""
    place = redis_server.place()
    registry, store = open_registry(place), connect(place)
    registry.publish(*KEY, uploads[0], actor="ann", aliases=())
    changes = store.key("changes")
    [(first, fields)] = store.client.xrange(changes)
    once, read = iter([True]), RedisSnapshots._pages

    def lose_the_last(self: RedisSnapshots) -> Iterator[Page]:
        if next(once, False):
            registry.publish(*KEY, uploads[1], actor="ann", aliases=())
            yield from read(self)
            store.client.delete(store.key("task", *KEY), changes)
            store.client.xadd(changes, fields, id=first)
            store.client.set(store.key("position"), 1)
            registry.publish(*KEY, uploads[0], actor="bob", aliases=())
        else:
            yield from read(self)

    monkeypatch.setattr(RedisSnapshots, "_pages", lose_the_last)
    (info,) = registry.snapshot().tasks
    assert [(version.version, version.actor) for version in info.versions] == [(1, "bob")]


@pytest.mark.redis
def test_a_log_that_changes_under_every_reading_is_an_outage(
    monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer, uploads: Uploads
) -> None:
    registry = open_registry(redis_server.place())
    registry.publish(*KEY, uploads[0], actor="ann")
    pages: Callable[[Any], Iterator[Page]] = lambda self: iter([([], None)])  # noqa: E731
    monkeypatch.setattr(RedisSnapshots, "_pages", pages)
    with pytest.raises(RegistryUnavailable, match="its log changed each of 5 times"):
        registry.snapshot()
