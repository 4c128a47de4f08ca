"""Quotas of a tenant: counted per window, and held, refused and released."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from redis.exceptions import RedisError
from support.proxy import Proxy
from support.redis import RedisServer

from adapters.storage.redis import connect
from service.errors import InvalidRequest, RateLimited
from service.tenancy.models import TenantInfo
from service.tenancy.quotas import Quotas, Window, request_window
from service.tenancy.rate_limiter import FallbackRateCounter, LocalRateCounter, RateCounter
from service.tenancy.redis_rate_counter import RedisRateCounter

T = TypeVar("T")
OpenCounter = Callable[[], RateCounter]


class Time:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def with_counter(open_counter: OpenCounter, use: Callable[[RateCounter], Awaitable[T]]) -> T:
    """Use a counter in an event loop, and close it."""

    async def run() -> T:
        counter = open_counter()
        try:
            return await use(counter)
        finally:
            await counter.close()

    return asyncio.run(run())


def quotas_of(counter: RateCounter, clock: Time, **limits: float) -> Quotas:
    tenant = TenantInfo(id="acme", **limits)  # type: ignore[arg-type]
    return Quotas(lambda _: tenant, counter, clock=clock)


@pytest.mark.parametrize(
    ("rate", "window"),
    [
        (20.0, Window(200, 10)),
        (1.5, Window(15, 10)),
        (1.0, Window(10, 10)),
        (0.15, Window(10, 67)),
        (0.01, Window(10, 1_000)),
    ],
)
def test_a_rate_is_a_quantity_in_a_window_that_lets_a_burst_through(rate: float, window: Window) -> None:
    assert request_window(rate) == window
    assert window.quantity / window.length_s <= rate


def test_requests_are_counted_until_the_window_ends(open_counter: OpenCounter) -> None:
    async def use(counter: RateCounter) -> None:
        clock = Time()
        quotas = quotas_of(counter, clock, requests_per_s=1)
        for left in (9, 8, 7):
            await quotas.enter("acme")
            assert quotas.fields("acme") == {
                "RateLimit-Policy": '"requests";q=10;w=10',
                "RateLimit": f'"requests";r={left};t=10',
            }
        for _ in range(7):
            await quotas.enter("acme")
        clock.now += 3.5
        for _ in range(2):
            with pytest.raises(
                RateLimited, match="requests limit: tenant 'acme' may use 10 requests per 10"
            ) as refused:
                await quotas.enter("acme")
            assert (refused.value.retry_after_s, refused.value.reason) == (7, "rate")
        assert quotas.fields("acme")["RateLimit"] == '"requests";r=0;t=7'
        clock.now += 6.5
        assert quotas.fields("acme")["RateLimit"] == '"requests";r=10;t=10'
        await quotas.enter("acme")

    with_counter(open_counter, use)


def test_tokens_that_are_refused_are_not_used(open_counter: OpenCounter) -> None:
    async def use(counter: RateCounter) -> None:
        clock = Time()
        quotas = quotas_of(counter, clock, tokens_per_min=100)
        await quotas.charge("acme", 70)
        with pytest.raises(RateLimited, match="tokens limit"):
            await quotas.charge("acme", 31)
        await quotas.charge("acme", 30)
        assert '"tokens";r=0' in quotas.fields("acme")["RateLimit"]
        with pytest.raises(InvalidRequest, match="inputs have 101 tokens, the tenant's limit is 100 per minute"):
            await quotas.charge("acme", 101)
        clock.now += 60
        await quotas.charge("acme", 100)

    with_counter(open_counter, use)


def test_places_are_held_until_they_are_given_back(open_counter: OpenCounter) -> None:
    async def use(counter: RateCounter) -> None:
        quotas = quotas_of(counter, Time(), max_concurrency=2)
        first, second = await quotas.enter("acme"), await quotas.enter("acme")
        assert quotas.fields("acme") == {"RateLimit-Policy": '"concurrency";q=2', "RateLimit": '"concurrency";r=0'}
        with pytest.raises(RateLimited, match="has 2 requests in progress"):
            await quotas.enter("acme")
        await quotas.leave("acme", first)
        assert quotas.fields("acme")["RateLimit"] == '"concurrency";r=1'
        third = await quotas.enter("acme")
        await quotas.leave("acme", second)
        await quotas.leave("acme", third)

    with_counter(open_counter, use)


def test_a_refused_request_gives_its_place_back(open_counter: OpenCounter) -> None:
    async def use(counter: RateCounter) -> None:
        quotas = quotas_of(counter, Time(), max_concurrency=1, requests_per_s=0.1)
        for _ in range(10):
            await quotas.leave("acme", await quotas.enter("acme"))
        for _ in range(3):
            with pytest.raises(RateLimited, match="requests limit"):
                await quotas.enter("acme")

    with_counter(open_counter, use)


def test_a_tenant_without_limits_asks_no_meter_and_is_told_nothing() -> None:
    class Unreachable(LocalRateCounter):
        async def add(self, key: str, amount: int, *, window_s: int) -> int:
            raise AssertionError((key, amount, window_s))

    async def use() -> None:
        quotas = quotas_of(Unreachable(), Time(), weight=3.0, max_tasks=1)
        assert await quotas.enter("acme") is None
        await quotas.charge("acme", 10**9)
        assert quotas.fields("acme") == {}
        assert quotas.weight("acme") == 3.0

    asyncio.run(use())


def test_while_redis_is_away_each_process_counts_and_one_request_a_second_looks_for_it() -> None:
    class Away(LocalRateCounter):
        def __init__(self) -> None:
            super().__init__()
            self.asked, self.away = 0, True

        async def add(self, key: str, amount: int, *, window_s: int) -> int:
            self.asked += 1
            if self.away:
                raise ConnectionError("nobody listens")
            return await super().add(key, amount, window_s=window_s)

    async def use() -> None:
        clock, shared = Time(), Away()
        counter = FallbackRateCounter(shared, clock=clock)
        quotas = quotas_of(counter, clock, requests_per_s=1)
        for _ in range(10):
            await quotas.enter("acme")
        assert (counter.degraded, shared.asked) == (True, 1)
        with pytest.raises(RateLimited):
            await quotas.enter("acme")
        clock.now += 1.1
        await asyncio.gather(*(quotas.enter("acme") for _ in range(5)), return_exceptions=True)
        assert shared.asked == 2
        shared.away = False
        clock.now += 1.1
        await quotas.enter("acme")
        assert not counter.degraded
        assert quotas.fields("acme")["RateLimit"].startswith('"requests";r=9')

    asyncio.run(use())


@pytest.mark.slow
def test_a_counter_connects_again_when_its_redis_is_no_longer_the_master(
    start_redis: Callable[..., RedisServer],
) -> None:
    """The connection to the former master stays open; only its refusal tells."""
    old, new = start_redis(), start_redis()
    way = Proxy(old.port)

    async def count(counter: RateCounter) -> None:
        assert await counter.add("acme:requests", 1, window_s=60) == 1
        old.client().replicaof("127.0.0.1", str(old.port))
        way.lead_to(new.port)
        with pytest.raises(RedisError, match="read only replica"):
            await counter.add("acme:requests", 1, window_s=60)
        assert await counter.add("acme:requests", 1, window_s=60) == 1

    with_counter(lambda: RedisRateCounter(connect(f"redis://127.0.0.1:{way.port}")), count)
    way.close()
