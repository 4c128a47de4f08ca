"""Adapters on their way into memory: one load each, nobody behind another's, announced ones ahead of the asking."""

import asyncio
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.adapters import make_adapter
from support.server import RunningServer, sample
from support.waiting import eventually

from adapters import Label, NotFound, TaskSpec
from adapters.files import to_files
from adapters.registry.sqlite import SqliteRegistry
from adapters.storage.sqlite import SqliteFile
from backbone import Backbone, LabelTrie
from service.catalog.adapter_cache import AdapterCache, LoadedAdapter, Prefetch, load_adapter
from service.catalog.precisions import Precisions

Serve = Callable[..., RunningServer]


class Held(SqliteRegistry):
    """A registry that stands still while it reads some of its adapters, and counts what it reads."""

    def __init__(self, path: Path) -> None:
        super().__init__(SqliteFile(path))
        self.held: set[str] = set()
        self.read: list[str] = []
        self.go_on = threading.Event()

    def get(self, digest: str) -> dict[str, bytes]:
        self.read.append(digest)
        assert digest not in self.held or self.go_on.wait(30)
        return super().get(digest)


@pytest.fixture
def registry(tmp_path: Path) -> Held:
    return Held(tmp_path / "registry.sqlite")


def publish(registry: Held, backbone: Backbone, count: int) -> list[str]:
    return [
        registry.publish("default", f"task{seed}", to_files(make_adapter(backbone, seed=seed)), actor="test").digest
        for seed in range(count)
    ]


def test_many_who_ask_share_one_load_and_one_who_leaves_does_not_end_it(registry: Held, tiny: Backbone) -> None:
    [digest] = publish(registry, tiny, 1)
    registry.held.add(digest)

    async def ask() -> None:
        cache = AdapterCache(registry, Precisions(tiny), max_adapters=10)
        asking = [asyncio.create_task(cache.get(digest)) for _ in range(5)]
        await asyncio.sleep(0)
        asking.pop(0).cancel()
        registry.go_on.set()
        assert len({id(adapter) for adapter in await asyncio.gather(*asking)}) == 1
        cache.stop()

    asyncio.run(ask())
    assert registry.read == [digest]


def test_nobody_waits_behind_the_loads_of_others(registry: Held, tiny: Backbone) -> None:
    *slow, quick = publish(registry, tiny, 13)
    registry.held.update(slow)

    async def ask() -> None:
        cache = AdapterCache(registry, Precisions(tiny), max_adapters=20)
        waiting = [asyncio.create_task(cache.get(digest)) for digest in slow]
        assert (await cache.get(quick)).digest == quick
        assert not any(task.done() for task in waiting)
        registry.go_on.set()
        await asyncio.gather(*waiting)
        cache.stop()

    asyncio.run(ask())


def test_announced_adapters_are_loaded_a_few_at_a_time_and_a_failure_is_nobodys(registry: Held, tiny: Backbone) -> None:
    digests = publish(registry, tiny, 6)
    changes = registry.changes()
    for digest in digests[:2]:
        registry.held.add(digest)
    registry.set_alias("default", "task2", "production", 1, actor="test")
    registry.delete_alias("default", "task2", "production", actor="test")
    registry.delete("default", "task2", 1, actor="test")

    async def announce() -> AdapterCache:
        cache = AdapterCache(registry, Precisions(tiny), max_adapters=20)
        prefetch = Prefetch(cache, concurrency=2)
        prefetch.on_changes(changes)
        prefetch.on_changes(changes)
        await asyncio.to_thread(eventually, lambda: len(registry.read) == 2)
        assert registry.read == digests[:2]
        registry.go_on.set()
        await asyncio.to_thread(eventually, lambda: len(cache) == 5 and digests[2] not in cache)
        await prefetch.stop()
        with pytest.raises(NotFound):
            await cache.get(digests[2])
        cache.stop()
        return cache

    cache = asyncio.run(announce())
    assert sorted(registry.read) == sorted([*digests, digests[2]])  # twice: announced, and asked for
    assert all((digest in cache) == (digest != digests[2]) for digest in digests)


