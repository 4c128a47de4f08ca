"""The native routes over real HTTP: what they answer when they are asked well."""

import json
import math
import re
from collections.abc import Callable

import pytest
from support.adapters import PAIR, SENTIMENT, TOPIC, make_adapter
from support.server import RunningServer

from adapters import Calibration, PromptAdapter
from adapters.files import from_files, to_files
from backbone import Backbone

Serve = Callable[..., RunningServer]


@pytest.fixture
def server(shared_server: RunningServer) -> RunningServer:
    """One server for all tests that change no task but those that they publish under names of their own."""
    return shared_server


def test_a_string_a_list_and_an_object_are_all_inputs(server: RunningServer) -> None:
    one = server.classify("sentiment", "a gripping film").json()["predictions"]
    listed = server.classify("sentiment", ["a gripping film"]).json()["predictions"]
    named = server.classify("sentiment", {"sentence": "a gripping film"}).json()["predictions"]
    assert len(one) == 1
    assert one == listed == named


def test_an_answer_names_its_version_and_sums_to_one(server: RunningServer, tiny: Backbone) -> None:
    adapter = make_adapter(tiny, TOPIC)
    server.upload("topic", adapter)
    body = server.classify("topic", ["the world of sports", "business news"]).json()
    assert (body["task"], body["version"], body["adapter"]) == ("topic", 1, adapter.digest)
    for prediction in body["predictions"]:
        scores, logprobs = prediction["scores"], prediction["logprobs"]
        assert set(scores) == set(TOPIC.label_names)
        assert sum(scores.values()) == pytest.approx(1, abs=1e-6)
        assert list(scores.values()) == sorted(scores.values(), reverse=True)
        assert prediction["label"] == next(iter(scores))
        assert prediction["score"] == scores[prediction["label"]]
        assert all(math.exp(logprobs[name]) == pytest.approx(scores[name], abs=1e-6) for name in scores)
        assert prediction["abstained"] is False
        assert prediction["truncated"] is False


def test_top_k_keeps_the_best_labels(server: RunningServer, tiny: Backbone) -> None:
    server.upload("topic", make_adapter(tiny, TOPIC))
    everything = server.classify("topic", "news").json()["predictions"][0]
    best = server.classify("topic", "news", top_k=2).json()["predictions"][0]
    assert list(best["scores"]) == list(everything["scores"])[:2]
    assert list(best["logprobs"]) == list(best["scores"])


def test_temperature_changes_scores_but_never_logprobs(server: RunningServer, tiny: Backbone) -> None:
    plain = make_adapter(tiny)
    calibration = Calibration(temperature=4.0, abstain_threshold=0.999)
    cooled = PromptAdapter(plain.prompt, plain.manifest.model_copy(update={"calibration": calibration}))
    server.upload("plain", plain)
    server.upload("cooled", cooled)
    first = server.classify("plain", "a gripping film").json()["predictions"][0]
    second = server.classify("cooled", "a gripping film").json()["predictions"][0]
    assert first["logprobs"] == pytest.approx(second["logprobs"], abs=1e-5)
    weights = {name: math.exp(value / 4.0) for name, value in first["logprobs"].items()}
    total = sum(weights.values())
    assert second["scores"] == pytest.approx({name: weight / total for name, weight in weights.items()}, abs=1e-5)
    assert second["abstained"] is True


@pytest.mark.parametrize("selector", ["", "@1", "@production", "@canary", "@DIGEST"])
@pytest.mark.slow
def test_every_form_of_ref_finds_its_version(server: RunningServer, tiny: Backbone, selector: str) -> None:
    adapter = make_adapter(tiny)
    server.upload("found", adapter)
    server.client.put("/tasks/found/aliases/canary", json={"version": 1}).raise_for_status()
    ref = "found" + selector.replace("DIGEST", adapter.digest[:19])
    assert server.classify(ref, "x").json()["adapter"] == adapter.digest


