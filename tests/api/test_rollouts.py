"""Traffic, rollback and promotion over real HTTP: at two servers of one registry, and while callers go on asking."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.adapters import make_adapter
from support.http import check_problem
from support.load import held_model_thread, load
from support.server import RunningServer
from support.waiting import eventually

from adapters import PromptAdapter
from adapters.exams import ROWS_SHA256
from backbone import Backbone
from service.catalog.routing import position

Serve = Callable[..., RunningServer]
TEXTS = [f"a gripping film number {number}" for number in range(5)]


def scored(backbone: Backbone, seed: int, **figures: float) -> PromptAdapter:
    adapter = make_adapter(backbone, seed=seed)
    provenance = adapter.manifest.provenance.model_copy(
        update={"metrics": figures, "data": {ROWS_SHA256: "of one file"}}
    )
    return PromptAdapter(adapter.prompt, adapter.manifest.model_copy(update={"provenance": provenance}))


def with_versions(server: RunningServer, backbone: Backbone) -> RunningServer:
    """Publish a task of three versions, 2 in production."""
    for seed, accuracy in enumerate((0.8, 0.9, 0.7)):
        adapter = scored(backbone, seed, report_accuracy=accuracy)
        server.upload("sentiment", adapter, **({"alias": ""} if seed == 2 else {}))
    return server


@pytest.fixture
def server(serve: Serve, tiny: Backbone) -> RunningServer:
    return with_versions(serve(), tiny)


@pytest.fixture(scope="module")
def unchanged_server(serve_module: Serve, tiny: Backbone) -> RunningServer:
    """One server for the tests that change nothing."""
    return with_versions(serve_module(), tiny)


def post(server: RunningServer, what: str, **body: object) -> dict[str, object]:
    response = server.client.post(f"/tasks/sentiment/{what}", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def version_by_key(server: RunningServer, key: str) -> int:
    return server.classify("sentiment", "x", sticky_key=key).raise_for_status().json()["version"]


@pytest.mark.slow
def test_two_servers_send_the_same_keys_to_the_canary(server: RunningServer, serve: Serve) -> None:
    other = serve()
    server.client.put("/tasks/sentiment/traffic", json={"canary": 3, "percent": 10}).raise_for_status()
    eventually(lambda: other.client.get("/tasks/sentiment/traffic").json()["canary"] == 3)
    keys = [f"user-{number}" for number in range(60)]
    expected = [3 if position("default", "sentiment", 3, key) < 0.1 else 2 for key in keys]
    assert 3 in expected
    assert [version_by_key(server, key) for key in keys] == expected
    assert [version_by_key(other, key) for key in keys] == expected
    server.client.put("/tasks/sentiment/traffic", json={"canary": 3, "percent": 100}).raise_for_status()
    assert version_by_key(server, keys[0]) == server.classify("sentiment", "x").json()["version"] == 3
    assert server.classify("sentiment@2", "x", sticky_key=keys[0]).json()["version"] == 2


@pytest.mark.slow
def test_traffic_is_shown_where_the_task_is_and_ends_with_a_delete(server: RunningServer) -> None:
    nothing = {"canary": None, "percent": 0, "shadow": None}
    assert server.client.get("/tasks/sentiment/traffic").json() == nothing
    wanted = {"canary": 3, "percent": 12.5, "shadow": 1}
    assert server.client.put("/tasks/sentiment/traffic", json=wanted).json() == wanted
    assert server.client.get("/tasks/sentiment/traffic").json() == wanted
    assert server.client.get("/tasks/sentiment").json()["traffic"] == wanted
    assert server.client.get("/tasks").json()["tasks"][0]["traffic"] == wanted
    check_problem(server.client.delete("/tasks/sentiment/versions/3"), 409, "conflict", "the traffic of sentiment")
    assert server.client.delete("/tasks/sentiment/traffic").status_code == 204
    assert server.client.get("/tasks/sentiment/traffic").json() == nothing
    assert server.client.delete("/tasks/sentiment/versions/3").status_code == 204


@pytest.mark.parametrize(
    ("body", "status", "code", "mention"),
    [
        ({"canary": 9, "percent": 1}, 404, "not_found", "sentiment@9"),
        ({"percent": 5}, 422, "invalid_traffic", "percent is 5 without a canary version"),
        ({"canary": 2, "percent": 5}, 422, "invalid_traffic", "canary is version 2, which production is already"),
        ({"shadow": 2}, 422, "invalid_traffic", "shadow is version 2, which production is already"),
        ({"canary": 3, "percent": 101}, 422, "invalid_request", "body.percent"),
        ({"canary": 0, "percent": 1}, 422, "invalid_request", "body.canary"),
        ({"canary": 3, "share": 1}, 422, "invalid_request", "body.share"),
    ],
)
@pytest.mark.slow
def test_traffic_that_cannot_be_is_refused_by_name(
    unchanged_server: RunningServer, body: dict[str, object], status: int, code: str, mention: str
) -> None:
    client = unchanged_server.client
    check_problem(client.put("/tasks/sentiment/traffic", json=body), status, code, mention)
    check_problem(client.put("/tasks/nosuch/traffic", json={}), 404, "not_found", "nosuch")
    assert client.get("/tasks/sentiment/traffic").json() == {"canary": None, "percent": 0, "shadow": None}


@pytest.mark.parametrize("key", ["", "k" * 257, 5])
@pytest.mark.slow
def test_a_sticky_key_is_a_text_of_bounded_length(unchanged_server: RunningServer, key: object) -> None:
    refused = unchanged_server.classify("sentiment", "x", sticky_key=key)
    check_problem(refused, 422, "invalid_request", "body.sticky_key")


@pytest.mark.slow
def test_a_worse_version_is_refused_with_both_figures_and_promoted_by_force(server: RunningServer) -> None:
    server.client.put("/tasks/sentiment/traffic", json={"canary": 3, "percent": 20}).raise_for_status()
    refused = server.client.post("/tasks/sentiment/promote", json={"version": 3})
    check_problem(refused, 409, "promotion_refused", "report_accuracy: the version has 0.7, production 0.9")
    told = refused.json()
    assert (told["metric"], told["candidate"], told["current"]) == ("report_accuracy", 0.7, 0.9)
    assert server.client.get("/tasks/sentiment").json()["aliases"] == {"production": 2}
    moved = post(server, "promote", version=3, force=True)
    assert moved == {
        "task": "sentiment", "alias": "production", "previous": 2, "version": 3, "metric": None, "paired": None,
        "corrections": None,
    }  # fmt: skip
    assert server.client.get("/tasks/sentiment/traffic").json()["canary"] is None
    assert post(server, "promote", version=2)["metric"] == "report_accuracy"
    assert server.classify("sentiment", "x").json()["version"] == 2
    check_problem(server.client.post("/tasks/sentiment/promote", json={"version": 9}), 404, "not_found")


@pytest.mark.slow
def test_a_promotion_moves_production_only_from_where_it_is_expected(server: RunningServer) -> None:
    stale = {"version": 3, "force": True, "expected": 1}
    refused = server.client.post("/tasks/sentiment/promote", json=stale)
    check_problem(refused, 409, "conflict", "points at version 2, expected version 1")
    assert post(server, "promote", version=3, force=True, expected=2)["previous"] == 2
    assert post(server, "promote", version=3, force=True)["version"] == 3  # a repeat moves nothing


@pytest.mark.slow
def test_a_rollback_goes_one_step_and_refuses_where_there_is_none(server: RunningServer) -> None:
    moved = post(server, "rollback", expected=2)
    assert moved == {"task": "sentiment", "alias": "production", "previous": 2, "version": 1}
    stale = server.client.post("/tasks/sentiment/rollback", json={"expected": 2})
    check_problem(stale, 409, "conflict", "points at version 1, expected version 2")
    check_problem(server.client.post("/tasks/sentiment/rollback", json={}), 409, "conflict", "points at version 1")
    check_problem(server.client.post("/tasks/sentiment/rollback", json={"alias": "best"}), 404, "not_found")
    check_problem(server.client.post("/tasks/nosuch/rollback", json={}), 404, "not_found")


@pytest.mark.slow
def test_of_rollbacks_at_once_at_two_servers_one_moves_the_alias(
    server: RunningServer, serve: Serve, tiny: Backbone
) -> None:
    other = serve()
    server.upload("sentiment", make_adapter(tiny, seed=7))
    eventually(lambda: other.client.get("/tasks/sentiment").json()["aliases"]["production"] == 4)
    for at in (server, other):  # a first request builds the route; two threads cannot, since warnings are global
        assert at.client.post("/tasks/sentiment/rollback", json={"expected": 9}).status_code == 409
    with ThreadPoolExecutor(6) as pool:
        asked = [
            pool.submit(at.client.post, "/tasks/sentiment/rollback", json={"expected": 4}) for at in (server, other) * 3
        ]
        statuses = sorted(future.result(30).status_code for future in asked)
    assert statuses == [200, 409, 409, 409, 409, 409]
    assert server.registry.describe("default", "sentiment").aliases == {"production": 2}


@pytest.mark.slow
def test_a_rollback_under_load_fails_nobody_and_holds_once_it_is_answered(server: RunningServer, serve: Serve) -> None:
    other = serve()
    server.client.put("/tasks/sentiment/traffic", json={"canary": 3, "percent": 50}).raise_for_status()
    with load([server, other], "sentiment", TEXTS) as asked:
        asked.go_on(60)
        post(server, "rollback")
        rolled_back = time.monotonic()
        asked.go_on(60, until=lambda: other.classify("sentiment", "x").json()["version"] == 1)
        converged = time.monotonic()
        asked.go_on(30)
    assert {answer.status for answer in asked.answers} == {200}
    seen = {answer.body["version"] for answer in asked.answers if answer.ended < rolled_back}
    assert {2, 3} <= seen, "the load must have met both versions for this to say anything"
    later = [answer for answer in asked.answers if answer.server is server and answer.began > rolled_back]
    everywhere = [answer for answer in asked.answers if answer.began > converged]
    assert {answer.body["version"] for answer in later} == {1}
    assert {answer.body["version"] for answer in everywhere} == {1}


@pytest.mark.slow
def test_a_deleted_version_finishes_what_it_began_on_every_server(server: RunningServer, serve: Serve) -> None:
    other = serve()
    alone = {text: server.classify("sentiment@3", text).json()["predictions"][0]["logprobs"] for text in TEXTS}
    eventually(lambda: other.classify("sentiment@3", "x").status_code == 200)
    with load([server, other], "sentiment@3", TEXTS) as asked:
        asked.go_on(60)
        before = time.monotonic()
        assert server.client.delete("/tasks/sentiment/versions/3").status_code == 204
        deleted = time.monotonic()
        asked.go_on(60, until=lambda: other.classify("sentiment@3", "x").status_code == 404)
        converged = time.monotonic()
        asked.go_on(30)
    for answer in asked.answers:
        assert answer.status in {200, 404}, answer.body
        if answer.status == 200:
            assert answer.body["predictions"][0]["logprobs"] == pytest.approx(alone[answer.text], abs=1e-4)
        else:
            assert answer.ended > before
    begun = [answer for answer in asked.answers if answer.began > (deleted if answer.server is server else converged)]
    assert {answer.status for answer in begun} == {404}
    assert server.classify("sentiment", "x").status_code == 200


@pytest.mark.slow
def test_rows_that_wait_for_the_model_outlive_the_deletion_of_their_version(
    server: RunningServer, tiny: Backbone
) -> None:
    alone = server.classify("sentiment@3", TEXTS).json()
    with ThreadPoolExecutor(1) as pool:
        with held_model_thread(server, tiny):
            waiting = pool.submit(server.classify, "sentiment@3", TEXTS)
            eventually(lambda: server.client.get("/healthz/ready").json()["queued_rows"] == len(TEXTS))
            assert server.client.delete("/tasks/sentiment/versions/3").status_code == 204
            check_problem(server.classify("sentiment@3", "x"), 404, "not_found", "sentiment@3")
        assert waiting.result(30).json() == alone
