"""Several workers behind one port: the real command, its processes, and what holds when one of them dies."""

import itertools
import os
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import psutil
import pytest
from support.adapters import make_adapter
from support.backbone import make_t5
from support.cli import superpos, superpos_process
from support.server_process import server_process
from support.tenancy import ADMIN_KEY
from support.workers import WorkersServer, admitted_of_ten, eventually, samples, serving, total

from adapters.files import bundled_adapters, to_files
from adapters.registry.opening import open_registry
from backbone import Backbone
from service.releases.bundled import publish_bundled
from service.server.sockets import hold, listen, share

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="several workers need Linux")

TEXT = "a gripping film that is positive and never negative"
ENDED = ("superpos_requests_answered_total", "superpos_requests_cancelled_total", "superpos_requests_lost_total")


@pytest.fixture(scope="module")
def running(tiny_t5: Path, tiny: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkersServer]:
    registry = tmp_path_factory.mktemp("workers") / "registry.sqlite"
    open_registry(registry).publish("default", "sentiment", to_files(make_adapter(tiny)), actor="test")
    with serving(tiny_t5, registry) as server:
        yield server


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[WorkersServer, Path]]:
    """A server that gives a hanging worker up after some seconds, and the folder of its backbone."""
    code = "from cli.main import main; from service.server import workers; workers._HUNG_S = 10.0; main()"
    folder = tmp_path_factory.mktemp("impatient")
    backbone = make_t5(folder / "t5", gated=True)
    with server_process(
        backbone,
        folder / "registry.sqlite",
        *("--workers", "2"),
        program=(sys.executable, "-c", code),
        TMPDIR=str(folder),
    ) as started:
        yield WorkersServer(started.process, started.lines), backbone


def upload(client: httpx2.Client, task: str, backbone: Backbone, *, seed: int) -> int:
    parts = [("files", (name, data)) for name, data in to_files(make_adapter(backbone, seed=seed)).items()]
    response = client.post(f"/tasks/{task}/versions", files=parts)
    assert response.status_code == 201, response.text
    return int(response.json()["version"])


def version_of(client: httpx2.Client, task: str) -> int | None:
    answer = client.post(f"/classify/{task}", json={"inputs": TEXT})
    assert answer.status_code in {200, 404}, answer.text
    return answer.json().get("version")


def assert_reconciled(scraped: dict[str, float]) -> None:
    received, ended = total(scraped, "superpos_requests_received_total"), sum(total(scraped, name) for name in ENDED)
    assert received == ended + scraped["superpos_requests_in_flight"]
    assert scraped["superpos_requests_in_flight"] >= 1  # the scrape


def test_each_worker_answers_and_says_how_many_there_are(running: WorkersServer) -> None:
    with running.client_of_each() as clients:
        assert len(clients) == 2
        # each runs its self-test and its probes by itself
        eventually(lambda: all(client.get("/healthz/ready").is_success for client in clients.values()))
        answers = [client.get("/healthz/ready") for client in clients.values()]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [answer.json()["workers"] for answer in answers] == [2, 2]


def test_a_version_uploaded_to_one_worker_is_answered_by_the_other_a_poll_later(
    running: WorkersServer, tiny: Backbone
) -> None:
    with running.client_of_each() as clients:
        one, other = clients.values()
        for seed, (here, there) in enumerate([(one, other), (other, one)]):
            version = upload(here, "fresh", tiny, seed=100 + seed)
            assert version_of(here, "fresh") == version
            eventually(lambda there=there, version=version: version_of(there, "fresh") == version)  # type: ignore[misc]


def test_a_scrape_of_any_worker_gives_the_sum_over_all_and_adds_up_under_load(running: WorkersServer) -> None:
    before = running.samples()
    name = 'superpos_requests_answered_total{route="/classify/{ref}",status="200"}'
    stop = threading.Event()

    def ask(client: httpx2.Client) -> int:
        for asked in itertools.count():
            if stop.is_set():
                return asked
            client.post("/classify/sentiment", json={"inputs": [TEXT, "flat"]}).raise_for_status()
        raise AssertionError

    with running.client_of_each() as clients, running.client_of_each() as scrapers, ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask, client) for client in clients.values()]
        try:
            for _ in range(15):
                for scraper in scrapers.values():
                    assert_reconciled(samples(scraper))
        finally:
            stop.set()
        asked = [future.result(60) for future in asking]
        assert min(asked) > 0
        for scraper in scrapers.values():
            # a caller has its answer a moment before it is counted
            eventually(lambda scraper=scraper: samples(scraper)["superpos_requests_in_flight"] == 1)  # type: ignore[misc]
            scraped = samples(scraper)
            assert scraped[name] - before.get(name, 0) == sum(asked)
            assert scraped["superpos_rows_total"] - before["superpos_rows_total"] == 2 * sum(asked)
            assert scraped["superpos_batch_rows_sum"] - before["superpos_batch_rows_sum"] == 2 * sum(asked)
            assert scraped["superpos_requests_in_flight"] == 1
            assert scraped["superpos_workers"] == 2
            assert scraped["superpos_engine_alive"] == 1  # the least over the workers
            assert scraped["superpos_tasks"] == before["superpos_tasks"]  # the most, not the sum
        eventually(lambda: running.samples()["superpos_queue_rows"] == 0)