def test_truncation_says_what_it_cut(server: RunningServer) -> None:
    text = "flat " * 200 + "gripping"
    cut = {
        side: server.classify("sentiment", text, truncate=side).json()["predictions"][0] for side in ("start", "end")
    }
    for prediction in cut.values():
        assert prediction["truncated"] is True
        assert prediction["tokens"] == SENTIMENT.max_tokens
    assert cut["start"]["logprobs"] != cut["end"]["logprobs"]


def test_a_task_tells_its_spec_versions_and_aliases(serve: Serve, tiny: Backbone) -> None:
    server = serve()
    first, second = make_adapter(tiny), make_adapter(tiny, seed=1)
    server.upload("sentiment", first)
    server.upload("sentiment", second, alias="canary")
    task = server.client.get("/tasks/sentiment").json()
    assert [version["adapter"] for version in task["versions"]] == [first.digest, second.digest]
    assert task["aliases"] == {"production": 1, "canary": 2}
    assert task["current"]["version"] == 1
    assert task["current"]["spec"]["template"] == SENTIMENT.template
    assert server.client.get("/tasks").json()["tasks"][0]["task"] == "sentiment"
    assert server.client.get("/tasks/sentiment/versions/2").json()["adapter"] == second.digest


def test_a_version_comes_back_byte_for_byte(server: RunningServer, tiny: Backbone) -> None:
    files = to_files(make_adapter(tiny), card="# A card\n")
    parts = [("files", (name, data)) for name, data in files.items()]
    server.client.post("/tasks/carded/versions", files=parts).raise_for_status()
    names = server.client.get("/tasks/carded/versions/1/files").json()["files"]
    assert sorted(files) == names
    back = {name: server.client.get(f"/tasks/carded/versions/1/files/{name}").content for name in names}
    assert back == files
    assert from_files(back).digest == make_adapter(tiny).digest


@pytest.mark.slow
def test_the_same_upload_twice_is_one_version(server: RunningServer, tiny: Backbone) -> None:
    adapter = make_adapter(tiny)
    assert server.upload("twice", adapter)["created"] is True
    again = server.upload("twice", adapter)
    assert (again["created"], again["version"]) == (False, 1)


@pytest.mark.slow
def test_aliases_move_by_compare_and_set_and_can_be_removed(server: RunningServer, tiny: Backbone) -> None:
    for seed in range(2):
        server.upload("moved", make_adapter(tiny, seed=seed))
    path = "/tasks/moved/aliases/production"
    stale = server.client.put(path, json={"version": 1, "expected": 1})
    assert (stale.status_code, stale.json()["code"]) == (409, "conflict")
    assert "points at version 2" in stale.json()["detail"]
    server.client.put(path, json={"version": 1, "expected": 2}).raise_for_status()
    assert server.classify("moved", "x").json()["version"] == 1
    assert server.client.delete(path).status_code == 204
    assert server.classify("moved", "x").status_code == 404
    assert server.classify("moved@2", "x").status_code == 200


@pytest.mark.slow
def test_a_deleted_version_is_gone_and_its_number_too(server: RunningServer, tiny: Backbone) -> None:
    for seed in range(2):
        server.upload("deleted", make_adapter(tiny, seed=seed))
    assert server.client.delete("/tasks/deleted/versions/2").status_code == 409
    assert server.client.delete("/tasks/deleted/versions/1").status_code == 204
    assert server.classify("deleted@1", "x").status_code == 404
    assert server.upload("deleted", make_adapter(tiny, seed=3))["version"] == 3


@pytest.mark.slow
def test_a_request_id_and_a_trace_are_echoed_and_a_bad_id_replaced(server: RunningServer) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    answer = server.client.get("/tasks", headers={"X-Request-ID": "abc-1", "traceparent": trace})
    assert (answer.headers["X-Request-ID"], answer.headers["traceparent"]) == ("abc-1", trace)
    answer = server.client.get("/tasks/none", headers={"X-Request-ID": "no spaces\tor tabs"})
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-ID"])
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]


@pytest.mark.slow
def test_health_tells_what_is_served(serve: Serve, tiny: Backbone) -> None:
    server = serve()
    server.upload("sentiment", make_adapter(tiny))
    assert server.client.get("/healthz/live").json() == {"status": "live"}
    ready = server.client.get("/healthz/ready").json()
    assert (ready["status"], ready["degraded"], ready["tasks"]) == ("ready", False, 1)
    assert ready["backbone"]["fingerprint"] == tiny.identity.fingerprint


