"""Growth outside quotas: aliases, names and the log are bounded, and a trimmed log means what the whole one meant."""

import asyncio
import gc
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.redis import RedisServer
from support.registry import Store, Uploads
from support.registry_steps import TENANTS, outcome, writes

from adapters import NO_TRAFFIC, Change, LimitReached, Registry, Traffic
from adapters.registry.opening import open_registry
from adapters.registry.protocol import ChangeKind, RegistryLimits
from adapters.registry.redis_log import PAGE
from adapters.registry.trimming import removable_entries
from adapters.storage.redis import connect
from service.catalog.catalog import Catalog
from service.catalog.sync import CatalogSync

KEY = ("acme", "sst2")


def replayed(changes: Sequence[Change]) -> tuple[object, ...]:
    """What a server knows of a registry by its log: tasks, and the ways back of their aliases."""
    catalog = Catalog()
    catalog.apply(changes)
    tasks = [catalog.tasks(tenant) for tenant in TENANTS]
    ways = {
        (info.tenant, info.task, alias): catalog.history.of(info.tenant, info.task, alias)
        for infos in tasks
        for info in infos
        for alias in info.aliases
    }
    return tasks, ways


@settings(max_examples=25, deadline=None)
@given(steps=st.lists(st.one_of(writes, st.integers(1, 6)), min_size=10, max_size=60), keep=st.integers(1, 6))
@pytest.mark.slow
def test_a_log_that_is_trimmed_again_and_again_replays_to_what_the_whole_log_does(
    tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer, uploads: Uploads, steps: list[Any], keep: int
) -> None:
    """On both stores; a follower that reads seldom ends where one does that reads everything."""
    sqlite = open_registry(tmp_path_factory.mktemp("trimmed") / "registry.sqlite")
    for registry in (sqlite, open_registry(redis_server.place())):
        whole: list[Change] = []
        seldom = Catalog()
        sync = CatalogSync(registry, seldom, poll_interval_s=60)
        for step in steps:
            if isinstance(step, int):
                registry.trim_log(keep=keep)
                if step == 1:
                    asyncio.run(sync.refresh())
            else:
                outcome(registry, uploads, step)
            whole += registry.changes(whole[-1].position if whole else 0)
            assert replayed(registry.changes()) == replayed(whole)
        asyncio.run(sync.refresh())
        assert [seldom.tasks(tenant) for tenant in TENANTS] == replayed(whole)[0]
        registry.trim_log(keep=keep)
        left = registry.changes()
        assert replayed(left) == replayed(whole)
        assert next(removable_entries(left, keep=keep), None) is None
        for tenant in TENANTS:  # the last of each tenant are its history
            own, kept = ([c for c in log if c.tenant == tenant][-keep:] for log in (whole, left))
            assert own == kept


@pytest.mark.slow
def test_alias_flips_do_not_make_the_log_grow_for_ever(registry: Registry, uploads: Uploads) -> None:
    for files in uploads[:2]:
        registry.publish(*KEY, files, actor="ann")
    registry.publish("zeta", "trec", uploads[2], actor="zoe")
    registry.set_traffic("zeta", "trec", NO_TRAFFIC, actor="zoe")
    longest = 0
    for number in range(150):
        registry.set_alias(*KEY, "production", 1 + number % 2, actor="ann")
        if number % 50 == 49:
            registry.trim_log(keep=20)
            longest = max(longest, len(registry.changes()))
    assert longest <= 20 + 2 + 2 + 2 + 1  # history, versions, the alias's way back, the other tenant, the marker
    assert [c.kind for c in registry.changes() if c.tenant == "zeta"] == ["published", "alias_set"]


@pytest.mark.slow
def test_a_neighbours_flood_takes_nothing_from_a_tenants_history(registry: Registry, uploads: Uploads) -> None:
    registry.publish("zeta", "trec", uploads[0], actor="zoe")
    for _ in range(3):
        registry.delete_alias("zeta", "trec", "production", actor="zoe")
        registry.set_alias("zeta", "trec", "production", 1, actor="zoe")
    history = [c for c in registry.changes() if c.tenant == "zeta"]
    for files in uploads[:2]:
        registry.publish(*KEY, files, actor="ann")
    for number in range(70):
        registry.set_alias(*KEY, "production", 1 + number % 2, actor="ann")
    assert registry.trim_log(keep=len(history)) > 50
    assert [c for c in registry.changes() if c.tenant == "zeta"] == history


