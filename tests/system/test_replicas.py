"""Two servers on one Redis: they converge, and go on answering whatever becomes of Redis and of the way to it."""

import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from support.adapters import SENTIMENT, make_adapter
from support.http import check_problem
from support.proxy import CutsReply, Proxy
from support.redis import RedisServer
from support.server import RunningServer, sample
from support.tenancy import ADMIN_KEY, bearer
from support.waiting import eventually
from support.workers import admitted_of_ten, serving

from adapters import RegistryUnavailable
from adapters.files import to_files
from adapters.registry.opening import open_registry
from adapters.storage.opening import open_storage
from backbone import Backbone

TEXT = "a gripping film"
Start = Callable[..., RedisServer]
Serve = Callable[..., RunningServer]


@pytest.fixture
def proxy(start_redis: Start) -> Iterator[tuple[RedisServer, Proxy]]:
    """A Redis server, and a way to it that can be cut."""
    server = start_redis()
    way = Proxy(server.port)
    yield server, way
    way.close()


@pytest.fixture
def proxy_that_cuts(start_redis: Start) -> Iterator[tuple[RedisServer, Proxy, CutsReply]]:
    """A Redis server, a way to it, and what breaks that way in place of a reply."""
    server, cutter = start_redis(), CutsReply()
    way = Proxy(server.port, alter=cutter)
    yield server, way, cutter
    way.close()


def digest_of(server: RunningServer, ref: str = "sentiment") -> str:
    """Which adapter answers; "" where none does."""
    response = server.classify(ref, TEXT)
    return str(response.json()["adapter"]) if response.is_success else ""


def versions_of(server: RunningServer) -> list[int]:
    """The versions that it knows."""
    return [version["version"] for version in server.client.get("/tasks/sentiment").json()["versions"]]


def degraded(server: RunningServer) -> bool:
    """Whether it says so; it is ready all the same."""
    ready = server.client.get("/healthz/ready").raise_for_status().json()
    return bool(ready["degraded"])


def upload(server: RunningServer, backbone: Backbone, seed: int, task: str = "sentiment") -> httpx2.Response:
    """Try to publish an adapter over HTTP."""
    files = to_files(make_adapter(backbone, SENTIMENT, seed=seed))
    return server.client.post(
        f"/tasks/{task}/versions", files=[("files", (name, data)) for name, data in files.items()]
    )


def move_alias(server: RunningServer, version: int) -> httpx2.Response:
    """Try to point `production` somewhere else."""
    return server.client.put("/tasks/sentiment/aliases/production", json={"version": version})


def test_what_one_server_takes_the_other_serves(serve: Serve, redis_server: RedisServer, tiny: Backbone) -> None:
    place = redis_server.place()
    a, b = serve(registry=place), serve(registry=place)
    digests = []
    for seed in range(3):
        digests.append(str(upload(a, tiny, seed).raise_for_status().json()["adapter"]))
        eventually(lambda: digest_of(b) == digests[-1])
    move_alias(b, 1).raise_for_status()
    eventually(lambda: digest_of(a) == digests[0])
    b.client.delete("/tasks/sentiment/versions/3").raise_for_status()
    eventually(lambda: a.classify("sentiment@3", TEXT).status_code == 404)
    assert (degraded(a), degraded(b)) == (False, False)


@pytest.mark.parametrize("how", ["cut", "silence"])
def test_a_server_that_was_cut_off_answers_and_catches_up(
    serve: Serve, proxy: tuple[RedisServer, Proxy], tiny: Backbone, how: str
) -> None:
    redis, way = proxy
    a = serve(registry=redis.url)
    first = str(upload(a, tiny, 0).json()["adapter"])
    b = serve(registry=f"redis://127.0.0.1:{way.port}?socket_timeout=0.2")
    assert digest_of(b) == first
    getattr(way, how)()
    eventually(lambda: degraded(b))
    upload(a, tiny, 1, "other").raise_for_status()
    second = str(upload(a, tiny, 2).json()["adapter"])
    move_alias(a, 1).raise_for_status()
    move_alias(a, 2).raise_for_status()
    assert (digest_of(b), digest_of(b, "other"), degraded(a)) == (first, "", False)
    refused = upload(b, tiny, 3)
    assert (refused.status_code, refused.json()["code"]) == (503, "registry_unavailable")
    way.mend()
    eventually(lambda: digest_of(b) == second and digest_of(b, "other") == digest_of(a, "other"))
    eventually(lambda: not degraded(b))
    assert a.client.get("/tasks").json() == b.client.get("/tasks").json()


