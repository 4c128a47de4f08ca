"""A tenant's limits: counted over all replicas, told in every answer, and never a reason to fail."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import httpx2
import pytest
from support import RunningServer, eventually, make_adapter, sample
from support_accounts import ADMIN_KEY, Keyring, bearer
from support_http import check_problem
from support_redis import RedisServer
from test_promises import held_model_thread

from adapters.files import to_files
from backbone import Backbone
from service.accounts import TenantInfo
from service.errors import InvalidRequest, RateLimited
from service.meters import FallbackMeter, LocalMeter, Meter, open_meter
from service.quotas import Quotas, Window, request_window
from service.rows import EngineRow

Serve = Callable[..., RunningServer]
T = TypeVar("T")


class Time:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["local", "redis"])
def place(request: pytest.FixtureRequest) -> str:
    if request.param == "local":
        return "registry.sqlite"
    server: RedisServer = request.getfixturevalue("redis_server")
    return server.place()


def with_meter(place: str, use: Callable[[Meter], Awaitable[T]]) -> T:
    """Use a meter in an event loop, and close it."""

    async def run() -> T:
        meter = open_meter(place)
        try:
            return await use(meter)
        finally:
            await meter.close()

    return asyncio.run(run())


def quotas_of(meter: Meter, clock: Time, **limits: float) -> Quotas:
    tenant = TenantInfo("acme", **limits)  # type: ignore[arg-type]
    return Quotas(lambda _: tenant, meter, clock=clock)


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


def test_requests_are_counted_until_the_window_ends(place: str) -> None:
    async def use(meter: Meter) -> None:
        clock = Time()
        quotas = quotas_of(meter, clock, requests_per_s=1)
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
            with pytest.raises(RateLimited, match="requests limit: tenant 'acme' has 10 requests in 10 s") as refused:
                await quotas.enter("acme")
            assert (refused.value.retry_after_s, refused.value.reason) == (7, "rate")
        assert quotas.fields("acme")["RateLimit"] == '"requests";r=0;t=7'
        clock.now += 6.5
        assert quotas.fields("acme")["RateLimit"] == '"requests";r=10;t=10'
        await quotas.enter("acme")

    with_meter(place, use)


def test_tokens_that_are_refused_are_not_used(place: str) -> None:
    async def use(meter: Meter) -> None:
        clock = Time()
        quotas = quotas_of(meter, clock, tokens_per_min=100)
        await quotas.charge("acme", 70)
        with pytest.raises(RateLimited, match="tokens limit"):
            await quotas.charge("acme", 31)
        await quotas.charge("acme", 30)
        assert '"tokens";r=0' in quotas.fields("acme")["RateLimit"]
        with pytest.raises(InvalidRequest, match="inputs have 101 tokens, the tenant has 100 a minute"):
            await quotas.charge("acme", 101)
        clock.now += 60
        await quotas.charge("acme", 100)

    with_meter(place, use)


def test_places_are_held_until_they_are_given_back(place: str) -> None:
    async def use(meter: Meter) -> None:
        quotas = quotas_of(meter, Time(), max_concurrency=2)
        first, second = await quotas.enter("acme"), await quotas.enter("acme")
        assert quotas.fields("acme") == {"RateLimit-Policy": '"concurrency";q=2', "RateLimit": '"concurrency";r=0'}
        with pytest.raises(RateLimited, match="answers 2 requests at once"):
            await quotas.enter("acme")
        await quotas.leave("acme", first)
        assert quotas.fields("acme")["RateLimit"] == '"concurrency";r=1'
        third = await quotas.enter("acme")
        await quotas.leave("acme", second)
        await quotas.leave("acme", third)

    with_meter(place, use)


def test_a_refused_request_gives_its_place_back(place: str) -> None:
    async def use(meter: Meter) -> None:
        quotas = quotas_of(meter, Time(), max_concurrency=1, requests_per_s=0.1)
        for _ in range(10):
            await quotas.leave("acme", await quotas.enter("acme"))
        for _ in range(3):
            with pytest.raises(RateLimited, match="requests limit"):
                await quotas.enter("acme")

    with_meter(place, use)


def test_a_tenant_without_limits_asks_no_meter_and_is_told_nothing() -> None:
    class Unreachable(LocalMeter):
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
    class Away(LocalMeter):
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
        meter = FallbackMeter(shared, clock=clock)
        quotas = quotas_of(meter, clock, requests_per_s=1)
        for _ in range(10):
            await quotas.enter("acme")
        assert (meter.degraded, shared.asked) == (True, 1)
        with pytest.raises(RateLimited):
            await quotas.enter("acme")
        clock.now += 1.1
        await asyncio.gather(*(quotas.enter("acme") for _ in range(5)), return_exceptions=True)
        assert shared.asked == 2
        shared.away = False
        clock.now += 1.1
        await quotas.enter("acme")
        assert not meter.degraded
        assert quotas.fields("acme")["RateLimit"].startswith('"requests";r=9')

    asyncio.run(use())


def classify(server: RunningServer, key: str, text: str = "a gripping film") -> httpx2.Response:
    return server.client.post("/classify/sentiment", json={"inputs": text}, headers=bearer(key))


def limited(server: RunningServer, backbone: Backbone, **limits: object) -> str:
    """A key of a tenant with limits and a task."""
    keyring = Keyring(server)
    keyring.tenant("acme")
    key = keyring.key("acme", "publish")
    parts = [("files", (name, data)) for name, data in to_files(make_adapter(backbone)).items()]
    server.client.post("/tasks/sentiment/versions", files=parts, headers=bearer(key)).raise_for_status()
    keyring.change("acme", **limits)
    return key


def both(serve: Serve, place: str) -> tuple[RunningServer, RunningServer]:
    a, b = (serve(registry=place, require_keys=True, admin_key=ADMIN_KEY) for _ in range(2))
    return a, b


def knows(server: RunningServer, **limits: object) -> bool:
    """Whether a replica has heard of a tenant's limits, and of its task."""
    world = server.app.state.world  # type: ignore[attr-defined]
    tenant = world.directory.tenant("acme")
    return all(getattr(tenant, name) == value for name, value in limits.items()) and len(world.catalog) == 1


