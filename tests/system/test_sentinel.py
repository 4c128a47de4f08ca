"""Servers on a Redis with Sentinel: what was accepted outlives the master, and no answer is another tenant's."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.adapters import SENTIMENT, make_adapter
from support.http import check_problem
from support.redis import free_port, redis_binary
from support.server import RunningServer
from support.waiting import eventually

from adapters import RegistryUnavailable
from adapters.files import to_files
from adapters.registry.opening import open_registry
from adapters.storage.opening import open_storage
from adapters.storage.redis import connect
from backbone import Backbone
from deploy.platform import free_ports
from deploy.program import Program
from deploy.replicated_redis import ReplicatedRedis, Timing, make_replicated_redis

TEXT = "a gripping film"
Serve = Callable[..., RunningServer]
pytestmark = pytest.mark.redis


@pytest.fixture(scope="module")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicatedRedis]:
    """Three servers and three sentinels that take half a second to notice a death."""
    ports = free_ports(6)
    folder = tmp_path_factory.mktemp("replicated")
    replicated = make_replicated_redis(
        folder, Path(redis_binary()), ports[:3], ports[3:], sink=lambda *_: None, timing=Timing(500, 3_000)
    )
    replicated.start()
    yield replicated
    replicated.stop()


def master_of(replicated: ReplicatedRedis) -> Program:
    """The server that the sentinels name."""
    pool = connect(replicated.url(min_replicas=0)).client.connection_pool
    return replicated.servers[replicated.server_ports.index(pool.get_master_address()[1])]  # type: ignore[attr-defined]


def test_a_master_that_dies_takes_no_accepted_version_with_it(
    serve: Serve, replicated: ReplicatedRedis, tiny: Backbone
) -> None:
    place = replicated.url(min_replicas=1)
    servers = [serve(registry=place), serve(registry=place)]
    accepted: dict[int, str] = {}
    sent, refused, answered = set[str](), list[int](), list[str]()
    stop = threading.Event()

    def publish() -> None:
        for seed in range(10_000):
            adapter = make_adapter(tiny, SENTIMENT, seed=seed)
            files = to_files(adapter)
            sent.add(adapter.digest)
            while not stop.is_set():
                parts = [("files", (name, data)) for name, data in files.items()]
                answer = servers[seed % 2].client.post("/tasks/sentiment/versions", files=parts)
                if answer.is_success:
                    accepted[answer.json()["version"]] = answer.json()["adapter"]
                    break
                refused.append(answer.status_code)
                check_problem(answer, 503, "registry_unavailable")
                assert int(answer.headers["Retry-After"]) > 0
                time.sleep(0.02)
            if stop.is_set():
                return

    def ask() -> None:
        while not stop.is_set():
            answer = servers[0].classify("sentiment", TEXT)
            if answer.status_code != 503:  # a version whose files were not read yet when the master died
                answered.append(str(answer.raise_for_status().json()["adapter"]))

    publishing = threading.Thread(target=publish)
    publishing.start()
    eventually(lambda: len(accepted) > 3)
    asking = threading.Thread(target=ask)
    asking.start()
    victim = master_of(replicated)
    victim.kill()
    before = len(accepted)
    eventually(lambda: len(accepted) > before + 5, within_s=60)
    stop.set()
    publishing.join(30)
    asking.join(30)
    victim.start()
    assert refused, "the failover took no time"
    assert set(answered) <= sent
    registry = open_registry(place)
    known = {info.version: info.digest for info in registry.describe("default", "sentiment").versions}
    assert {version: known.get(version) for version in accepted} == accepted
    for server in servers:
        eventually(lambda server=server: not server.client.get("/healthz/ready").json()["degraded"])
        listed = server.client.get("/tasks/sentiment").json()["versions"]
        assert accepted.items() <= {info["version"]: info["adapter"] for info in listed}.items()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("/superpos?", "/another?"), "the sentinels monitor 'superpos', expected 'another'"),
        (("sentinel_password=", "sentinel_password=x"), "its password is the option sentinel_password"),
    ],
)
def test_a_wrong_service_or_password_ends_the_start_at_once(
    replicated: ReplicatedRedis, change: tuple[str, str], reason: str
) -> None:
    with pytest.raises(RegistryUnavailable, match=reason) as caught:
        open_storage(replicated.url(min_replicas=1).replace(*change), wait_s=100_000)
    assert replicated.password not in str(caught.value)
    assert replicated.sentinel_password not in str(caught.value)


def test_sentinels_that_are_not_there_are_waited_for() -> None:
    with pytest.raises(RegistryUnavailable, match="No master found for 'main'"):
        open_storage(f"redis+sentinel://127.0.0.1:{free_port()}/main", wait_s=0.2)