def test_requests_that_hang_on_a_silent_redis_hold_up_no_answer(
    serve: Serve, proxy: tuple[RedisServer, Proxy], tiny: Backbone
) -> None:
    _, way = proxy
    server = serve(registry=f"redis://127.0.0.1:{way.port}?socket_timeout=60")
    upload(server, tiny, 0).raise_for_status()
    way.silence()

    def ask_for_files() -> int:
        with httpx2.Client(base_url=server.url, timeout=60, verify=False) as client:
            return client.get("/tasks/sentiment/versions/1/files").status_code

    with ThreadPoolExecutor(40) as pool:
        hanging = [pool.submit(ask_for_files) for _ in range(40)]  # more than the event loop has threads
        eventually(lambda: sample(server, "superpos_requests_in_flight") > 40)
        long = TEXT + " and more of it" * 100  # tokenized in a thread
        assert server.classify("sentiment", [TEXT, long], truncate="end").status_code == 200
        assert not any(request.done() for request in hanging)
        way.mend()
        assert {request.result(60) for request in hanging} == {200}


def test_while_redis_is_dead_both_answer_and_refuse_writes_and_then_recover(
    serve: Serve, start_redis: Start, tiny: Backbone
) -> None:
    redis = start_redis()
    a, b = serve(registry=redis.url), serve(registry=redis.url)
    first = str(upload(a, tiny, 0).json()["adapter"])
    second = str(upload(a, tiny, 1).json()["adapter"])
    eventually(lambda: digest_of(b) == second)
    redis.kill()
    eventually(lambda: degraded(a) and degraded(b))
    for server in (a, b):
        assert digest_of(server) == second
        for refused in (upload(server, tiny, 2), move_alias(server, 1)):
            assert refused.status_code == 503
            assert int(refused.headers["Retry-After"]) > 0
    redis.start()
    eventually(lambda: not degraded(a) and not degraded(b))
    move_alias(a, 1).raise_for_status()
    eventually(lambda: digest_of(b) == first)
    third = str(upload(b, tiny, 2).raise_for_status().json()["adapter"])
    eventually(lambda: digest_of(a) == third)


def test_an_adapter_not_in_memory_is_refused_alone_while_redis_is_dead(
    serve: Serve, start_redis: Start, tiny: Backbone
) -> None:
    redis = start_redis()
    registry = open_registry(redis.url)
    for seed, task in enumerate(("sentiment", "cold")):
        registry.publish("default", task, to_files(make_adapter(tiny, seed=seed)), actor="test")
    server = serve(registry=redis.url)  # what was there before its start is loaded when it is first asked for
    assert digest_of(server) != ""
    redis.kill()
    eventually(lambda: degraded(server))
    refused = server.classify("cold", TEXT)
    assert (refused.status_code, refused.json()["code"]) == (503, "registry_unavailable")
    assert "Retry-After" in refused.headers
    assert digest_of(server) != ""
    redis.start()
    eventually(lambda: digest_of(server, "cold") != "")


def test_servers_follow_a_redis_that_came_back_older(serve: Serve, start_redis: Start, tiny: Backbone) -> None:
    redis = start_redis()
    a, b = serve(registry=redis.url), serve(registry=redis.url)
    kept = str(upload(a, tiny, 0).json()["adapter"])
    redis.stop()
    backup = shutil.copytree(redis.folder, redis.folder.with_name("backup"))
    redis.start()
    eventually(lambda: not degraded(a))
    lost = [str(upload(a, tiny, seed).raise_for_status().json()["adapter"]) for seed in (1, 2)]
    eventually(lambda: digest_of(b) == lost[-1])
    redis.kill()
    # elsewhere the same positions come to mean something else, and the log grows past what the servers know
    restored = RedisServer(backup)
    restored.start()
    for seed in (3, 4, 5, 6, 7, 8):
        registry = open_registry(restored.url)
        registry.publish("default", "sentiment", to_files(make_adapter(tiny, seed=seed)), actor="test", aliases=())
    restored.stop()
    shutil.rmtree(redis.folder)
    shutil.copytree(backup, redis.folder)
    redis.start()
    for server in (a, b):
        eventually(lambda server=server: digest_of(server) == kept)
        eventually(lambda server=server: versions_of(server) == list(range(1, 8)))
        assert not degraded(server)


def test_servers_of_a_redis_that_lost_everything_answer_and_take_nothing_new(
    serve: Serve, start_redis: Start, tiny: Backbone, tmp_path: Path
) -> None:
    redis = start_redis()
    server = serve(registry=redis.url)
    digest = str(upload(server, tiny, 0).json()["adapter"])
    redis.stop()
    eventually(lambda: degraded(server))
    backup = shutil.move(redis.folder, tmp_path / "backup")
    redis.folder.mkdir()
    redis.start()
    reason = "the registry is empty, its log was at position 2: restore it"  # for the operator, in the log
    told = "the registry cannot be reached; tasks in use are still served, and the log has the reason"
    eventually(lambda: server.app.state.runtime.registry.sync._loop.error == reason)
    eventually(lambda: upload(server, tiny, 1).json()["detail"] == told)
    assert upload(server, tiny, 1).status_code == 503
    others = [
        move_alias(server, 1),
        server.client.put("/tasks/sentiment/traffic", json={}),
        server.client.post("/tasks/sentiment/promote", json={"version": 1}),
        server.client.delete("/tasks/sentiment/versions/1"),
    ]
    assert {(refused.status_code, refused.json()["detail"]) for refused in others} == {(503, told)}
    assert open_registry(redis.url).changes() == []
    assert digest_of(server) == digest
    redis.stop()
    shutil.rmtree(redis.folder)
    shutil.copytree(backup, redis.folder)
    redis.start()
    eventually(lambda: not degraded(server))
    assert upload(server, tiny, 1).json()["version"] == 2


