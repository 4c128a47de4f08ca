"""Everything that a caller can get wrong: each refusal is a problem body that names the value, and nothing breaks."""

import pytest
from support.adapters import SENTIMENT
from support.http import check_problem
from support.server import RunningServer

pytestmark = pytest.mark.usefixtures("still_answers")


@pytest.fixture(scope="module")
def server(shared_server: RunningServer) -> RunningServer:
    """Share one server: a refused request changes nothing."""
    return shared_server


@pytest.mark.parametrize(
    ("ref", "status", "code", "mention"),
    [
        ("unknown", 404, "not_found", "'unknown'"),
        ("sentiment@7", 404, "not_found", "sentiment@7"),
        ("sentiment@canary", 404, "not_found", "sentiment@canary"),
        ("sentiment@sha256:" + "0" * 64, 404, "not_found", "sentiment@sha256:000"),
        ("Sentiment", 400, "invalid_name", "'Sentiment'"),
        ("sentiment@sha256:12", 400, "invalid_name", "sentiment@sha256:12"),
        ("senti ment", 400, "invalid_name", "'senti ment'"),
        ("..%2f..", 404, "not_found", "no route"),
    ],
)
def test_an_unknown_ref_is_refused_by_name(
    server: RunningServer, ref: str, status: int, code: str, mention: str
) -> None:
    check_problem(server.classify(ref, "x"), status, code, mention)


@pytest.mark.parametrize(
    ("task", "inputs", "mentions"),
    [
        ("sentiment", {"text": "x"}, ["inputs[0]", "'text'", "'sentence'"]),
        ("sentiment", [{"sentence": "x"}, {"sentence": "x", "more": "y"}], ["inputs[1]", "'more'"]),
        ("pair", "a plain string", ["inputs[0]", "'premise'", "'hypothesis'"]),
        ("pair", {"premise": "x"}, ["inputs[0]", "'hypothesis'"]),
    ],
)
def test_fields_that_are_not_the_tasks_are_refused(
    server: RunningServer, task: str, inputs: object, mentions: list[str]
) -> None:
    check_problem(server.classify(task, inputs), 422, "invalid_input", *mentions)


@pytest.mark.parametrize(
    ("body", "mentions"),
    [
        ({"inputs": []}, ["inputs", "[]"]),
        ({"inputs": None}, ["inputs", "None"]),
        ({"inputs": [5]}, ["inputs", "5"]),
        ({"inputs": {"sentence": 5}}, ["inputs", "sentence", "5"]),
        ({}, ["inputs"]),
        ({"inputs": "x", "trunkate": "end"}, ["trunkate"]),
        ({"inputs": "x", "truncate": "middle"}, ["truncate", "middle"]),
        ({"inputs": "x", "top_k": 0}, ["top_k", "0"]),
        ({"inputs": "x", "timeout_ms": -1}, ["timeout_ms", "-1"]),
        ({"inputs": "x", "timeout_ms": 10**9}, ["timeout_ms", "1000000000"]),
        ({"inputs": ["x"] * 300}, ["300", "256"]),
        (["x"], ["body"]),
    ],
)
def test_a_body_of_the_wrong_form_is_refused(server: RunningServer, body: object, mentions: list[str]) -> None:
    response = server.client.post("/classify/sentiment", json=body)
    check_problem(response, 422, "invalid_request", *mentions)


@pytest.mark.parametrize(
    ("content", "mention"),
    [
        (b'{"inputs": "caf\xe9"}', "not UTF-8: byte 0xe9 at position 15"),
        (b'{"inputs": ', "not JSON"),
        (b"", "body"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_body_that_is_no_json_is_refused(server: RunningServer, content: bytes, mention: str) -> None:
    response = server.client.post("/classify/sentiment", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422)
    check_problem(response, response.status_code, response.json()["code"], mention)


def test_a_lone_surrogate_is_refused_and_not_lost(server: RunningServer) -> None:
    content = b'{"inputs": "broken \\ud800 text"}'
    response = server.client.post("/classify/sentiment", content=content, headers={"Content-Type": "application/json"})
    check_problem(response, 422, "invalid_input", "inputs[0]", "surrogate")


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_another_media_type_is_refused_by_name(server: RunningServer, media_type: str) -> None:
    response = server.client.post(
        "/classify/sentiment", content=b'{"inputs": "x"}', headers={"Content-Type": media_type}
    )
    check_problem(response, 415, "unsupported_media_type", repr(media_type), "application/json")
    upload = server.client.post("/tasks/new/versions", json={"files": []})
    check_problem(upload, 415, "unsupported_media_type", "application/json", "multipart/form-data")


def test_a_megabyte_of_text_is_refused_by_its_length_under_every_policy(server: RunningServer) -> None:
    for truncate in ("error", "start", "end"):
        response = server.classify("sentiment", "x" * 1_000_000, truncate=truncate)
        check_problem(response, 422, "invalid_input", "inputs[0]", "1000010 characters", "100000")


def test_a_body_over_the_limit_is_refused_before_it_is_parsed(server: RunningServer) -> None:
    response = server.classify("sentiment", "x" * 3_000_000)
    check_problem(response, 413, "body_too_large", "2097152")


def test_a_body_that_lies_about_its_length_is_cut_off(server: RunningServer) -> None:
    chunks = (b"x" * 65_536 for _ in range(64))
    response = server.client.post("/classify/sentiment", content=chunks, headers={"Content-Type": "application/json"})
    check_problem(response, 413, "body_too_large", "2097152")


def test_a_text_over_the_tasks_limit_is_an_error_unless_it_may_be_cut(server: RunningServer) -> None:
    text = "flat " * 100
    refused = server.classify("sentiment", ["short", text])
    check_problem(refused, 422, "text_too_long", "inputs[1]", f"{SENTIMENT.max_tokens}")
    for side in ("start", "end"):
        prediction = server.classify("sentiment", text, truncate=side).json()["predictions"][0]
        assert (prediction["truncated"], prediction["tokens"]) == (True, SENTIMENT.max_tokens)


def test_an_unknown_route_and_method_are_problems_too(server: RunningServer) -> None:
    check_problem(server.client.get("/nothing"), 404, "not_found", "/nothing")
    check_problem(server.client.get("/classify/sentiment"), 405, "method_not_allowed")


def test_aliases_and_versions_that_do_not_exist_are_refused(server: RunningServer) -> None:
    set_alias = server.client.put("/tasks/sentiment/aliases/canary", json={"version": 9})
    check_problem(set_alias, 404, "not_found", "sentiment@9")
    check_problem(server.client.put("/tasks/none/aliases/canary", json={"version": 1}), 404, "not_found", "none@1")
    check_problem(server.client.put("/tasks/sentiment/aliases/7", json={"version": 1}), 400, "invalid_name", "'7'")
    check_problem(server.client.delete("/tasks/sentiment/aliases/canary"), 404, "not_found", "canary")
    check_problem(server.client.delete("/tasks/sentiment/versions/9"), 404, "not_found", "sentiment@9")
    check_problem(server.client.get("/tasks/sentiment/versions/1/files/nope"), 404, "not_found", "'nope'")
    check_problem(server.client.get("/tasks/sentiment/versions/x"), 422, "invalid_request", "version", "x")
