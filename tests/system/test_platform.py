"""The platform as processes: two servers on one Redis behind the gateway, seen by Prometheus, while parts of it die."""

import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from support.platform import dashboard_expressions, rule_expressions, upload
from support.waiting import eventually

from backbone import Backbone
from deploy.platform import free_ports
from deploy.stack import Ports, Stack, make_stack
from verification.platform_callers import callers, client_of, digest_at

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the programs are Debian's")


@pytest.fixture(scope="module")
def stack(  # noqa: PLR0917, as pytest passes fixtures
    caddy: Path,
    prometheus: Path,
    tiny: Backbone,
    tiny_t5: Path,
    cache_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("platform")
    gateway, metrics, prometheus_port, redis, *servers = free_ports(6)
    settings = {"SUPERPOS_BACKBONE": str(tiny_t5), "SUPERPOS_CACHE_DIR": str(cache_dir), "SUPERPOS_THREADS": "1"}
    with (folder / "log").open("w", encoding="utf-8") as log:
        made = make_stack(
            folder,
            Ports(gateway, metrics, prometheus_port, redis, tuple(servers)),
            sink=lambda name, line: print(f"{name} | {line}", file=log, flush=True),
            settings=settings,
        )
        made.start()
        try:
            with client_of(made.url, made.admin_key) as client:
                assert upload(client, "sentiment", tiny, seed=0).status_code == 201
            eventually(lambda: None not in [digest_at(made, server, "sentiment") for server in (0, 1)])
            yield made
        finally:
            made.stop()


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx2.Client]:
    with client_of(stack.url, stack.admin_key) as client:
        yield client


def rows_at(stack: Stack, server: int) -> float:
    text = httpx2.get(f"{stack.server_urls[server]}/metrics", timeout=30).text
    return float(re.search(r"^superpos_rows_total (\S+)$", text, flags=re.MULTILINE)[1])  # type: ignore[index]


def query(stack: Stack, expression: str) -> dict[str, float]:
    answer = httpx2.get(f"{stack.prometheus_url}/api/v1/query", params={"query": expression}, timeout=30).json()
    return {sample["metric"].get("instance", ""): float(sample["value"][1]) for sample in answer["data"]["result"]}


def test_an_upload_through_the_gateway_is_answered_by_both_servers(
    stack: Stack, client: httpx2.Client, tiny: Backbone
) -> None:
    published = upload(client, "fresh", tiny, seed=1)
    assert published.status_code == 201
    digest = published.json()["adapter"]
    eventually(lambda: [digest_at(stack, server, "fresh") for server in (0, 1)] == [digest, digest])


def test_the_gateway_asks_both_servers_and_shows_nothing_of_their_inside(stack: Stack, client: httpx2.Client) -> None:
    before = [rows_at(stack, server) for server in (0, 1)]
    for _ in range(40):
        assert client.post("/classify/sentiment", json={"inputs": "flat"}).status_code == 200
    asked = [rows_at(stack, server) - before[server] for server in (0, 1)]
    assert sum(asked) == 40
    assert min(asked) > 0
    for path in (
        "/metrics",
        "/metrics/",
        "/healthz/ready",
        "/healthz/live",
        "/Healthz/live",
        "//metrics",
        "/x/../metrics",
    ):
        refused = client.get("/", extensions={"target": path.encode()})  # as it stands: a URL would be normalised
        assert refused.status_code in {404, 400}, path
        assert "superpos_" not in refused.text
        assert refused.headers["Content-Type"] == "application/problem+json"
    body = {"content": bytes(12 << 20), "headers": {"Content-Type": "application/json"}}
    too_large = client.post("/classify/sentiment", **body)
    assert too_large.status_code == 413
    assert client.get("/tasks").status_code == 200
    assert httpx2.get(f"{stack.url}/tasks", timeout=30).status_code == 401


def test_redis_killed_and_started_again_under_load_fails_no_classify(
    stack: Stack, client: httpx2.Client, tiny: Backbone
) -> None:
    with callers(stack, "sentiment") as asking:
        asking.wait_for(20)
        stack.redis.kill()
        eventually(lambda: upload(client, "later", tiny, seed=2).status_code == 503)
        refused = upload(client, "later", tiny, seed=2)
        assert refused.status_code == 503
        assert "Retry-After" in refused.headers
        asking.wait_for(50)
        stack.redis.start()
        stack.redis.wait_ready()
        eventually(lambda: upload(client, "later", tiny, seed=2).status_code in {200, 201})
        eventually(lambda: None not in [digest_at(stack, server, "later") for server in (0, 1)])
    assert asking.refusals == []


def test_a_killed_server_fails_only_what_was_on_it_and_is_taken_back(stack: Stack) -> None:
    doomed = stack.servers[0]
    with callers(stack, "sentiment", count=4) as asking:
        asking.wait_for(20)
        doomed.kill()
        asking.wait_for(100)
        failed = len(asking.refusals)
        doomed.start()
        doomed.wait_ready()
        eventually(lambda: rows_at(stack, 0) > 50)
    assert failed <= 4
    assert len(asking.refusals) == failed


def test_a_server_told_to_stop_under_load_loses_nothing(stack: Stack) -> None:
    leaving = stack.servers[1]
    with callers(stack, "sentiment", count=4) as asking:
        asking.wait_for(20)
        leaving.send(signal.SIGTERM)
        assert leaving.wait() == 0
        asking.wait_for(50)
        leaving.start()
        leaving.wait_ready()
        eventually(lambda: rows_at(stack, 1) > 50)
    assert asking.refusals == []


def test_prometheus_sees_both_servers_and_the_gateway(stack: Stack) -> None:
    servers = {url.removeprefix("http://") for url in stack.server_urls}
    eventually(lambda: query(stack, 'up{job="superpos"}') == dict.fromkeys(servers, 1.0))
    eventually(lambda: set(query(stack, "superpos_rows_total > 0")) == servers)
    assert query(stack, 'up{job="gateway"}') == {f"127.0.0.1:{stack.ports.gateway_metrics}": 1.0}


def test_the_log_has_a_line_of_each_request_and_none_of_those_who_watch(stack: Stack) -> None:
    log = (stack.folder / "log").read_text(encoding="utf-8")
    assert '"route": "/classify/{ref}"' in log
    watched = [line for line in log.splitlines() if '"route": "/healthz' in line or '"route": "/metrics"' in line]
    assert [line for line in watched if '"status": 200' in line] == []


def test_every_query_of_the_dashboard_and_the_rules_names_metrics_that_are_there(stack: Stack) -> None:
    places = [*stack.server_urls, f"http://127.0.0.1:{stack.ports.gateway_metrics}"]
    scraped = "\n".join(httpx2.get(f"{place}/metrics", timeout=30).text for place in places)
    existing = set(re.findall(r"^(\w+)[{ ]", scraped, flags=re.MULTILINE))
    expressions = dashboard_expressions() + rule_expressions()
    assert len(expressions) > 40
    for expression in expressions:
        named = set(re.findall(r"\b(?:superpos|caddy)_\w+", expression))
        assert named <= existing, expression
        answer = httpx2.get(f"{stack.prometheus_url}/api/v1/query", params={"query": expression}, timeout=30)
        assert answer.json()["status"] == "success", answer.text