@pytest.mark.skipif(sys.platform != "linux", reason="several workers need Linux")
def test_workers_share_a_redis_and_its_counts_and_no_log_line_has_its_password(
    start_redis: Start, tiny_t5: Path, tiny: Backbone, tmp_path: Path
) -> None:
    redis = start_redis("--requirepass", "opensesame")
    place = f"redis://:opensesame@127.0.0.1:{redis.port}?prefix=team"
    environment = {"SUPERPOS_ADMIN_KEY": ADMIN_KEY, "TMPDIR": str(tmp_path)}
    with (
        serving(tiny_t5, place, "--require-keys", **environment) as server,
        server.client_of_each() as clients,
    ):
        assert admitted_of_ten(server) == 10
        first, second = clients.values()
        for client in (first, second):
            client.headers.update(bearer(ADMIN_KEY))
        files = to_files(make_adapter(tiny)).items()
        first.post("/tasks/sentiment/versions", files=[("files", file) for file in files]).raise_for_status()
        ask = {"inputs": TEXT}
        eventually(lambda: second.post("/classify/sentiment", json=ask).is_success)
        redis.kill()
        for client in (first, second):
            eventually(lambda client=client: client.get("/healthz/ready").json()["degraded"])
            assert client.post("/classify/sentiment", json=ask).is_success
        redis.start()
        for client in (first, second):
            eventually(lambda client=client: not client.get("/healthz/ready").json()["degraded"])
        lines = "".join(server.lines)
    assert f"redis://127.0.0.1:{redis.port}/0?prefix=team" in lines
    assert "opensesame" not in lines + "".join(server.lines)


def test_a_start_waits_for_redis_for_as_long_as_it_is_told_to(tmp_path: Path) -> None:
    redis = RedisServer(tmp_path)
    with pytest.raises(RegistryUnavailable, match=f"redis://127.0.0.1:{redis.port}"):
        open_storage(redis.url, wait_s=0.2)
    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(open_storage, redis.url, wait_s=60)
        threading.Event().wait(0.3)  # so that it has been refused at least once
        redis.start()
        try:
            assert open_registry(opening.result(30)).changes() == []
        finally:
            redis.close()


def test_a_start_does_not_wait_where_redis_refuses_the_password(start_redis: Start) -> None:
    server = start_redis("--requirepass", "secret")
    with pytest.raises(RegistryUnavailable, match="invalid username-password pair"):
        open_storage(f"redis://:wrong@127.0.0.1:{server.port}", wait_s=100_000)


@pytest.mark.slow
def test_a_rollback_that_answered_503_is_repeated_as_the_same_step(
    serve: Serve, proxy_that_cuts: tuple[RedisServer, Proxy, CutsReply], tiny: Backbone
) -> None:
    """The registry did it and the reply was lost: whoever asks again does not go two steps back."""
    redis, way, cutter = proxy_that_cuts
    a, b = serve(registry=f"redis://127.0.0.1:{way.port}"), serve(registry=redis.url)
    for seed in range(5):
        upload(a, tiny, seed).raise_for_status()
    for left, to, body in ((5, 4, {}), (4, 3, {"expected": 4})):
        cutter.armed = b"\r\ndone\r\n"
        lost = a.client.post("/tasks/sentiment/rollback", json=body)
        check_problem(lost, 503, "registry_unavailable", "did not confirm", f"expected {left}")
        eventually(lambda to=to: production_of(a) == to)
        again = a.client.post("/tasks/sentiment/rollback", json=body)
        elsewhere = b.client.post("/tasks/sentiment/rollback", json={"expected": left})
        check_problem(elsewhere, 409, "conflict", f"points at version {to}")
        if body:
            check_problem(again, 409, "conflict", f"points at version {to}")
        else:
            assert (again.json()["previous"], again.json()["version"]) == (left, to)
        assert production_of(a) == to
    assert a.client.post("/tasks/sentiment/rollback", json={}).json()["version"] == 2


def production_of(server: RunningServer) -> int:
    """Where the bare name points."""
    return int(server.client.get("/tasks/sentiment").json()["aliases"]["production"])