def test_a_follower_behind_a_trim_loses_nothing(registry: Registry, uploads: Uploads) -> None:
    """Its last entry is still there, and what it must forget is not: only the marker says so."""
    registry.publish(*KEY, uploads[0], actor="ann")
    registry.set_alias(*KEY, "old", 1, actor="ann")
    registry.publish(*KEY, uploads[1], actor="ann", aliases=())
    catalog = Catalog()
    sync = CatalogSync(registry, catalog, poll_interval_s=60)
    asyncio.run(sync.refresh())
    last = catalog.last
    registry.delete_alias(*KEY, "old", actor="ann")
    registry.set_alias(*KEY, "production", 2, actor="ann")
    registry.trim_log(keep=1)
    assert last in registry.changes()
    assert "alias_deleted" not in {change.kind for change in registry.changes()}
    asyncio.run(sync.refresh())
    assert catalog.task(*KEY).aliases == {"production": 2}
    registry.set_alias(*KEY, "new", 1, actor="ann")
    asyncio.run(sync.refresh())
    assert catalog.task(*KEY).aliases == {"production": 2, "new": 1}


@pytest.mark.redis
@pytest.mark.slow
def test_a_log_that_is_read_while_it_is_trimmed_is_of_one_state(redis_server: RedisServer, uploads: Uploads) -> None:
    """A long log is read in pages, and a trim may fall between two of them."""
    store, done = Store(redis_server.place()), threading.Event()
    registry = store.open()
    for files in uploads[:2]:
        registry.publish(*KEY, files, actor="ann")
    for number in range(PAGE + 50):
        registry.set_alias(*KEY, "production", 1 + number % 2, actor="ann")

    def write() -> None:
        writer = store.open()
        for number in range(60):
            alias = f"alias-{number}"
            writer.set_alias(*KEY, alias, 1, actor="ann")
            writer.set_alias(*KEY, "production", 1 + number % 2, actor="ann")
            writer.delete_alias(*KEY, alias, actor="ann")
            writer.trim_log(keep=PAGE + 20)
        done.set()

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        reader = store.open()
        while not done.is_set():
            catalog = Catalog()
            catalog.apply(reader.changes())
            assert len(catalog.task(*KEY).aliases) <= 2
        writing.result()


@pytest.mark.slow
def test_of_trims_at_the_same_moment_one_is_done(store: Store, uploads: Uploads) -> None:
    registry = store.open()
    for files in uploads[:2]:
        registry.publish(*KEY, files, actor="ann")
    for number in range(40):
        registry.set_alias(*KEY, "production", 1 + number % 2, actor="ann")
    whole, together = registry.changes(), threading.Barrier(4)

    def trim(_: int) -> int:
        own = store.open()
        together.wait(30)
        return own.trim_log(keep=10)

    with ThreadPoolExecutor(4) as pool:
        removed = list(pool.map(trim, range(4)))
    left = registry.changes()
    assert sum(removed) >= len(whole) + 1 - len(left)
    assert replayed(left) == replayed(whole)
    assert [change.kind for change in left].count("log_trimmed") == 1


@pytest.mark.redis
def test_a_redis_without_memory_can_be_trimmed(start_redis: Any, uploads: Uploads) -> None:
    server = start_redis("--maxmemory-policy", "noeviction")
    registry = open_registry(server.url)
    for files in uploads[:2]:
        registry.publish(*KEY, files, actor="ann")
    for number in range(300):
        registry.set_alias(*KEY, "production", 1 + number % 2, actor="ann")
    server.client().config_set("maxmemory", 1)
    assert registry.trim_log(keep=10) > 250
    assert len(registry.changes()) < 20


