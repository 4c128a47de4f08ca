"""The tally: what is counted reaches the ledger once, whatever the ledger does meanwhile."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.counters import AnswersLost, LedgerPlace, new_place
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
def place(request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer) -> LedgerPlace:
    return new_place(request.param, tmp_path, redis_server)


def test_a_reader_sees_its_own_counts_and_the_other_replicas_flushed_ones(place: LedgerPlace) -> None:
    async def scenario() -> None:
        here, there = CounterBuffer(place.open()), CounterBuffer(place.open())
        for _ in range(3):
            here.count(*ROWS, by=2)
        there.count(*ROWS)
        assert await here.read("usage") == {ROWS: 6}
        await there.flush()
        assert await here.read("usage", "acme") == {ROWS: 7}

    asyncio.run(scenario())


def test_stopping_flushes_what_was_counted_until_then(place: LedgerPlace) -> None:
    async def scenario() -> None:
        tally = CounterBuffer(place.open())
        await tally.start()
        tally.count(*ROWS)
        await tally.stop()

    asyncio.run(scenario())
    assert place.open().read() == {ROWS: 1}


def test_counts_reach_the_ledger_by_themselves(place: LedgerPlace) -> None:
    async def scenario() -> None:
        tally = CounterBuffer(place.open())
        await tally.start()
        tally.count(*ROWS)
        await asyncio.to_thread(eventually, lambda: place.open().read() == {ROWS: 1})
        await tally.stop()

    asyncio.run(scenario())


def test_a_thousand_names_are_flushed_whole(place: LedgerPlace) -> None:
    async def scenario() -> None:
        tally = CounterBuffer(place.open())
        for number in range(5_000):
            tally.count("usage", "acme", f"task{number}", "rows")
        await tally.stop()

    asyncio.run(scenario())
    assert len(place.open().read("usage")) == 5_000


def test_a_batch_whose_answer_was_lost_is_not_added_twice(redis_server: RedisServer) -> None:
    place = redis_server.place()
    with AnswersLost(redis_server.port) as between:
        ledger = RedisCounterStore(connect(place.replace(str(redis_server.port), str(between.port))))

        async def scenario() -> None:
            tally = CounterBuffer(ledger)
            tally.count(*ROWS, by=1)
            await tally.flush()
            tally.count(*ROWS, by=5)
            between.losing = True
            with pytest.raises(RegistryUnavailable):
                await tally.flush()
            assert RedisCounterStore(connect(place)).read() == {ROWS: 6}
            tally.count(*ROWS, by=2)
            assert len(tally) == 2  # the batch of five, which it takes for lost, and the two
            between.losing = False
            await tally.flush()
            assert len(tally) == 0

        asyncio.run(scenario())
    assert RedisCounterStore(connect(place)).read() == {ROWS: 8}


def test_counts_wait_within_bounds_while_the_ledger_is_away_and_what_is_dropped_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite"
    ledger = SqliteCounterStore(SqliteFile(path))
    with closing(sqlite3.connect(path)) as db:
        db.execute("ALTER TABLE ledger RENAME TO away")

    async def scenario() -> None:
        tally = CounterBuffer(ledger, max_counters=3)
        tally.count("usage", "acme", "0")
        with pytest.raises(RegistryUnavailable):
            await tally.flush()
        for number in range(1, 6):
            tally.count("usage", "acme", str(number), by=10)
        tally.count("usage", "acme", "1")
        assert len(tally) == 3
        assert tally.dropped == 30
        with closing(sqlite3.connect(path)) as db:
            db.execute("ALTER TABLE away RENAME TO ledger")
        await tally.flush()

    asyncio.run(scenario())
    assert ledger.read() == {("usage", "acme", "0"): 1, ("usage", "acme", "1"): 11, ("usage", "acme", "2"): 10}


def test_a_tally_stops_though_its_ledger_is_away(tmp_path: Path) -> None:
    ledger = SqliteCounterStore(SqliteFile(tmp_path / "registry.sqlite"))
    (tmp_path / "registry.sqlite").unlink()

    async def scenario() -> CounterBuffer:
        tally = CounterBuffer(ledger)
        await tally.start()
        tally.count(*ROWS)
        await tally.stop()
        return tally

    tally = asyncio.run(scenario())
    assert tally.degraded
    assert len(tally) == 1
