"""Every adapter that is refused over HTTP: an upload by its check and value, a stranger in the registry when asked."""

import copy
import io
import json
import math
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import torch
from support.adapters import make_adapter
from support.http import check_problem
from support.server import RunningServer
from torch import Tensor

from adapters import PromptAdapter
from adapters.files import CONFIG, MANIFEST, WEIGHTS, content_id, to_files
from backbone import Backbone, Encoded, PackedBatch
from backbone.pieces import Pause, no_pause

Files = dict[str, bytes]

pytestmark = pytest.mark.usefixtures("still_answers")


@pytest.fixture
def server(shared_server: RunningServer) -> RunningServer:
    """One server for all uploads: none of those that are refused may change it."""
    return shared_server


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


def _other_base_model(files: Files) -> Files:
    return files | {CONFIG: json.dumps(json.loads(files[CONFIG]) | {"base_model_name_or_path": "google/t5"}).encode()}


def _format_attack(files: Files) -> Files:
    manifest = json.loads(files[MANIFEST])
    manifest["task"]["template"] = "{sentence.__class__}"
    return files | {MANIFEST: json.dumps(manifest).encode()}


def _no_room(files: Files) -> Files:
    manifest = json.loads(files[MANIFEST])
    manifest["task"] |= {"template": f"{'a film ' * 20}{{sentence}}", "max_tokens": 16}
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
        (_other_base_model, ["base_model_name_or_path", "'google/t5'", MANIFEST]),
        (_without_task_type, ["task_type", "nothing", "SEQ_2_SEQ_LM"]),
        (_format_attack, ["template", "{sentence.__class__}"]),
        (_same_tokens, ["label words"]),
        (_no_room, ["task.max_tokens", "16", "the template has", "1 fields"]),
        (lambda files: files | {"evil.py": b"import os"}, ["evil.py"]),
        (lambda files: {WEIGHTS: files[WEIGHTS]}, [MANIFEST]),
        (lambda files: {WEIGHTS: files[WEIGHTS], MANIFEST: files[MANIFEST]}, [CONFIG]),
        (lambda files: files | {MANIFEST: b"{"}, [MANIFEST]),
        (lambda files: files | {"README.md": b"x" * (2 << 20)}, ["README.md", "2097152"]),
    ],
)
@pytest.mark.slow
def test_a_bad_upload_is_refused_with_check_value_and_expectation(
    server: RunningServer, tiny: Backbone, spoil: Callable[[Files], Files], mentions: list[str]
) -> None:
    files = spoil(to_files(make_adapter(tiny, seed=5)))
    parts = [("files", (name, data)) for name, data in files.items()]
    response = server.client.post("/tasks/sentiment/versions", files=parts)
    check_problem(response, 422, "invalid_adapter", *mentions)
    assert {"check", "value", "expected"} <= set(response.json())
    assert len(server.client.get("/tasks/sentiment").json()["versions"]) == 1


@pytest.mark.slow
def test_an_upload_of_fifty_megabytes_is_refused_before_it_is_read(server: RunningServer) -> None:
    response = server.client.post("/tasks/sentiment/versions", files=[("files", (WEIGHTS, b"x" * 50_000_000))])
    check_problem(response, 413, "body_too_large", "8388608")


@pytest.mark.slow
def test_an_upload_is_parsed_once(server: RunningServer, tiny: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []

    def deserialize(data: bytes, parse: Callable[[bytes], object] = safetensors.deserialize) -> object:
        parsed.append(data)
        return parse(data)

    monkeypatch.setattr(safetensors, "deserialize", deserialize)
    adapter = make_adapter(tiny, seed=6)
    server.upload("once", adapter)
    assert server.classify("once", "a gripping film").status_code == 200
    assert parsed == [to_files(adapter)[WEIGHTS]]


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


@pytest.mark.slow
def test_an_upload_that_is_not_what_its_sender_says_is_refused_with_both_digests(
    server: RunningServer, tiny: Backbone
) -> None:
    adapter, other = make_adapter(tiny, seed=5), make_adapter(tiny, seed=6)
    parts = [("files", (name, data)) for name, data in to_files(adapter).items()]
    url = "/tasks/checked/versions"
    wrong = server.client.post(url, files=parts, data={"sha256": other.digest})
    check_problem(wrong, 422, "invalid_adapter", adapter.digest, other.digest)
    told = {name: wrong.json()[name] for name in ("check", "value", "expected")}
    assert told == {"check": "digest", "value": adapter.digest, "expected": other.digest}
    for malformed in ("", "sha256:ab", other.digest.removeprefix("sha256:"), other.digest.upper()):
        refused = server.client.post(url, files=parts, data={"sha256": malformed})
        check_problem(refused, 422, "invalid_request", "body.sha256", "sha256:[0-9a-f]{64}", repr(malformed))
    assert server.client.get("/tasks/checked").status_code == 404
    assert content_id(to_files(adapter)) not in server.registry.content_sizes("default")
    right = server.client.post(url, files=parts, data={"sha256": adapter.digest})
    assert (right.status_code, right.json()["adapter"]) == (201, adapter.digest)


@pytest.mark.slow
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


@pytest.mark.slow
def test_an_adapter_of_another_backbone_in_the_registry_is_a_conflict_when_asked(
    server: RunningServer, tiny: Backbone
) -> None:
    files = _other_fingerprint(to_files(make_adapter(tiny)))
    server.registry.publish("default", "foreign", files, actor="test")
    for _ in range(500):
        response = server.classify("foreign", "x")
        if response.status_code != 404:
            break
    check_problem(response, 409, "backbone_mismatch", "sha256:abab")


@pytest.mark.slow
def test_an_adapter_that_the_model_fails_at_is_refused_before_anybody_sees_it(
    serve: Callable[..., RunningServer], tiny: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, sound = copy.copy(tiny), tiny.encode

    def encode(packed: PackedBatch, prompts: Tensor, *, pause: Pause = no_pause) -> Encoded:
        encoded = sound(packed, prompts, pause=pause)
        asked = prompts[packed.prompt_rows]  # not all of the bank: a prompt that was refused may still be in it
        return Encoded(encoded.hidden * math.nan, encoded.spans) if bool((asked > 9e3).any()) else encoded

    broken.encode = encode
    monkeypatch.setattr("service.loading.load", lambda *_, **__: broken)
    server = serve()
    server.upload("sentiment", make_adapter(tiny))
    other = make_adapter(tiny, seed=1)
    prompt = other.prompt.copy()
    prompt[0, 0] = 1e4
    files = to_files(PromptAdapter(prompt, other.manifest))
    response = server.client.post("/tasks/sentiment/versions", files=[("files", item) for item in files.items()])
    check_problem(response, 422, "invalid_adapter", "smoke forward", "finite label scores")
    assert response.json()["check"] == "smoke forward"
    assert [version["version"] for version in server.client.get("/tasks/sentiment").json()["versions"]] == [1]
    assert server.classify("sentiment", "a film").status_code == 200