@pytest.mark.slow
def test_a_long_log_is_trimmed_in_steps_and_each_leaves_the_same_state(
    monkeypatch: pytest.MonkeyPatch, registry: Registry, uploads: Uploads
) -> None:
    monkeypatch.setattr("adapters.registry.trimming._MAX_REMOVED", 20)
    monkeypatch.setattr("adapters.registry.trimming._MAX_STEPS", 1)
    for files in uploads[:3]:
        registry.publish(*KEY, files, actor="ann")
    for number in range(60):
        registry.set_alias(*KEY, "production", 1 + number % 3, actor="ann")
    whole, removed = registry.changes(), []
    while count := registry.trim_log(keep=5):
        removed.append(count)
        assert replayed(registry.changes()) == replayed(whole)
    assert all(count <= 20 + 1 + 3 for count in removed)  # the marker, and the versions that an alias forgets at once
    assert len(removed) >= 2
    for number in range(60):
        registry.set_alias(*KEY, "production", 1 + number % 3, actor="ann")
    whole = registry.changes()
    monkeypatch.setattr("adapters.registry.trimming._MAX_STEPS", 20)
    assert registry.trim_log(keep=5) > 40  # all steps of one reading
    assert replayed(registry.changes()) == replayed(whole)
    assert next(removable_entries(registry.changes(), keep=5), None) is None


class Slices:
    """Counts the pauses of a blocking call, and measures the processor time between them."""

    def __init__(self) -> None:
        self.count, self.longest_s = 0, 0.0
        self._since = time.thread_time()

    def pause(self) -> None:
        self.count += 1
        self.longest_s = max(self.longest_s, time.thread_time() - self._since)
        self._since = time.thread_time()