def test_stopping_gives_up_what_is_not_loaded(registry: Held, tiny: Backbone) -> None:
    digests = publish(registry, tiny, 4)
    registry.held.update(digests)

    async def announce() -> None:
        cache = AdapterCache(registry, Precisions(tiny), max_adapters=20)
        prefetch = Prefetch(cache, concurrency=1)
        prefetch.on_changes(registry.changes())
        await asyncio.to_thread(eventually, lambda: bool(registry.read))
        await prefetch.stop()
        registry.go_on.set()
        cache.stop()

    asyncio.run(announce())
    assert registry.read == digests[:1]


@pytest.mark.slow
def test_a_version_published_elsewhere_is_loaded_before_it_is_asked_for(serve: Serve, tiny: Backbone) -> None:
    server = serve()
    server.registry.publish("default", "late", to_files(make_adapter(tiny)), actor="test")
    eventually(lambda: sample(server, "superpos_adapters_loaded") == 1)
    assert server.classify("late", "x").status_code == 200


@pytest.mark.slow
def test_what_the_registry_held_at_the_start_is_loaded_when_it_is_asked_for(serve: Serve, tiny: Backbone) -> None:
    first = serve()
    first.upload("sentiment", make_adapter(tiny))
    again = serve()
    assert sample(again, "superpos_adapters_loaded") == 0
    assert again.classify("sentiment", "x").status_code == 200
    assert sample(again, "superpos_adapters_loaded") == 1


def test_a_loaded_adapter_keeps_nothing_that_answering_does_not_need(tiny: Backbone) -> None:
    adapter = load_adapter(make_adapter(tiny), tiny)
    assert not hasattr(adapter, "__dict__")
    assert not hasattr(adapter, "provenance")
    assert adapter.num_virtual_tokens == 10


def test_label_tries_count_in_the_caches_bound(registry: Held, tiny: Backbone) -> None:
    """The trie of 300 labels takes more memory than a prompt."""
    labels = tuple(Label(name=f"l{number}", words=f"{number:03d} no {number}") for number in range(300))
    spec = TaskSpec(template="{text}", labels=labels)
    wide = [load_adapter(make_adapter(tiny, spec, seed=seed), tiny) for seed in range(6)]
    held = sum(
        sys.getsizeof(part) + sum(sys.getsizeof(number) for number in part)
        for part in (getattr(wide[0].readout, name) for name in LabelTrie.__slots__)
        if isinstance(part, tuple)
    )
    assert wide[0].rows is not None
    assert held > 10 * wide[0].rows.nbytes
    assert held <= wide[0].num_bytes - wide[0].rows.nbytes <= 2 * held
    cache = AdapterCache(registry, Precisions(tiny), max_adapters=100, max_bytes=3 * wide[0].num_bytes)
    for adapter in wide:
        cache.add(adapter)
    assert [adapter.digest in cache for adapter in wide] == [False] * 3 + [True] * 3


def test_a_change_that_comes_as_a_worker_ends_is_not_lost(registry: Held, tiny: Backbone) -> None:
    """Between the last step of a worker and the callbacks of its task, it must not count as working."""
    digests = publish(registry, tiny, 2)
    first, second = (change for change in registry.changes() if change.kind == "published")

    class Announcing(AdapterCache):
        async def get(self, digest: str) -> LoadedAdapter:
            loaded = await super().get(digest)
            if digest == first.digest:
                asyncio.get_running_loop().call_soon(prefetch.on_changes, [second])
            return loaded

    async def announce() -> None:
        nonlocal prefetch
        cache = Announcing(registry, Precisions(tiny), max_adapters=20)
        prefetch = Prefetch(cache, concurrency=1)
        prefetch.on_changes([first])
        await asyncio.to_thread(eventually, lambda: len(cache) == 2)
        await prefetch.stop()
        cache.stop()

    prefetch: Prefetch
    asyncio.run(announce())
    assert registry.read == digests