@pytest.mark.slow
def test_the_documentation_describes_every_route_and_its_errors(server: RunningServer) -> None:
    page = server.client.get("/docs").text
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert sources
    assert all(server.client.get(source).is_success for source in sources), "a page that needs the network"
    paths = server.client.get("/openapi.json").json()["paths"]
    classify = paths["/classify/{ref}"]["post"]
    assert {"200", "400", "404", "413", "415", "422", "429", "503", "504"} <= set(classify["responses"])
    assert "application/problem+json" in json.dumps(classify["responses"]["404"])
    assert "/tasks/{task}/versions" in paths


def scraped(server: RunningServer) -> dict[str, float]:
    """Every sample of /metrics by name and labels."""
    lines = [line for line in server.client.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


@pytest.mark.slow
def test_metrics_exist_before_traffic_and_add_up_after_it(serve: Serve, tiny: Backbone) -> None:
    server = serve()
    before = scraped(server)
    classify_ok = 'superpos_requests_answered_total{route="/classify/{ref}",status="200"}'
    assert before[classify_ok] == 0
    assert before['superpos_requests_cancelled_total{route="/classify/{ref}"}'] == 0
    server.upload("sentiment", make_adapter(tiny))
    for _ in range(3):
        server.classify("sentiment", ["a", "b"])
    server.classify("nothing-of-that-name", "a")
    server.client.get("/no/such/route")
    after = scraped(server)
    assert after[classify_ok] == 3
    assert after["superpos_rows_total"] == 6
    assert after['superpos_requests_answered_total{route="other",status="404"}'] == 1
    answered = sum(value for name, value in after.items() if name.startswith("superpos_requests_answered_total"))
    cancelled = sum(value for name, value in after.items() if name.startswith("superpos_requests_cancelled_total"))
    in_flight = after["superpos_requests_in_flight"]  # this scrape itself
    assert in_flight == 1
    assert after["superpos_requests_received_total"] == answered + cancelled + in_flight
    assert (after["superpos_queue_rows"], after["superpos_queue_tokens"]) == (0, 0)
    assert not any("nothing-of-that-name" in name for name in after)


@pytest.mark.slow
def test_a_mixed_request_for_pairs_and_topics_shares_the_server(server: RunningServer, tiny: Backbone) -> None:
    server.upload("short-pair", make_adapter(tiny, PAIR, num_virtual_tokens=3))
    server.upload("long-topic", make_adapter(tiny, TOPIC, num_virtual_tokens=40))
    pair = server.classify("short-pair", {"premise": "it rains", "hypothesis": "it is wet"}).json()
    topic = server.classify("long-topic", "sports").json()
    assert pair["predictions"][0]["label"] in PAIR.label_names
    assert topic["predictions"][0]["label"] in TOPIC.label_names


@pytest.mark.slow
def test_an_answer_tells_where_its_time_went(server: RunningServer) -> None:
    before = scraped(server)
    header = server.classify("sentiment", ["a", "b"]).headers["Server-Timing"]
    stages = dict(re.findall(r"(\w+);dur=(\d+\.\d\d)(?:, |$)", header))
    assert list(stages) == ["queue", "tokenize", "infer", "total"]
    durations = {stage: float(milliseconds) for stage, milliseconds in stages.items()}
    assert 0 < durations["infer"] < durations["total"]
    assert sum(durations.values()) - durations["total"] <= durations["total"] + 0.02
    after = scraped(server)
    for stage in ("queue", "tokenize"):
        name = f"superpos_{stage}_duration_seconds"
        assert after[f"{name}_count"] - before[f"{name}_count"] == 1
        spent_ms = 1_000 * (after[f"{name}_sum"] - before[f"{name}_sum"])
        assert spent_ms == pytest.approx(durations[stage], abs=0.006)


def test_a_refusal_tells_no_timing(server: RunningServer) -> None:
    assert "Server-Timing" not in server.classify("nothing", "x").headers
