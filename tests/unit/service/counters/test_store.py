"""The counter store: counters that only add up, the same in a SQLite file and in a real Redis server."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from support.counters import CounterPlace, new_place
from support.redis import RedisServer

from adapters import RegistryUnavailable
from adapters.storage.redis import connect
from adapters.storage.sqlite import SqliteFile
from service.counters.redis_store import RedisCounterStore
from service.counters.sqlite_store import SqliteCounterStore
from service.counters.store import LIFETIMES_S, BatchId, encode


@pytest.fixture(params=["sqlite", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer) -> CounterPlace:
    return new_place(request.param, tmp_path, redis_server)


def test_an_empty_store_has_no_counters(place: CounterPlace) -> None:
    assert place.open().read() == {}
    assert place.open().read("usage", "acme") == {}


def test_what_replicas_add_adds_up(place: CounterPlace) -> None:
    here, there = place.open(), place.open()
    here.add({("usage", "acme", "rows"): 3, ("usage", "acme", "tokens"): 0.5}, BatchId("here", 1))
    there.add({("usage", "acme", "rows"): 4}, BatchId("there", 1))
    here.add({("usage", "acme", "rows"): 1}, BatchId("here", 2))
    assert place.open().read("usage") == {("usage", "acme", "rows"): 8, ("usage", "acme", "tokens"): 0.5}


def test_a_batch_that_is_sent_again_is_added_once(place: CounterPlace) -> None:
    for _ in range(3):
        place.open().add({("usage", "acme", "rows"): 3}, BatchId("here", 1))
    place.open().add({("usage", "acme", "rows"): 3}, BatchId("here", 2))
    place.open().add({("usage", "acme", "rows"): 3}, BatchId("here", 1))
    assert place.open().read("usage") == {("usage", "acme", "rows"): 6}


def test_many_writers_at_once_lose_nothing(place: CounterPlace) -> None:
    def write(writer: int) -> None:
        store = place.open()
        for sequence in range(1, 21):
            store.add({("usage", "acme", "rows"): 1, ("usage", str(writer), "rows"): 2}, BatchId(str(writer), sequence))

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(write, range(6)))
    found = place.open().read()
    assert found == {("usage", "acme", "rows"): 120} | {("usage", str(writer), "rows"): 40 for writer in range(6)}


def test_a_prefix_ends_at_a_words_end(place: CounterPlace) -> None:
    keys = [("usage", "a", "rows"), ("usage", "a.b", "rows"), ("usage", "ab", "rows"), ("usage", "a", "t", "rows")]
    place.open().add(dict.fromkeys([*keys, ("shadow", "a", "rows"), ("usage", "a")], 1), BatchId("here", 1))
    assert set(place.open().read("usage", "a")) == {("usage", "a"), keys[0], keys[3]}
    assert set(place.open().read("usage", "a", "t")) == {keys[3]}
    assert set(place.open().read("usage", "a", "t", "rows")) == {keys[3]}
    assert set(place.open().read("usage", "a", "row")) == set()
    assert set(place.open().read("usage")) == {*keys, ("usage", "a")}
    assert len(place.open().read()) == 6


def test_a_counter_goes_when_its_lifetime_has_passed_since_its_last_addition(place: CounterPlace) -> None:
    old, kept, endless = ("drift", "1", "rows"), ("drift", "2", "rows"), ("other", "acme", "rows")
    place.open().add({old: 1, kept: 1, endless: 1}, BatchId("here", 1))
    place.now += LIFETIMES_S["drift"] - 1
    place.open().add({kept: 1}, BatchId("here", 2))
    assert place.open().read() == {old: 1, kept: 2, endless: 1}
    place.now += 2
    assert place.open().read() == {kept: 2, endless: 1}
    place.open().add({old: 5}, BatchId("here", 3))
    assert place.open().read("drift", "1") in ({old: 5}, {old: 6})
    place.now += LIFETIMES_S["drift"] + 1
    place.open().add({endless: 1}, BatchId("here", 4))
    place.now -= LIFETIMES_S["drift"] + 1
    assert place.open().read() == {endless: 2}, "what expired is removed, not only hidden"


def test_more_counters_than_one_read_fetches_are_all_there(place: CounterPlace) -> None:
    counts = {("usage", "acme", f"task{number}", "rows"): float(number) for number in range(1_300)}
    place.open().add(counts, BatchId("here", 1))
    assert place.open().read("usage", "acme") == counts


def test_a_batch_that_fails_half_way_adds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite"
    store = SqliteCounterStore(SqliteFile(path))
    with closing(sqlite3.connect(path)) as db:
        db.execute(
            "CREATE TRIGGER disk_full BEFORE INSERT ON ledger WHEN NEW.key LIKE '%tokens' "
            "BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
        )
    counts = {("usage", "acme", "rows"): 3.0, ("usage", "acme", "tokens"): 40.0}
    with pytest.raises(RegistryUnavailable, match="the disk is full"):
        store.add(counts, BatchId("here", 1))
    assert store.read() == {}
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TRIGGER disk_full")
    store.add(counts, BatchId("here", 1))
    assert store.read() == counts


def test_a_redis_server_without_memory_takes_no_part_of_a_batch(redis_server: RedisServer) -> None:
    store = connect(redis_server.place())
    store = RedisCounterStore(store)
    counts = {("usage", "acme", str(number)): 1.0 for number in range(100)}
    with redis_server.client() as client:
        client.config_set("maxmemory", 1)
        try:
            with pytest.raises(RegistryUnavailable, match="maxmemory"):
                store.add(counts, BatchId("here", 1))
        finally:
            client.config_set("maxmemory", 0)
    assert store.read() == {}
    store.add(counts, BatchId("here", 1))
    assert store.read() == counts


@pytest.mark.parametrize("key", [(), ("usage",), ("usage", ""), ("usage", "a\x1fb")])
def test_what_is_no_key_is_refused(key: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="is not valid"):
        encode(key)