def test_a_killed_worker_fails_only_what_was_on_it_and_is_replaced(running: WorkersServer) -> None:
    first = running.workers()
    doomed = min(first)
    stop = threading.Event()

    def ask(client: httpx2.Client) -> Counter[str]:
        seen: Counter[str] = Counter()
        while not stop.is_set():
            try:
                answer = client.post("/classify/sentiment", json={"inputs": [TEXT] * 32})
                seen[str(answer.status_code)] += 1
            except httpx2.TransportError:
                seen["broken"] += 1
        return seen

    lost_before = running.samples()["superpos_requests_lost_total"]
    with running.client_of_each() as clients, running.client_of_each() as scrapers, ThreadPoolExecutor(2) as pool:
        survivor = scrapers[max(first)]
        asking = {pid: pool.submit(ask, client) for pid, client in clients.items()}
        eventually(lambda: samples(survivor)["superpos_requests_in_flight"] >= 2)
        os.kill(doomed, signal.SIGKILL)
        try:
            eventually(lambda: samples(survivor)["superpos_workers"] == 1)
            assert_reconciled(samples(survivor))
            assert running.process.poll() is None
            eventually(lambda: samples(survivor)["superpos_workers"] == 2 and len(running.workers()) == 2)
        finally:
            stop.set()
        seen = {pid: future.result(60) for pid, future in asking.items()}
    assert doomed not in running.workers()
    for pid, counts in seen.items():
        assert set(counts) <= ({"200", "broken"} if pid == doomed else {"200"})
        assert counts["200"] > 0
    eventually(lambda: running.samples()["superpos_requests_in_flight"] == 1)
    scraped = running.samples()
    assert_reconciled(scraped)
    assert scraped["superpos_requests_lost_total"] - lost_before <= seen[doomed]["broken"]
    with running.client_of_each() as clients:
        assert all(version_of(client, "sentiment") == 1 for client in clients.values())
    assert any('"worker_died"' in line and str(doomed) in line for line in running.lines)


def test_a_worker_that_hangs_is_killed_and_replaced(impatient: tuple[WorkersServer, Path]) -> None:
    server, _ = impatient
    hung = min(server.workers())
    os.kill(hung, signal.SIGSTOP)
    eventually(lambda: any('"worker_died"' in line and str(hung) in line for line in list(server.lines)))
    eventually(lambda: len(server.workers()) == 2)
    assert hung not in server.workers()


def test_others_answer_while_a_replacement_cannot_start_and_end_when_their_parent_is_gone(
    impatient: tuple[WorkersServer, Path],
) -> None:
    """The last of the tests with this server, which it ends."""
    server, backbone = impatient
    first = server.workers()
    (backbone / "config.json").rename(backbone / "away.json")
    os.kill(min(first), signal.SIGKILL)
    eventually(lambda: any('"worker_died"' in line and "cannot load" in line for line in list(server.lines)))
    with httpx2.Client(base_url=server.url, timeout=60) as client:
        assert client.get("/healthz/ready").status_code == 200
    (backbone / "away.json").rename(backbone / "config.json")
    eventually(lambda: len(server.workers()) == 2)
    assert max(first) in server.workers()
    workers = [psutil.Process(pid) for pid in server.workers()]
    server.process.kill()
    _, left = psutil.wait_procs(workers, timeout=60)
    assert left == []


def test_sigterm_answers_what_each_worker_accepted_and_exits_with_0(
    tiny: Backbone, tiny_t5: Path, tmp_path: Path
) -> None:
    registry = tmp_path / "registry.sqlite"
    open_registry(registry).publish("default", "sentiment", to_files(make_adapter(tiny)), actor="test")
    go_on = threading.Event()

    def slow_body() -> Iterator[bytes]:
        yield b'{"inputs": '
        assert go_on.wait(60)
        yield b'["flat"]}'

    def ask(client: httpx2.Client) -> int:
        headers = {"Content-Type": "application/json"}
        return client.post("/classify/sentiment", content=slow_body(), headers=headers).status_code

    with serving(tiny_t5, registry) as server:
        with server.client_of_each() as clients, ThreadPoolExecutor(2) as pool:
            answers = [pool.submit(ask, client) for client in clients.values()]
            eventually(lambda: server.samples()["superpos_requests_in_flight"] == 3)
            server.process.send_signal(signal.SIGTERM)
            eventually(lambda: server.workers() == set())
            go_on.set()
            assert [answer.result(60) for answer in answers] == [200, 200]
        assert server.process.wait(60) == 0
    assert not any("Traceback" in line for line in server.lines)


