"""The workers of a server count a tenant's use together, exactly, and alone while their common file fails."""

import asyncio
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest
from support.tenancy import Clock

from service.errors import RateLimited
from service.tenancy.models import TenantInfo
from service.tenancy.quotas import Quotas
from service.tenancy.rate_limiter import SLOT_LIFETIME_S, FallbackRateCounter
from service.tenancy.shared_counter import WorkersRateCounter

T = TypeVar("T")
WORKERS = 4


def in_workers(path: Path, use: Callable[[Quotas], Awaitable[T]], **limits: float) -> list[T]:
    """Let several workers at once, each with an event loop and a connection of its own, use one file."""
    tenant = TenantInfo(id="acme", **limits)  # type: ignore[arg-type]

    async def work() -> T:
        quotas = Quotas(lambda _: tenant, WorkersRateCounter(path), clock=lambda: 1_000_000.0)
        try:
            return await use(quotas)
        finally:
            await quotas.close()

    with ThreadPoolExecutor(WORKERS) as pool:
        return [each.result() for each in [pool.submit(asyncio.run, work()) for _ in range(WORKERS)]]


async def admitted(call: Callable[[], Awaitable[object]], times: int) -> int:
    count = 0
    for _ in range(times):
        try:
            await call()
        except RateLimited:
            continue
        count += 1
    return count


def test_all_workers_together_admit_what_the_limits_permit_and_not_one_more(tmp_path: Path) -> None:
    path = tmp_path / "limits.sqlite"
    requests = in_workers(path, lambda quotas: admitted(lambda: quotas.enter("acme"), 60), requests_per_s=10)
    assert sum(requests) == 100
    tokens = in_workers(path, lambda quotas: admitted(lambda: quotas.charge("acme", 10), 60), tokens_per_min=1_000)
    assert sum(tokens) <= 100, "a refusal takes its tokens back, which may refuse a charge at the same moment"
    assert sum(tokens) > 90
    slots = in_workers(path, lambda quotas: admitted(lambda: quotas.enter("acme"), 9), max_concurrency=20)
    assert sum(slots) == 20


def test_the_slots_of_a_worker_that_died_are_free_after_a_while(tmp_path: Path) -> None:
    clock = Clock()

    async def use() -> None:
        dead, other = (
            WorkersRateCounter(tmp_path / "limits.sqlite", clock=lambda: clock().timestamp()) for _ in range(2)
        )
        for number in range(2):
            assert await dead.acquire("acme:concurrency", f"x{number}", limit=2) is not None
        await dead.close()
        assert await other.acquire("acme:concurrency", "y", limit=2) is None
        clock.go_on(SLOT_LIFETIME_S + 1)
        slot = await other.acquire("acme:concurrency", "z", limit=2)
        assert slot is not None
        assert slot.held == 1
        await other.add("acme:requests:10:1", 1, window_s=10)
        assert rows(tmp_path, "slots") == 1, "what has expired is removed"
        clock.go_on(61)
        await other.add("acme:requests:10:2", 1, window_s=10)
        assert rows(tmp_path, "counts") == 1
        await other.close()

    asyncio.run(use())


def rows(folder: Path, table: str) -> int:
    with sqlite3.connect(folder / "limits.sqlite") as db:
        return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def test_a_file_that_is_locked_for_long_leaves_each_worker_to_count_alone(tmp_path: Path) -> None:
    """A worker that is stopped within a write must not stop the others."""
    path, now = tmp_path / "limits.sqlite", [0.0]

    async def use() -> None:
        counter = FallbackRateCounter(WorkersRateCounter(path), clock=lambda: now[0])
        assert await counter.add("key", 1, window_s=60) == 1
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        assert await counter.add("key", 1, window_s=60) == 1
        assert counter.degraded
        blocker.execute("ROLLBACK")
        blocker.close()
        now[0] += 1.1
        assert await counter.add("key", 1, window_s=60) == 2
        assert not counter.degraded
        await counter.close()

    asyncio.run(use())


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_the_file_is_private(tmp_path: Path) -> None:
    asyncio.run(WorkersRateCounter(tmp_path / "limits.sqlite").close())
    assert (tmp_path / "limits.sqlite").stat().st_mode & 0o077 == 0