def test_two_replicas_count_together_and_every_answer_tells(
    serve: Serve, redis_server: RedisServer, tiny: Backbone
) -> None:
    a, b = both(serve, redis_server.place())
    key = limited(a, tiny, requests_per_s=0.0001, tokens_per_min=1_000_000)
    eventually(lambda: knows(b, requests_per_s=0.0001))
    answers = [classify(server, key) for server in (a, b) * 6]
    assert [answer.status_code for answer in answers] == [200] * 10 + [429] * 2
    for number, answer in enumerate(answers):
        assert answer.headers["RateLimit-Policy"] == '"requests";q=10;w=100000, "tokens";q=1000000;w=60'
        assert answer.headers["RateLimit"].startswith(f'"requests";r={max(0, 9 - number)};t=')
    check_problem(answers[-1], 429, "rate_limited", "requests limit", "10 requests in 100000 s")
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 100_000
    used = 1_000_000 - int(answers[8].headers["RateLimit"].rpartition("r=")[2].partition(";")[0])
    tokens = answers[8].json()["predictions"][0]["tokens"]
    assert used in {count * tokens for count in range(1, 10)}, "nine of both, fewer where a minute began meanwhile"
    assert "RateLimit" not in a.client.get("/tasks", headers=bearer(ADMIN_KEY)).headers
    assert "RateLimit" not in a.client.get("/tasks").headers


def test_requests_at_once_are_counted_over_replicas_and_places_come_back(
    serve: Serve, redis_server: RedisServer, tiny: Backbone
) -> None:
    a, b = both(serve, redis_server.place())
    key = limited(a, tiny, max_concurrency=2)
    eventually(lambda: knows(b, max_concurrency=2))
    with ThreadPoolExecutor(2) as pool:
        with held_model_thread(a, tiny):
            waiting = [pool.submit(classify, a, key, text) for text in ("a film", "b film")]
            eventually(lambda: a.app.state.world.admission.rows == 2)  # type: ignore[attr-defined]
            refused = classify(b, key)
        assert [answer.result().status_code for answer in waiting] == [200, 200]
    check_problem(refused, 429, "rate_limited", "answers 2 requests at once")
    assert refused.headers["RateLimit"] == '"concurrency";r=0'
    eventually(lambda: classify(b, key).status_code == 200)


def test_redis_away_fails_no_request_and_the_count_is_shared_again_when_it_is_back(
    serve: Serve, start_redis: Callable[..., RedisServer], tiny: Backbone
) -> None:
    redis = start_redis()
    server = serve(registry=redis.url, require_keys=True, admin_key=ADMIN_KEY)
    key = limited(server, tiny, requests_per_s=1_000, max_concurrency=50)
    statuses: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            statuses.append(classify(server, key).status_code)

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        eventually(lambda: len(statuses) > 20)
        redis.kill()
        eventually(lambda: sample(server, "superpos_quotas_degraded") == 1)
        count = len(statuses)
        eventually(lambda: len(statuses) > count + 20)
        redis.start()
        eventually(lambda: sample(server, "superpos_quotas_degraded") == 0)
        stop.set()
        for done in asking:
            done.result()
    assert set(statuses) == {200}
    assert redis.client().keys("*:limits*")


def test_a_tenants_weight_reaches_the_queue_and_the_model(
    serve: Serve, tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(require_keys=True, admin_key=ADMIN_KEY)
    key = limited(server, tiny, weight=3.0)
    world = server.app.state.world  # type: ignore[attr-defined]
    submit, admit = world.engine.submit, world.admission.admit
    weights: list[tuple[str, float]] = []

    def seen_by_the_model(rows: Sequence[EngineRow], *rest: object, **more: object) -> object:
        weights.extend(("model", row.weight) for row in rows if row.tenant == "acme")
        return submit(rows, *rest, **more)

    def seen_by_the_queue(tenant: str, *, rows: int, tokens: int, weight: float) -> object:
        weights.append(("queue", weight))
        return admit(tenant, rows=rows, tokens=tokens, weight=weight)

    monkeypatch.setattr(world.engine, "submit", seen_by_the_model)
    monkeypatch.setattr(world.admission, "admit", seen_by_the_queue)
    assert classify(server, key).status_code == 200
    Keyring(server).change("acme", weight=0.5)
    assert classify(server, key, "another film").status_code == 200
    assert weights == [("queue", 3.0), ("model", 3.0), ("queue", 0.5), ("model", 0.5)]