@pytest.fixture
def frozen_objects() -> Iterator[None]:
    """As in a server that has started: the collector does not look at what was there before."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("frozen_objects")
def test_other_threads_can_work_while_a_long_log_is_trimmed(registry: Registry, uploads: Uploads) -> None:
    registry.publish(*KEY, uploads[0], actor="ann")
    last = registry.changes()[-1]
    flips = [
        Change(position, "alias_set", *KEY, 1, last.digest, "production", "ann", last.at)
        for position in range(last.position + 1, last.position + 8_000)
    ]
    registry.restore_log(flips)
    slices = Slices()
    assert registry.trim_log(keep=100, pause=slices.pause) > 7_000
    assert slices.count > 3 * len(flips) / 100  # read, counted from the end, planned
    assert slices.longest_s < 0.1


# --- aliases and names


@pytest.fixture
def small(store: Store) -> Registry:
    """A registry with small limits."""
    return open_registry(store.place, RegistryLimits(aliases_per_task=4, task_names=3))


def test_aliases_of_a_task_are_counted_whichever_way_they_come(small: Registry, uploads: Uploads) -> None:
    small.publish(*KEY, uploads[0], actor="ann", aliases=["a", "b", "a"])
    small.set_alias(*KEY, "c", 1, actor="ann")
    told = small.changes()
    assert [change.alias for change in told] == [None, "a", "b", "c"]  # repeats are one
    ways = [
        lambda: small.publish(*KEY, uploads[1], actor="ann", aliases=["d", "e"]),
        lambda: small.publish(*KEY, uploads[0], actor="ann", aliases=["a", "d", "e"]),
        lambda: small.publish("acme", "trec", uploads[1], actor="ann", aliases=[f"a{n}" for n in range(900)]),
    ]
    for way in ways:
        with pytest.raises(LimitReached, match=r"would have (5|900) aliases, its limit is 4; delete some first"):
            way()
    assert small.changes() == told
    small.publish(*KEY, uploads[1], actor="ann")  # production is the fourth
    with pytest.raises(LimitReached, match="would have 5 aliases"):
        small.set_alias(*KEY, "d", 1, actor="ann")
    small.set_alias(*KEY, "a", 2, actor="ann")  # what is there moves
    small.publish(*KEY, uploads[2], actor="ann", aliases=["a", "b", "c", "production"])
    small.delete_alias(*KEY, "a", actor="ann")
    small.set_alias(*KEY, "d", 1, actor="ann")


def test_a_task_over_the_limit_from_before_is_served_and_moved(store: Store, uploads: Uploads) -> None:
    names = [f"a{number}" for number in range(9)]
    store.open().publish(*KEY, uploads[0], actor="ann", aliases=names)
    small = open_registry(store.place, RegistryLimits(aliases_per_task=4))
    small.publish(*KEY, uploads[1], actor="ann", aliases=names)
    assert set(small.describe(*KEY).aliases.values()) == {2}
    with pytest.raises(LimitReached, match="would have 10 aliases"):
        small.set_alias(*KEY, "another", 1, actor="ann")


def test_writers_at_the_same_moment_make_no_more_aliases_than_there_may_be(store: Store, uploads: Uploads) -> None:
    limits, together = RegistryLimits(aliases_per_task=5), threading.Barrier(8)
    open_registry(store.place, limits).publish(*KEY, uploads[0], actor="ann", aliases=())

    def make(number: int) -> bool:
        registry = open_registry(store.place, limits)
        together.wait(30)
        try:
            registry.set_alias(*KEY, f"a{number}", 1, actor="ann")
        except LimitReached:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(make, range(8))) == 5
    assert len(store.open().describe(*KEY).aliases) == 5


def test_names_of_deleted_tasks_count_as_long_as_their_numbers_are_reserved(small: Registry, uploads: Uploads) -> None:
    """What is left of a deleted task is kept for ever, so it is counted."""
    for number in range(3):
        small.publish("acme", f"task-{number}", uploads[number], actor="ann", aliases=())
        small.delete("acme", f"task-{number}", 1, actor="ann")
    told = small.changes()
    with pytest.raises(LimitReached, match="would have used 4 names of tasks, its limit is 3, deleted ones included"):
        small.publish("acme", "task-3", uploads[3], actor="ann")
    assert small.changes() == told
    small.publish("zeta", "task-3", uploads[3], actor="ann")  # another tenant's are its own
    assert small.publish("acme", "task-1", uploads[3], actor="ann").version == 2


@pytest.mark.redis
def test_what_redis_keeps_of_a_tenant_does_not_grow_with_what_it_does(start_redis: Any, uploads: Uploads) -> None:
    """Rounds of everything a publisher may do leave as many keys and fields as one round."""
    server = start_redis()
    registry = open_registry(server.url)

    def a_round(start: int) -> tuple[int, int]:
        for files in uploads[start : start + 2]:
            registry.publish(*KEY, files, actor="ann", aliases=("production", "best"))
        last = registry.describe(*KEY).versions[-1].version
        registry.set_traffic(*KEY, Traffic(canary=last - 1, percent=5, shadow=last - 1), actor="ann")
        registry.set_traffic(*KEY, NO_TRAFFIC, actor="ann")
        for alias in ("production", "best"):
            registry.delete_alias(*KEY, alias, actor="ann")
        for version in (last - 1, last):
            registry.delete(*KEY, version, actor="ann")
        registry.trim_log(keep=1)
        client = connect(server.url).client
        return client.dbsize(), sum(client.hlen(key) for key in client.scan_iter(_type="hash"))

    assert a_round(0) == a_round(2) == a_round(4)


def test_a_log_whose_tasks_change_one_after_another_is_trimmed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry is superseded a whole round later: the start of such a log is needed up to there."""
    monkeypatch.setattr("adapters.registry.trimming._MAX_REMOVED", 10)
    log: list[Change] = []
    at = datetime(2026, 1, 2, tzinfo=UTC)
    for turn in range(6):
        for task in range(50):
            kind: ChangeKind = "published" if turn in (0, 2) else "alias_set"
            alias = None if turn in (0, 2) else "production"
            version = (1, 1, 2, 2, 1, 2)[turn]
            log.append(Change(len(log) + 1, kind, "acme", f"task-{task}", version, f"sha256:{version}", alias, "a", at))
    removable = next(removable_entries(log, keep=10))
    assert 10 <= len(removable) <= 12
    left = [change for change in log if change.position not in removable]
    assert replayed(left) == replayed(log)
