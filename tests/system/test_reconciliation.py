"""Chaos, then sums: what clients saw and what the metrics say are the same numbers, and nothing is left in flight."""

import gzip
import itertools
import json
import random
import socket
import subprocess
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from support.adapters import make_adapter
from support.http import http_request
from support.server import RunningServer
from support.server_process import server_process
from support.waiting import eventually
from support.workers import samples, total

from adapters.files import to_files
from adapters.registry.opening import open_registry
from backbone import Backbone
from service.api.problems import PROBLEM_TYPES
from service.telemetry.request_metrics import STATUSES

ENDED = ("superpos_requests_answered_total", "superpos_requests_cancelled_total", "superpos_requests_lost_total")
JSON = {"Content-Type": "application/json"}


class Chaos:
    """A client of one server: everything that a caller can do wrong, and some things that are right."""

    def __init__(self, url: str, uploads: list[dict[str, bytes]], *, seed: int) -> None:
        self.url, self._uploads = url, uploads
        self._random = random.Random(seed)
        self.statuses: Counter[str] = Counter()
        """Answers, by status."""
        self.predictions = 0
        self.left = 0
        """Whole requests whose answer this client did not wait for."""

    def run(self, steps: int) -> "Chaos":
        acts: list[Callable[[httpx2.Client], httpx2.Response | None]] = [
            self._classify,
            self._classify,
            self._many_rows,
            self._too_late,
            self._hang_up,
            self._missing,
            self._no_route,
            self._too_long,
            self._oversized,
            self._malformed,
            self._no_gzip,
            self._upload,
            self._bad_upload,
        ]
        with httpx2.Client(base_url=self.url, timeout=60) as client:
            for act in itertools.islice(itertools.cycle(self._random.sample(acts, len(acts))), steps):
                answer = act(client)
                if answer is not None:
                    self._count(answer)
        return self

    def _count(self, answer: httpx2.Response) -> None:
        self.statuses[str(answer.status_code)] += 1
        self.predictions += len(answer.json().get("predictions", []))

    def _classify(self, client: httpx2.Client) -> httpx2.Response:
        return client.post("/classify/sentiment", json={"inputs": ["a gripping film", "flat"]})

    def _many_rows(self, client: httpx2.Client) -> httpx2.Response:
        return client.post("/classify/sentiment", json={"inputs": ["a film that rains"] * self._random.randint(10, 40)})

    def _too_late(self, client: httpx2.Client) -> httpx2.Response:
        return client.post("/classify/sentiment", json={"inputs": ["a film"] * 30, "timeout_ms": 1})

    def _hang_up(self, _: httpx2.Client) -> None:
        parts = urlsplit(self.url)
        body = json.dumps({"inputs": ["a film"] * 30}).encode()
        with socket.create_connection((parts.hostname, parts.port), timeout=60) as connection:
            connection.sendall(http_request(body))
        self.left += 1

    def _missing(self, client: httpx2.Client) -> httpx2.Response:
        return client.post("/classify/no-such-task", json={"inputs": "x"})

    def _no_route(self, client: httpx2.Client) -> httpx2.Response:
        return client.get("/no/such/route")

    def _too_long(self, client: httpx2.Client) -> httpx2.Response:
        return client.post("/classify/sentiment", json={"inputs": "rains " * 500})

    def _oversized(self, client: httpx2.Client) -> httpx2.Response:
        return client.post("/classify/sentiment", content=b" " * 70_000, headers=JSON)

    def _malformed(self, client: httpx2.Client) -> httpx2.Response:
        return client.post("/classify/sentiment", content=b'{"inputs": [', headers=JSON)

    def _no_gzip(self, client: httpx2.Client) -> httpx2.Response:
        body = self._random.choice([b"junk", gzip.compress(b'{"inputs": "x"}')[:-6]])
        return client.post("/classify/sentiment", content=body, headers={**JSON, "Content-Encoding": "gzip"})

    def _upload(self, client: httpx2.Client) -> httpx2.Response:
        files = [("files", (name, data)) for name, data in self._random.choice(self._uploads).items()]
        return client.post("/tasks/fresh/versions", files=files)

    def _bad_upload(self, client: httpx2.Client) -> httpx2.Response:
        return client.post("/tasks/fresh/versions", files=[("files", ("superpos.json", b"{}"))])


