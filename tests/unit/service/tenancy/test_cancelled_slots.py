"""A concurrency slot of a cancelled request is released at once, wherever the request was cancelled."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from service.tenancy.models import TenantInfo
from service.tenancy.quotas import Quotas
from service.tenancy.rate_limiter import ConcurrencySlot, RateCounter

OpenCounter = Callable[[], RateCounter]


class SlowReplies:
    """A counter whose replies arrive late, as over a network: the request is cancelled while they are under way."""

    def __init__(self, counter: RateCounter) -> None:
        self._counter, self.degraded = counter, False
        self.late = asyncio.Event()
        self.asked: asyncio.Queue[str] = asyncio.Queue()
        self.slow = ""

    async def _reply(self, what: str, call: Awaitable[Any]) -> Any:
        answer = await call
        self.asked.put_nowait(what)
        if what == self.slow:
            await self.late.wait()
        return answer

    async def add(self, key: str, amount: int, *, window_s: int) -> int:
        return int(await self._reply("add", self._counter.add(key, amount, window_s=window_s)))

    async def acquire(self, key: str, name: str, *, limit: int) -> ConcurrencySlot | None:
        slot = await self._reply("acquire", self._counter.acquire(key, name, limit=limit))
        return None if slot is None else ConcurrencySlot(slot.held, lambda: self._reply("release", slot.release()))

    async def close(self) -> None:
        await self._counter.close()


def run(open_counter: OpenCounter, use: Callable[[SlowReplies, Quotas], Awaitable[None]]) -> None:
    async def with_counter() -> None:
        counter = SlowReplies(open_counter())
        tenant = TenantInfo(id="acme", max_concurrency=1, requests_per_s=1_000.0)
        quotas = Quotas(lambda _: tenant, counter)
        try:
            await use(counter, quotas)
        finally:
            counter.late.set()
            await quotas.close()

    asyncio.run(with_counter())


async def cancelled(task: "asyncio.Task[Any]", times: int = 1) -> None:
    await asyncio.sleep(0)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task


async def until_asked(counter: SlowReplies, what: str) -> None:
    while await asyncio.wait_for(counter.asked.get(), 10) != what:
        pass


async def enter_soon(quotas: Quotas) -> ConcurrencySlot | None:
    """Enter within a second: a lease that nobody releases lasts sixty."""
    for _ in range(100):
        try:
            return await quotas.enter("acme")
        except Exception:  # noqa: BLE001 - refused until the slot is released
            await asyncio.sleep(0.01)
    raise AssertionError("the slot of a cancelled request was not released")


@pytest.mark.parametrize("during", ["acquire", "add"])
def test_a_request_that_is_cancelled_while_it_enters_leaves_no_slot(open_counter: OpenCounter, during: str) -> None:
    async def use(counter: SlowReplies, quotas: Quotas) -> None:
        counter.slow = during
        task = asyncio.create_task(quotas.enter("acme"))
        await until_asked(counter, during)
        await cancelled(task)
        counter.late.set()
        assert await enter_soon(quotas) is not None

    run(open_counter, use)


def test_a_request_that_is_cancelled_while_it_leaves_leaves_no_slot(open_counter: OpenCounter) -> None:
    """Twice: by the client, and by the end of the server's patience."""

    async def use(counter: SlowReplies, quotas: Quotas) -> None:
        slot = await quotas.enter("acme")
        task = asyncio.create_task(quotas.leave("acme", slot))
        await cancelled(task, times=2)
        assert await enter_soon(quotas) is not None

    run(open_counter, use)


def test_a_server_that_stops_releases_what_is_under_way(open_counter: OpenCounter) -> None:
    async def use(counter: SlowReplies, quotas: Quotas) -> None:
        counter.slow = "acquire"
        task = asyncio.create_task(quotas.enter("acme"))
        await until_asked(counter, "acquire")
        await cancelled(task)
        counter.late.set()
        await quotas.close()
        assert counter.asked.get_nowait() in {"add", "release"}

    run(open_counter, use)