def test_a_worker_that_cannot_start_ends_the_server_with_one_line(tmp_path: Path) -> None:
    words = ["serve", "--workers", "2", "--port", "0", "--backbone", tmp_path / "none"]
    answer = superpos_process(*words, SUPERPOS_REGISTRY=str(tmp_path / "registry.sqlite"))
    assert answer.refusal().startswith(f"cannot load '{tmp_path / 'none'}'")
    assert answer.stderr.count("\n") == 1


def test_a_worker_that_is_killed_at_its_start_ends_the_server(tiny_t5: Path, tmp_path: Path) -> None:
    with serving(tiny_t5, tmp_path / "registry.sqlite", wait=False) as server:
        parent = psutil.Process(server.process.pid)

        def starting() -> list[psutil.Process]:
            return [child for child in parent.children() if "spawn_main" in " ".join(child.cmdline())]

        eventually(lambda: len(starting()) == 2)
        starting()[0].kill()
        assert server.process.wait(60) == 1
    assert "superpos: a worker ended at its start with status -9" in "".join(server.lines)
    assert not any('"serving"' in line for line in server.lines)


def test_workers_that_start_together_publish_the_bundled_adapters_once(tmp_path: Path, embedded: Backbone) -> None:
    together = threading.Barrier(4)

    def start(_: int) -> None:
        registry = open_registry(tmp_path / "registry.sqlite")
        together.wait(60)
        publish_bundled(registry, embedded)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(start, range(4)))
    changes = open_registry(tmp_path / "registry.sqlite").changes()
    expected = {(task, kind) for task in bundled_adapters() for kind in ("published", "alias_set")}
    assert Counter((change.task, change.kind) for change in changes) == dict.fromkeys(expected, 1)


def test_a_start_that_ended_between_two_bundled_adapters_is_completed_by_the_next(
    tmp_path: Path, embedded: Backbone
) -> None:
    """And a registry that anybody has used gets none."""
    registry, bundled = open_registry(tmp_path / "registry.sqlite"), bundled_adapters()
    first, second = list(bundled)[:2]
    registry.publish("default", first, bundled[first], actor="bundled")
    publish_bundled(registry, embedded)
    assert {info.task for info in registry.list("default")} == set(bundled)
    position = registry.changes()[-1].position
    publish_bundled(registry, embedded)
    assert registry.changes(position) == []
    registry.delete_alias("default", second, "production", actor="ann")
    registry.delete("default", second, 1, actor="ann")
    publish_bundled(registry, embedded)
    assert {info.task for info in registry.list("default")} == set(bundled) - {second}


def test_a_port_is_held_against_everybody_but_its_own_workers() -> None:
    with hold("127.0.0.1", 0) as holder:
        address = holder.getsockname()
        for take in (hold, listen):
            with pytest.raises(OSError, match="in use"):
                take(*address)
        with share(holder) as one, share(holder) as other:
            one.listen()
            other.listen()
            with socket.create_connection(address, timeout=10):
                pass
            for take in (hold, listen):
                with pytest.raises(OSError, match="in use"):
                    take(*address)


def test_a_port_in_use_and_a_number_of_workers_that_is_none_are_refused(tmp_path: Path) -> None:
    assert superpos("serve", "--workers", "0").refusal().startswith("setting workers is 0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = superpos_process(
            "serve", "--workers", 2, "--port", port, "--registry", tmp_path / "r.sqlite"
        ).refusal()
    assert message.startswith(f"cannot listen on 127.0.0.1:{port}: ")
    assert not (tmp_path / "r.sqlite").exists()


def test_a_limit_holds_for_all_workers_together(tiny_t5: Path, tmp_path: Path) -> None:
    """With SQLite the workers share a file of counts; those of a Redis share its counts, see `test_replicas.py`."""
    environment = {"SUPERPOS_ADMIN_KEY": ADMIN_KEY, "TMPDIR": str(tmp_path)}
    with serving(tiny_t5, tmp_path / "registry.sqlite", "--require-keys", **environment) as server:
        assert admitted_of_ten(server) == 10
