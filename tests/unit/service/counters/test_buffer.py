"""The buffer: what is counted reaches the counter store once, whatever the counter store does meanwhile."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.counters import AnswersLost, CounterPlace, new_place
from support.redis import RedisServer
from support.waiting import eventually

from adapters import RegistryUnavailable
from adapters.storage.redis import connect
from adapters.storage.sqlite import SqliteFile
from service.counters.buffer import CounterBuffer
from service.counters.redis_store import RedisCounterStore
from service.counters.sqlite_store import SqliteCounterStore

ROWS = ("usage", "acme", "rows")


@pytest.fixture(params=["sqlite", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer) -> CounterPlace:
    return new_place(request.param, tmp_path, redis_server)


def test_a_reader_sees_its_own_counts_and_the_other_replicas_flushed_ones(place: CounterPlace) -> None:
    async def scenario() -> None:
        here, there = CounterBuffer(place.open()), CounterBuffer(place.open())
        for _ in range(3):
            here.count(*ROWS, by=2)
        there.count(*ROWS)
        assert await here.read("usage") == {ROWS: 6}
        await there.flush()
        assert await here.read("usage", "acme") == {ROWS: 7}

    asyncio.run(scenario())


def test_stopping_flushes_what_was_counted_until_then(place: CounterPlace) -> None:
    async def scenario() -> None:
        buffer = CounterBuffer(place.open())
        await buffer.start()
        buffer.count(*ROWS)
        await buffer.stop()

    asyncio.run(scenario())
    assert place.open().read() == {ROWS: 1}


@pytest.mark.slow
def test_counts_reach_the_store_by_themselves(place: CounterPlace) -> None:
    async def scenario() -> None:
        buffer = CounterBuffer(place.open())
        await buffer.start()
        buffer.count(*ROWS)
        await asyncio.to_thread(eventually, lambda: place.open().read() == {ROWS: 1})
        await buffer.stop()

    asyncio.run(scenario())


def test_a_thousand_names_are_flushed_whole(place: CounterPlace) -> None:
    async def scenario() -> None:
        buffer = CounterBuffer(place.open())
        for number in range(5_000):
            buffer.count("usage", "acme", f"task{number}", "rows")
        await buffer.stop()

    asyncio.run(scenario())
    assert len(place.open().read("usage")) == 5_000


def test_a_batch_whose_answer_was_lost_is_not_added_twice(redis_server: RedisServer) -> None:
    place = redis_server.place()
    with AnswersLost(redis_server.port) as between:
        store = RedisCounterStore(connect(place.replace(str(redis_server.port), str(between.port))))

        async def scenario() -> None:
            buffer = CounterBuffer(store)
            buffer.count(*ROWS, by=1)
            await buffer.flush()
            buffer.count(*ROWS, by=5)
            between.losing = True
            with pytest.raises(RegistryUnavailable):
                await buffer.flush()
            assert RedisCounterStore(connect(place)).read() == {ROWS: 6}
            buffer.count(*ROWS, by=2)
            assert len(buffer) == 2  # the batch of five, which it takes for lost, and the two
            between.losing = False
            await buffer.flush()
            assert len(buffer) == 0

        asyncio.run(scenario())
    assert RedisCounterStore(connect(place)).read() == {ROWS: 8}


def test_counts_wait_within_bounds_while_the_store_is_away_and_what_is_dropped_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite"
    store = SqliteCounterStore(SqliteFile(path))
    with closing(sqlite3.connect(path)) as db:
        db.execute("ALTER TABLE ledger RENAME TO away")

    async def scenario() -> None:
        buffer = CounterBuffer(store, max_counters=3)
        buffer.count("usage", "acme", "0")
        with pytest.raises(RegistryUnavailable):
            await buffer.flush()
        for number in range(1, 6):
            buffer.count("usage", "acme", str(number), by=10)
        buffer.count("usage", "acme", "1")
        assert len(buffer) == 3
        assert buffer.dropped == 30
        with closing(sqlite3.connect(path)) as db:
            db.execute("ALTER TABLE away RENAME TO ledger")
        await buffer.flush()

    asyncio.run(scenario())
    assert store.read() == {("usage", "acme", "0"): 1, ("usage", "acme", "1"): 11, ("usage", "acme", "2"): 10}


def test_a_buffer_stops_though_its_store_is_away(tmp_path: Path) -> None:
    store = SqliteCounterStore(SqliteFile(tmp_path / "registry.sqlite"))
    (tmp_path / "registry.sqlite").unlink()

    async def scenario() -> CounterBuffer:
        buffer = CounterBuffer(store)
        await buffer.start()
        buffer.count(*ROWS)
        await buffer.stop()
        return buffer

    buffer = asyncio.run(scenario())
    assert buffer.degraded
    assert len(buffer) == 1
