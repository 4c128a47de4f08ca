"""Everything that a caller can get wrong: each refusal is a problem body that names the value, and nothing breaks."""

import io
import json
import zipfile
from collections.abc import Callable

import httpx2
import numpy as np
import pytest
import safetensors.numpy
import torch
from support import PAIR, SENTIMENT, RunningServer, make_adapter

from adapters import SqliteRegistry
from adapters.files import CONFIG, MANIFEST, WEIGHTS, to_files
from backbone import Backbone

Serve = Callable[..., RunningServer]
Files = dict[str, bytes]


@pytest.fixture
def server(serve: Serve, tiny: Backbone) -> RunningServer:
    """A server with one task of one field and one of two; every test ends with it still answering."""
    started = serve()
    started.upload("sentiment", make_adapter(tiny))
    started.upload("pair", make_adapter(tiny, PAIR))
    return started


@pytest.fixture(autouse=True)
def _still_answers(server: RunningServer) -> object:
    yield
    assert server.classify("sentiment", "a gripping film").status_code == 200
    assert server.client.get("/healthz/ready").json()["queued_rows"] == 0


def check_problem(response: httpx2.Response, status: int, code: str, *mentions: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["code"] == code
    assert body["type"] == f"urn:superpos:problem:{code}"
    assert body["request_id"] == response.headers["X-Request-ID"]
    for mention in mentions:
        assert mention in body["detail"], body["detail"]


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


def _with_prompt(files: Files, prompt: np.ndarray) -> Files:
    config = json.loads(files[CONFIG]) | {"num_virtual_tokens": prompt.shape[0], "token_dim": prompt.shape[1]}
    weights = safetensors.numpy.save({"prompt_embeddings": prompt})
    return files | {WEIGHTS: weights, CONFIG: json.dumps(config).encode()}


def _pickle(files: Files) -> Files:
    buffer = io.BytesIO()
    torch.save({"prompt_embeddings": torch.zeros(10, 32)}, buffer, _use_new_zipfile_serialization=False)
    return files | {WEIGHTS: buffer.getvalue()}


def _zip(files: Files) -> Files:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data.pkl", b"x")
    return files | {WEIGHTS: buffer.getvalue()}


def _wrong_key(files: Files) -> Files:
    return files | {WEIGHTS: safetensors.numpy.save({"prompt": np.zeros((10, 32), np.float32)})}


def _nan(files: Files) -> Files:
    prompt = np.zeros((10, 32), np.float32)
    prompt[3, 4] = np.nan
    return _with_prompt(files, prompt)


def _other_fingerprint(files: Files) -> Files:
    manifest = json.loads(files[MANIFEST])
    manifest["backbone"]["fingerprint"] = "sha256:" + "ab" * 32
    return files | {MANIFEST: json.dumps(manifest).encode()}


def _without_task_type(files: Files) -> Files:
    config = json.loads(files[CONFIG])
    del config["task_type"]
    return files | {CONFIG: json.dumps(config).encode()}


def _format_attack(files: Files) -> Files:
    manifest = json.loads(files[MANIFEST])
    manifest["task"]["template"] = "{sentence.__class__}"
    return files | {MANIFEST: json.dumps(manifest).encode()}


def _same_tokens(files: Files) -> Files:
    manifest = json.loads(files[MANIFEST])
    manifest["task"]["labels"] = [{"name": "a", "words": "yes"}, {"name": "b", "words": " yes"}]
    return files | {MANIFEST: json.dumps(manifest).encode()}


@pytest.mark.parametrize(
    ("spoil", "mentions"),
    [
        (_pickle, ["pickle", "safetensors"]),
        (_zip, ["zip archive", "safetensors"]),
        (lambda files: files | {WEIGHTS: files[WEIGHTS][:-100]}, [WEIGHTS, "safetensors"]),
        (_wrong_key, ["got prompt", "prompt_embeddings"]),
        (lambda files: _with_prompt(files, np.zeros((10, 64), np.float32)), ["prompt width", "64", "32"]),
        (_nan, ["nan at [3, 4]", "finite"]),
        (lambda files: _with_prompt(files, np.zeros((200, 32), np.float32)), ["200", "1 to 100"]),
        (_other_fingerprint, ["fingerprint", "sha256:abab"]),
        (_without_task_type, ["task_type", "nothing", "SEQ_2_SEQ_LM"]),
        (_format_attack, ["template", "{sentence.__class__}"]),
        (_same_tokens, ["label words"]),
        (lambda files: files | {"evil.py": b"import os"}, ["evil.py"]),
        (lambda files: {WEIGHTS: files[WEIGHTS]}, [CONFIG]),
        (lambda files: files | {MANIFEST: b"{"}, [MANIFEST]),
        (lambda files: files | {"README.md": b"x" * (2 << 20)}, ["README.md", "2097152"]),
    ],
)
def test_a_bad_upload_is_refused_with_check_value_and_expectation(
    server: RunningServer, tiny: Backbone, spoil: Callable[[Files], Files], mentions: list[str]
) -> None:
    files = spoil(to_files(make_adapter(tiny, seed=5)))
    parts = [("files", (name, data)) for name, data in files.items()]
    response = server.client.post("/tasks/sentiment/versions", files=parts)
    check_problem(response, 422, "invalid_adapter", *mentions)
    assert {"check", "value", "expected"} <= set(response.json())
    assert len(server.client.get("/tasks/sentiment").json()["versions"]) == 1


def test_an_upload_of_fifty_megabytes_is_refused_before_it_is_read(server: RunningServer) -> None:
    response = server.client.post("/tasks/sentiment/versions", files=[("files", (WEIGHTS, b"x" * 50_000_000))])
    check_problem(response, 413, "body_too_large", "8388608")


def test_an_upload_without_files_or_under_a_bad_name_is_refused(server: RunningServer, tiny: Backbone) -> None:
    empty = server.client.post("/tasks/sentiment/versions", files=[("other", ("x", b"y"))])
    check_problem(empty, 422, "invalid_request", "files")
    parts = [("files", (name, data)) for name, data in to_files(make_adapter(tiny)).items()]
    check_problem(server.client.post("/tasks/Bad_Name!/versions", files=parts), 400, "invalid_name", "Bad_Name!")
    twice = server.client.post("/tasks/new/versions", files=[*parts, parts[0]])
    check_problem(twice, 422, "invalid_adapter", "twice")
    numbered = server.client.post("/tasks/new/versions", files=parts, data={"alias": "12"})
    check_problem(numbered, 400, "invalid_name", "'12'")
    assert server.client.get("/tasks/new").status_code == 404


def test_a_prompt_that_makes_the_model_answer_nonsense_never_becomes_visible(
    server: RunningServer, tiny: Backbone
) -> None:
    adapter = make_adapter(tiny)
    huge = np.full_like(adapter.prompt, 3e38)
    files = _with_prompt(to_files(adapter), huge)
    parts = [("files", (name, data)) for name, data in files.items()]
    response = server.client.post("/tasks/huge/versions", files=parts)
    check_problem(response, 422, "invalid_adapter", "norm")
    assert server.client.get("/tasks/huge").status_code == 404


def test_aliases_and_versions_that_do_not_exist_are_refused(server: RunningServer) -> None:
    set_alias = server.client.put("/tasks/sentiment/aliases/canary", json={"version": 9})
    check_problem(set_alias, 404, "not_found", "sentiment@9")
    check_problem(server.client.put("/tasks/none/aliases/canary", json={"version": 1}), 404, "not_found", "none@1")
    check_problem(server.client.put("/tasks/sentiment/aliases/7", json={"version": 1}), 400, "invalid_name", "'7'")
    check_problem(server.client.delete("/tasks/sentiment/aliases/canary"), 404, "not_found", "canary")
    check_problem(server.client.delete("/tasks/sentiment/versions/9"), 404, "not_found", "sentiment@9")
    check_problem(server.client.get("/tasks/sentiment/versions/1/files/nope"), 404, "not_found", "'nope'")
    check_problem(server.client.get("/tasks/sentiment/versions/x"), 422, "invalid_request", "version", "x")


def test_an_adapter_of_another_backbone_in_the_registry_is_a_conflict_when_asked(
    server: RunningServer, tiny: Backbone
) -> None:
    files = _other_fingerprint(to_files(make_adapter(tiny)))
    SqliteRegistry(server.settings.registry).publish("default", "foreign", files, actor="test")
    for _ in range(500):
        response = server.classify("foreign", "x")
        if response.status_code != 404:
            break
    check_problem(response, 409, "backbone_mismatch", "sha256:abab")