def check_sums(client: httpx2.Client, before: dict[str, float], clients: list[Chaos]) -> None:
    """Compare a scrape with what the clients counted."""
    eventually(lambda: samples(client)["superpos_requests_in_flight"] == 1, within_s=60)
    after = samples(client)
    grew = {name: value - before.get(name, 0) for name, value in after.items()}
    seen: Counter[str] = Counter()
    for each in clients:
        seen += each.statuses
    left = sum(each.left for each in clients)

    received = total(after, "superpos_requests_received_total")
    assert received == sum(total(after, name) for name in ENDED) + 1  # this scrape
    routes = 'route="other"', 'route="/classify/{ref}"', 'route="/tasks/{task}/versions"'
    answered = {
        name: value
        for name, value in grew.items()
        if name.startswith("superpos_requests_answered_total") and any(route in name for route in routes)
    }
    by_status: Counter[str] = Counter()
    for name, value in answered.items():
        by_status[name.rpartition('status="')[2].removesuffix('"}')] += int(value)
    cancelled = total(grew, "superpos_requests_cancelled_total")
    # who hung up was answered into the void, refused or cancelled: each in one way
    assert sum(by_status.values()) + cancelled == sum(seen.values()) + left
    assert 0 <= sum((by_status - seen).values()) == left - cancelled
    assert seen - by_status == Counter()
    assert by_status["500"] == 0
    of_tenants = total(grew, "superpos_tenant_requests_total")
    assert of_tenants == sum(v for name, v in answered.items() if 'route="other"' not in name) + cancelled

    unread = grew["superpos_rows_total"] - sum(each.predictions for each in clients)
    assert unread >= 0
    assert unread % 30 == 0  # whole requests whose caller had left as they were answered
    assert unread / 30 <= left - cancelled
    assert grew["superpos_rows_total"] == grew['superpos_tenant_rows_total{tenant="default"}']
    refused = sum(v for n, v in grew.items() if n.startswith("superpos_admission_refusals_total"))
    assert refused == by_status["429"] > 0
    for gauge in ("superpos_queue_rows", "superpos_queue_tokens"):
        assert after[gauge] == 0
    assert {"200", "201", "400", "404", "413", "422", "429", "504"} <= set(seen), seen


@pytest.fixture(scope="module")
def uploads(tiny: Backbone) -> list[dict[str, bytes]]:
    return [to_files(make_adapter(tiny, seed=900 + seed)) for seed in range(3)]


def test_after_chaos_every_request_is_accounted_for_once(
    serve: Callable[..., RunningServer], tiny: Backbone, uploads: list[dict[str, bytes]]
) -> None:
    server = serve(max_queue_rows=64, max_body_bytes=65_536)
    server.upload("sentiment", make_adapter(tiny))
    before = samples(server.client)
    with ThreadPoolExecutor(8) as pool:
        clients = list(pool.map(lambda seed: Chaos(server.url, uploads, seed=seed).run(52), range(8)))
    check_sums(server.client, before, clients)


def test_after_chaos_two_workers_add_up_to_the_same(
    tiny: Backbone, tiny_t5: Path, tmp_path: Path, uploads: list[dict[str, bytes]]
) -> None:
    registry = tmp_path / "registry.sqlite"
    open_registry(registry).publish("default", "sentiment", to_files(make_adapter(tiny)), actor="test")
    limits = {"SUPERPOS_MAX_QUEUE_ROWS": "64", "SUPERPOS_MAX_BODY_BYTES": "65536"}
    with (
        server_process(tiny_t5, registry, "--workers", "2", TMPDIR=str(tmp_path), **limits) as server,
        httpx2.Client(base_url=server.url, timeout=60) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        before = samples(client)
        clients = list(pool.map(lambda seed: Chaos(server.url, uploads, seed=seed).run(26), range(8)))
        eventually(lambda: samples(client)["superpos_queue_rows"] == 0)
        check_sums(client, before, clients)


def test_metrics_are_what_their_formats_say(serve: Callable[..., RunningServer], tiny: Backbone) -> None:
    server = serve()
    server.upload("sentiment", make_adapter(tiny))
    server.classify("sentiment", "a film")
    plain = server.client.get("/metrics")
    open_ = server.client.get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"})
    assert plain.headers["Content-Type"].startswith("text/plain; version=")
    assert open_.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert open_.text.endswith("# EOF\n")
    families = {family.name for family in parse(plain.text)}
    assert families >= {family.name for family in parse_openmetrics(open_.text)}
    assert all(name.startswith("superpos_") for name in families)
    strange = server.client.get(
        "/metrics", headers={"Accept": 'application/openmetrics-text;version="x", text/plain;q=z'}
    )
    assert strange.status_code == 200


def test_promtool_finds_nothing_to_say(serve: Callable[..., RunningServer], promtool: Path, tiny: Backbone) -> None:
    server = serve()
    server.upload("sentiment", make_adapter(tiny))
    server.classify("sentiment", "a film")
    text = server.client.get("/metrics").text
    said = subprocess.run([promtool, "check", "metrics"], input=text, text=True, capture_output=True, check=False)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


def test_every_status_that_an_error_means_has_its_series() -> None:
    assert {str(kind.status) for kind in PROBLEM_TYPES.values()} - {"499"} <= set(STATUSES)
