"""A tenant's limits over HTTP: counted over replicas, told in every answer, and never a reason to fail."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from support.adapters import SENTIMENT, make_adapter
from support.http import check_problem
from support.load import held_model_thread
from support.redis import RedisServer
from support.server import RunningServer, sample
from support.tenancy import ADMIN_KEY, Keyring, bearer
from support.waiting import eventually

from adapters.files import to_files
from backbone import Backbone
from service.engine.types import Row

Serve = Callable[..., RunningServer]


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
    runtime = server.app.state.runtime  # type: ignore[attr-defined]
    tenant = runtime.tenancy.account_cache.tenant("acme")
    return all(getattr(tenant, name) == value for name, value in limits.items()) and len(runtime.registry.catalog) == 1


@pytest.mark.slow
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
    check_problem(answers[-1], 429, "rate_limited", "requests limit", "10 requests per 100000 s")
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 100_000
    used = 1_000_000 - int(answers[8].headers["RateLimit"].rpartition("r=")[2].partition(";")[0])
    tokens = answers[8].json()["predictions"][0]["tokens"] + 10  # the prompt's virtual tokens are charged too
    assert used in {count * tokens for count in range(1, 10)}, "nine of both, fewer where a minute began meanwhile"
    assert "RateLimit" not in a.client.get("/tasks", headers=bearer(ADMIN_KEY)).headers
    assert "RateLimit" not in a.client.get("/tasks").headers


@pytest.mark.slow
def test_requests_at_once_are_counted_over_replicas_and_places_come_back(
    serve: Serve, redis_server: RedisServer, tiny: Backbone
) -> None:
    a, b = both(serve, redis_server.place())
    key = limited(a, tiny, max_concurrency=2)
    eventually(lambda: knows(b, max_concurrency=2))
    with ThreadPoolExecutor(2) as pool:
        with held_model_thread(a, tiny):
            waiting = [pool.submit(classify, a, key, text) for text in ("a film", "b film")]
            eventually(lambda: a.app.state.runtime.inference.admission.rows == 2)  # type: ignore[attr-defined]
            refused = classify(b, key)
        assert [answer.result().status_code for answer in waiting] == [200, 200]
    check_problem(refused, 429, "rate_limited", "has 2 requests in progress")
    assert refused.headers["RateLimit"] == '"concurrency";r=0'
    eventually(lambda: classify(b, key).status_code == 200)


@pytest.mark.slow
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
    runtime = server.app.state.runtime  # type: ignore[attr-defined]
    submit, admit = runtime.inference.engine.submit, runtime.inference.admission.admit
    weights: list[tuple[str, float]] = []

    def seen_by_the_model(rows: Sequence[Row], *rest: object, **more: object) -> object:
        weights.extend(("model", row.weight) for row in rows if row.tenant == "acme")
        return submit(rows, *rest, **more)

    def seen_by_the_queue(tenant: str, *, rows: int, tokens: int, weight: float) -> object:
        weights.append(("queue", weight))
        return admit(tenant, rows=rows, tokens=tokens, weight=weight)

    monkeypatch.setattr(runtime.inference.engine, "submit", seen_by_the_model)
    monkeypatch.setattr(runtime.inference.admission, "admit", seen_by_the_queue)
    assert classify(server, key).status_code == 200
    Keyring(server).change("acme", weight=0.5)
    assert classify(server, key, "another film").status_code == 200
    assert weights == [("queue", 3.0), ("model", 3.0), ("queue", 0.5), ("model", 0.5)]


def tokens_left(answer: httpx2.Response) -> int:
    return int(answer.headers["RateLimit"].rpartition("r=")[2].partition(";")[0])


@pytest.mark.slow
def test_a_request_that_admission_refuses_costs_no_tokens(serve: Serve, tiny: Backbone) -> None:
    server = serve(require_keys=True, admin_key=ADMIN_KEY, max_queue_rows=2)
    key = limited(server, tiny, tokens_per_min=1_000_000)
    before = tokens_left(classify(server, key))
    body = {"inputs": ["a gripping film"] * 3}
    with ThreadPoolExecutor(1) as pool:
        with held_model_thread(server, tiny):
            waiting = pool.submit(classify, server, key, "a film")
            eventually(lambda: server.app.state.runtime.inference.admission.rows == 1)  # type: ignore[attr-defined]
            for _ in range(5):
                refused = server.client.post("/classify/sentiment", json=body, headers=bearer(key))
                assert refused.status_code == 429, refused.text
        waited = waiting.result().json()["predictions"][0]["tokens"] + 10  # virtual tokens
    last = classify(server, key)
    one = last.json()["predictions"][0]["tokens"] + 10
    left = tokens_left(last)
    fresh = 1_000_000  # where a minute began meanwhile
    assert left in {before - waited - one, fresh - waited - one, fresh - one}


@pytest.mark.slow
def test_a_cached_answer_tells_no_other_tenant_that_it_was_asked_for(serve: Serve, tiny: Backbone) -> None:
    server = serve(require_keys=True, admin_key=ADMIN_KEY, result_cache_bytes=1 << 20)
    keyring, keys = Keyring(server), []
    for tenant in ("acme", "globex"):
        keyring.tenant(tenant)
        keys.append(keyring.key(tenant, "publish"))
        parts = [("files", (name, data)) for name, data in to_files(make_adapter(tiny)).items()]
        server.client.post("/tasks/sentiment/versions", files=parts, headers=bearer(keys[-1])).raise_for_status()
    answers = [classify(server, key).json() for key in (keys[0], keys[1], keys[0], keys[1])]
    assert len({answer["adapter"] for answer in answers}) == 1
    assert [answer["predictions"][0]["cached"] for answer in answers] == [False, False, True, True]


Files = list[dict[str, bytes]]


@pytest.fixture
def files(tiny: Backbone) -> Files:
    """Uploads that differ and are of one size, but for a few digits."""
    return [to_files(make_adapter(tiny, SENTIMENT, seed=seed)) for seed in range(6)]


@pytest.fixture
def server(place: str, serve: Callable[..., RunningServer]) -> RunningServer:
    return serve(registry=place, require_keys=True, admin_key=ADMIN_KEY)


def size_bytes(files: dict[str, bytes]) -> int:
    return sum(map(len, files.values()))


def upload(server: RunningServer, key: str, task: str, files: dict[str, bytes]) -> httpx2.Response:
    parts = [("files", (name, data)) for name, data in files.items()]
    return server.client.post(f"/tasks/{task}/versions", files=parts, headers=bearer(key))


@pytest.mark.slow
def test_tasks_versions_and_bytes_are_limited_and_what_is_there_already_is_no_upload(
    server: RunningServer, files: Files
) -> None:
    keyring = Keyring(server)
    keyring.tenant("acme", max_tasks=2, max_versions=2)
    key = keyring.key("acme", "publish")
    assert upload(server, key, "a", files[0]).status_code == 201
    assert upload(server, key, "b", files[0]).status_code == 201
    refused = upload(server, key, "c", files[0])
    check_problem(refused, 409, "quota_exceeded", "would have 3 tasks, its limit is 2")
    assert upload(server, key, "a", files[1]).status_code == 201
    refused = upload(server, key, "a", files[2])
    check_problem(refused, 409, "quota_exceeded", "would have 3 versions of a, its limit is 2")
    assert upload(server, key, "a", files[1]).status_code == 200
    assert server.client.delete("/tasks/a/versions/1", headers=bearer(key)).status_code == 204
    assert upload(server, key, "a", files[2]).status_code == 201

    stored = sum(map(size_bytes, files[:3]))
    keyring.change("acme", max_tasks=None, max_versions=None, max_bytes=stored + size_bytes(files[3]) - 1)
    assert upload(server, key, "c", files[2]).status_code == 201, "its bytes are stored once"
    refused = upload(server, key, "c", files[3])
    check_problem(refused, 409, "quota_exceeded", f"would have {stored + size_bytes(files[3])} bytes")
    keyring.change("acme", max_bytes=stored + size_bytes(files[3]))
    assert upload(server, key, "c", files[3]).status_code == 201
    keyring.tenant("zeta", max_tasks=1)
    assert upload(server, keyring.key("zeta", "publish"), "a", files[0]).status_code == 201


@pytest.mark.slow
def test_of_many_uploads_at_once_no_more_are_taken_than_fit(server: RunningServer, files: Files) -> None:
    keyring = Keyring(server)
    keyring.tenant("acme", max_versions=2)
    key = keyring.key("acme", "publish")
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda one: upload(server, key, "a", one).status_code, files))
    assert sorted(answers) == [201] * 2 + [409] * 4
    assert len(server.client.get("/tasks/a", headers=bearer(key)).json()["versions"]) == 2
