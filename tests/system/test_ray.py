"""Files scored, and requests served, on two nodes of a Ray cluster of which workers are killed."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
from support.adapters import make_adapter
from support.cli import superpos
from support.ray_nodes import two_nodes, worker_processes
from support.redis import RedisServer, free_port
from support.scoring import text_of
from support.server import RunningServer
from support.waiting import eventually

from adapters.files import to_files
from backbone import Backbone
from superpos_client import Client

pytestmark = pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\.data")  # of its own settings


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with two_nodes() as address:
        yield address


def kill_a_worker_after(parts: Path, count: int) -> threading.Thread:
    """Kill a worker once a number of parts are saved."""

    def kill() -> None:
        eventually(lambda: len(list(parts.glob("a.csv.d/*.csv"))) >= count, within_s=60)
        worker_processes("PartScorer")[0].kill()

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


@pytest.mark.timeout(600)  # five processes import torch: 20 s, and minutes where every core is taken
def test_a_cluster_scores_the_bytes_of_a_server_though_a_worker_is_killed(
    address: str, shared_server: RunningServer, tmp_path: Path, tiny_t5: Path, cache_dir: Path
) -> None:
    lines = [f"{n},{text_of(n)}" for n in range(1_500)]
    lines[7], lines[900], lines[1_200] = "7,", "900,a,b", "1200," + "word " * 200
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text("\n".join(["id,sentence", *lines, ""]))
    (tmp_path / "in/b.csv").write_text("\n".join(["id,sentence", *lines[:40], ""]))
    (tmp_path / "in/none.csv").write_text("id,sentence\n")
    files = ("sentiment", tmp_path / "in", "--part-rows", "20", "--out")
    there = ("--local", shared_server.settings.registry, "--ray", address, "--workers", "2", "--price", "0.5")
    backbone = ("--backbone", tiny_t5, "--cache-dir", cache_dir)
    killing = kill_a_worker_after(tmp_path / "ray/_parts", 5)
    answer = superpos("score", *files, tmp_path / "ray", *there, *backbone)
    killing.join()
    assert answer.code == 0, answer.stderr
    assert f"1,540 rows in {tmp_path / 'ray'}\n" in answer.stdout  # next to Ray's message of the dead worker
    assert "1,540 rows in 3 files at " in answer.stderr
    assert " rows/s by 2 workers: 0:" in answer.stderr
    assert " at 0.5 per core-hour" in answer.stderr
    assert superpos("score", *files, tmp_path / "http", "--server", shared_server.url).code == 0
    written = {
        name: {path.name: path.read_bytes() for path in (tmp_path / name).iterdir() if path.suffix != ".json"}
        for name in ("ray", "http")
    }
    assert written["ray"] == written["http"]
    assert sorted(written["ray"]) == ["a.csv", "a.csv.rejected.jsonl", "b.csv", "b.csv.rejected.jsonl", "none.csv"]
    again = superpos("score", *files, tmp_path / "ray", *there, *backbone)
    assert (again.code, again.stderr) == (
        0,
        "4 rejected, with the reasons in " + f"{tmp_path / 'ray'}/*.rejected.jsonl\n",
    )


BROKEN_OFF = 0
"""Stands for the status of a response that ended after its head: Ray sends head and body separately."""


@dataclass
class Asked:
    """Callers that never stop asking, and what they were answered."""

    statuses: list[int] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def failed(self) -> list[int]:
        return [status for status in self.statuses if status != 200]


@contextmanager
def callers(url: str, ref: str, *, count: int = 3) -> Iterator[Asked]:
    asked = Asked()

    def call() -> None:
        with httpx2.Client(base_url=url, timeout=60) as http:
            while not asked.stop.is_set():
                try:
                    status = http.post(f"/classify/{ref}", json={"inputs": "a film"}).status_code
                except httpx2.RemoteProtocolError:
                    status = BROKEN_OFF
                asked.statuses.append(status)

    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(call) for _ in range(count)]
        try:
            yield asked
        finally:
            asked.stop.set()
        for future in futures:
            future.result()


@pytest.mark.timeout(600)
def test_replicas_on_ray_serve_share_a_registry_and_are_replaced_without_losing_a_request(
    address: str, redis_server: RedisServer, tiny: Backbone, tiny_t5: Path, cache_dir: Path
) -> None:
    port = free_port()
    backbone = (f"backbone={tiny_t5}", f"cache_dir={cache_dir}", "bundled=false", "require_keys=false")
    settings = [word for pair in backbone for word in ("--set", pair)]
    serve = ("ray", "serve", "--address", address, "--registry", redis_server.place(), *settings)
    scale = ("--cpus", "1", "--min-replicas", "2", "--max-replicas", "2", "--port", str(port))
    exposed = superpos(*serve, *scale, "--host", "0.0.0.0")
    assert (exposed.code, exposed.stdout) == (1, "")
    assert "without keys proxies may listen on loopback only" in exposed.stderr
    deployed = superpos(*serve, *scale)
    assert (deployed.code, deployed.stdout) == (0, f"serving on port {port} of every node that has a replica\n")
    url = f"http://127.0.0.1:{port}"
    with Client(url, timeout=60) as client:
        assert client.tasks.publish("sentiment", to_files(make_adapter(tiny))).version == 1
        with callers(url, "sentiment") as asked:
            eventually(lambda: len(asked.statuses) >= 60, within_s=60)  # by both replicas
            assert asked.failed() == []
            # other settings: each replica is replaced by a new one, and finishes its requests before
            before = {process.pid for process in worker_processes("ServeReplica")}
            assert len(before) == 2
            updated = superpos(*serve, *scale, "--set", "max_batch_tokens=512")
            assert updated.code == 0, updated.stderr
            eventually(lambda: not before & {each.pid for each in worker_processes("ServeReplica")}, within_s=60)
            assert asked.failed() == []
            # a killed one loses the requests that it had, and is replaced
            killed, *_ = worker_processes("ServeReplica")
            killed.kill()
            eventually(
                lambda: len({each.pid for each in worker_processes("ServeReplica")} - {killed.pid}) == 2, within_s=60
            )
            assert len(asked.failed()) <= 3
            assert set(asked.failed()) <= {500, 503, BROKEN_OFF}
        answer = httpx2.post(
            f"{url}/classify/sentiment", json={"inputs": "x"}, headers={"X-Request-ID": "one"}, timeout=60
        )
        assert answer.headers.get_list("X-Request-ID") == ["one"]
        assert client.readiness().status == "ready"
