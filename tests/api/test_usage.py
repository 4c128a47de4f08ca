"""`/usage`: what clients did is what is counted, over replicas and restarts, each tenant's apart."""

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from support.adapters import make_adapter
from support.http import check_problem
from support.redis import RedisServer
from support.server import RunningServer
from support.tenancy import ADMIN_KEY, Keyring, bearer
from support.waiting import eventually

from backbone import Backbone


def used(server: RunningServer, **query: str) -> dict[str | None, tuple[int, int, int]]:
    """Requests, rows and errors by task."""
    body = server.client.get("/usage", params=query).raise_for_status().json()
    assert {row["day"] for row in body["usage"]} <= {datetime.now(UTC).date().isoformat()}
    for name in ("requests", "rows", "tokens", "errors"):
        assert body["total"][name] == sum(row[name] for row in body["usage"])
    return {row["task"]: (row["requests"], row["rows"], row["errors"]) for row in body["usage"]}


@pytest.mark.slow
def test_two_replicas_and_a_third_after_them_tell_what_clients_did(
    serve: Callable[..., RunningServer], tiny: Backbone, redis_server: RedisServer
) -> None:
    place = redis_server.place()
    one, two = serve(registry=place), serve(registry=place)
    one.upload("sentiment", make_adapter(tiny))
    two.upload("mood", make_adapter(tiny, seed=1))
    for _ in range(3):
        assert one.classify("sentiment", ["a film", "flat"]).is_success
        assert two.classify("sentiment@1", "a film").is_success
    assert two.classify("mood", "good").is_success
    assert one.classify("sentiment", {"nosuch": "field"}).status_code == 422
    for name in ("invented", "invented-2"):
        assert two.classify(name, "a").status_code == 404
    for server in (one, two):
        server.client.get("/healthz/live").raise_for_status()
    assert one.client.get("/usage").is_success  # flushes its counts
    assert two.client.get("/usage").is_success
    third = serve(registry=place)
    readings: list[dict[str | None, tuple[int, int, int]]] = []

    def is_told() -> bool:
        """Two uploads, two refusals, two readings; a reading counts once it is answered, and so do those made here."""
        readings.append(used(third))
        requests, rows, errors = readings[-1][None]
        return 6 <= requests <= 6 + len(readings) - 1 and (rows, errors) == (0, 2)

    eventually(is_told)
    found = readings[-1]
    assert found["sentiment"] == (7, 9, 1)
    assert found["mood"] == (1, 1, 0)
    assert set(found) == {"sentiment", "mood", None}
    assert used(third, task="mood") == {"mood": (1, 1, 0)}
    total = third.client.get("/usage", params={"task": "mood"}).json()["total"]
    assert total["tokens"] == 10 + third.classify("mood", "good").json()["predictions"][0]["tokens"]


def test_usage_is_lines_where_the_caller_accepts_csv(server: RunningServer) -> None:
    server.classify("sentiment", "a film").raise_for_status()
    response = server.client.get("/usage", headers={"Accept": "text/csv"}).raise_for_status()
    assert response.headers["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert {row["task"]: row["requests"] for row in rows} == {"": "2", "sentiment": "1"}


def test_usage_of_other_days_is_not_told(server: RunningServer) -> None:
    server.classify("sentiment", "a film").raise_for_status()
    assert used(server, **{"from": "2020-01-01", "to": "2020-12-31"}) == {}
    check_problem(server.client.get("/usage?from=2020-01-02&to=2020-01-01"), 422, "invalid_request", "2020-01-02")
    for day in ("never", "0", "20260101"):
        check_problem(server.client.get(f"/usage?from={day}"), 422, "invalid_request")
    assert server.client.get("/usage?to=0001-01-01").is_success


@pytest.mark.parametrize("role", ["classify", "publish"])
@pytest.mark.slow
def test_a_tenant_sees_its_own_usage_and_only_an_administrator_anothers(
    serve: Callable[..., RunningServer], tiny: Backbone, role: str
) -> None:
    server = serve(require_keys=True, admin_key=ADMIN_KEY)
    keyring = Keyring(server)
    for tenant in ("acme", "zeta"):
        keyring.tenant(tenant)
    ours = bearer(keyring.key("acme", role))
    server.client.post("/classify/nothing", json={"inputs": "a"}, headers=ours)
    own = server.client.get("/usage", headers=ours).raise_for_status().json()
    assert (own["tenant"], own["total"]["errors"]) == ("acme", 1)
    assert server.client.get("/usage?tenant=acme", headers=ours).is_success
    check_problem(server.client.get("/usage?tenant=zeta", headers=ours), 403, "forbidden")
    admin = bearer(ADMIN_KEY)
    assert server.client.get("/usage?tenant=zeta", headers=admin).raise_for_status().json()["usage"] == []
    assert server.client.get("/usage?tenant=acme", headers=admin).json()["total"]["errors"] == 2
    check_problem(server.client.get("/usage?tenant=NO", headers=admin), 400, "invalid_name")
    check_problem(server.client.get("/usage"), 401, "unauthenticated")
