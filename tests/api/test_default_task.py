"""Requests that name no task: the header's, the key's or the server's default answers, as a router expects."""

import json
import math
import urllib.request
from collections.abc import Callable

import httpx2
import pytest
from support.adapters import TOPIC, make_adapter
from support.cli import superpos
from support.http import check_problem
from support.server import RunningServer
from support.tenancy import ADMIN_KEY, Keyring, bearer

from adapters import TaskSpec
from backbone import Backbone
from service.inference.predictions import DEFAULT_TOP_K

Serve = Callable[..., RunningServer]
TEXTS = ["a gripping film", "flat and overlong"]
MANY = TaskSpec(
    template="text: {text}", labels={f"label-{name}": f"{name} news" for name in "abcdefghijklmnopqrstuvwxyz"}
)
"""More labels than an answer has unless it is asked for all."""


@pytest.fixture(scope="module")
def keyed(serve_module: Serve, tiny: Backbone) -> RunningServer:
    server = serve_module(require_keys=True, admin_key=ADMIN_KEY)
    for task, adapter in (
        ("sentiment", make_adapter(tiny)),
        ("topic", make_adapter(tiny, TOPIC)),
        ("many", make_adapter(tiny, MANY)),
    ):
        server.upload(task, adapter, key=ADMIN_KEY)
    return server


def key_with(server: RunningServer, default_task: str | None) -> str:
    body = {"default_task": default_task}
    made = server.client.post("/admin/tenants/default/keys", json=body, headers=bearer(ADMIN_KEY))
    assert made.json()["default_task"] == default_task
    return str(made.raise_for_status().json()["key"])


def ask(server: RunningServer, key: str, inputs: object, **headers: str) -> httpx2.Response:
    return server.client.post("/classify", json={"inputs": inputs}, headers={**bearer(key), **headers})


def native(server: RunningServer, ref: str, inputs: object, **body: object) -> list[list[dict[str, object]]]:
    answer = server.client.post(f"/classify/{ref}", json={"inputs": inputs, **body}, headers=bearer(ADMIN_KEY))
    return [
        [{"label": label, "score": score} for label, score in prediction["scores"].items()]
        for prediction in answer.raise_for_status().json()["predictions"]
    ]


def router_asks(url: str, key: str, text: str, declared: set[str]) -> dict[str, float]:
    """Classify as the remote classifier `http_classify` of vLLM's Semantic Router is described to.

    It knows an address and a key, posts `{"inputs": text}` to the fixed path `/classify` with `Authorization: Bearer`,
    and accepts within 5 s only a list of objects of a label and a score, for exactly the labels that its configuration
    declares, with scores that sum to 1 ± 0.02: a distribution, neither the best few labels nor independent scores.
    """
    request = urllib.request.Request(
        f"{url}/classify",
        data=json.dumps({"inputs": text}).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=5) as response:
        entries = json.load(response)
    assert isinstance(entries, list)
    assert all(set(entry) == {"label", "score"} for entry in entries)
    scores = {str(entry["label"]): float(entry["score"]) for entry in entries}
    assert len(scores) == len(entries)
    assert set(scores) == declared
    assert all(0 <= score <= 1 for score in scores.values())
    assert abs(sum(scores.values()) - 1) <= 0.02
    return scores


@pytest.mark.slow
@pytest.mark.parametrize(("task", "spec"), [("sentiment", None), ("many", MANY)])
def test_the_semantic_router_gets_every_label_of_the_keys_task(keyed: RunningServer, task: str, spec: object) -> None:
    declared = {"negative", "positive"} if spec is None else set(MANY.label_names)
    scores = router_asks(keyed.url, key_with(keyed, task), TEXTS[0], declared)
    assert math.isclose(sum(scores.values()), 1, abs_tol=1e-6)
    expected = native(keyed, task, TEXTS[0], top_k=1_000)[0]
    assert scores == {entry["label"]: entry["score"] for entry in expected}


def test_a_list_of_inputs_has_a_list_of_labels_each(keyed: RunningServer) -> None:
    key = key_with(keyed, "topic@1")
    assert ask(keyed, key, TEXTS).json() == native(keyed, "topic", TEXTS)
    assert ask(keyed, key, TEXTS[:1]).json() == native(keyed, "topic", TEXTS[:1])
    assert ask(keyed, key, TEXTS[0]).json() == native(keyed, "topic", TEXTS[0])[0]
    assert ask(keyed, key, {"text": TEXTS[0]}).json() == native(keyed, "topic", TEXTS[0])[0]
    best = keyed.client.post("/classify", json={"inputs": TEXTS[0], "top_k": 1}, headers=bearer(key)).json()
    assert best == native(keyed, "topic", TEXTS[0])[0][:1]
    assert len(MANY.labels) > DEFAULT_TOP_K


def test_the_header_precedes_the_keys_default_and_that_the_servers(keyed: RunningServer) -> None:
    key = key_with(keyed, "topic")
    answer = ask(keyed, key, "x", **{"X-Superpos-Task": "sentiment"})
    assert {entry["label"] for entry in answer.json()} == {"negative", "positive"}
    assert answer.headers["X-Superpos-Task"] == "sentiment"
    for path, member in (("/predict", "inputs"), ("/v1/moderations", "input")):
        by_key = keyed.client.post(path, json={member: "x"}, headers=bearer(key))
        assert by_key.headers["X-Superpos-Task"] == "topic" if by_key.is_success else "'topic'" in by_key.text
    assert keyed.client.get("/info", headers=bearer(key)).json()["model_id"] == "topic"


@pytest.mark.slow
def test_the_servers_default_is_for_keys_without_their_own(serve: Serve, tiny: Backbone) -> None:
    server = serve(default_task="sentiment", require_keys=True, admin_key=ADMIN_KEY)
    server.upload("sentiment", make_adapter(tiny), key=ADMIN_KEY)
    server.upload("topic", make_adapter(tiny, TOPIC), key=ADMIN_KEY)
    for default, task in ((None, "sentiment"), ("topic", "topic")):
        assert ask(server, key_with(server, default), "x").headers["X-Superpos-Task"] == task


def test_without_any_default_the_refusal_says_where_to_name_one(keyed: RunningServer) -> None:
    refused = ask(keyed, key_with(keyed, None), "x")
    check_problem(refused, 422, "invalid_request", "no task", "tasks", "X-Superpos-Task", "superpos key update")


def test_a_header_beside_tasks_is_refused(keyed: RunningServer) -> None:
    headers = {**bearer(ADMIN_KEY), "X-Superpos-Task": "topic"}
    refused = keyed.client.post("/classify", json={"inputs": "x", "tasks": ["sentiment"]}, headers=headers)
    check_problem(refused, 422, "invalid_request", "both tasks and the header X-Superpos-Task")
    refused = keyed.client.post("/v1/moderations", json={"input": "x", "model": "sentiment"}, headers=headers)
    assert "both model and the header" in refused.json()["error"]["message"]


def test_a_default_task_is_a_ref_and_need_not_exist_yet(keyed: RunningServer) -> None:
    body = {"default_task": "No Ref"}
    made = keyed.client.post("/admin/tenants/default/keys", json=body, headers=bearer(ADMIN_KEY))
    check_problem(made, 400, "invalid_name", "'No Ref'")
    check_problem(ask(keyed, key_with(keyed, "later"), "x"), 404, "not_found", "'later'")


@pytest.mark.slow
def test_a_keys_default_task_is_changed_by_the_command_and_kept_by_a_rotation(keyed: RunningServer) -> None:
    keyring = Keyring(keyed)
    keyring.tenant("acme")
    command = {"SUPERPOS_SERVER": keyed.url, "SUPERPOS_API_KEY": ADMIN_KEY}
    key = superpos("key", "create", "acme", "--default-task", "first", **command).stdout.strip()
    key_id = key.split("_")[1]
    assert "first" in superpos("key", "list", "acme", **command).text
    check_problem(ask(keyed, key, "x"), 404, "not_found", "'first'")
    changed = superpos("key", "update", "acme", key_id, "--default-task", "second@canary", **command)
    assert changed.stdout == f"key {key_id} of acme: default task second@canary\n"
    key = superpos("key", "rotate", "acme", key_id, **command).stdout.strip()
    check_problem(ask(keyed, key, "x"), 404, "not_found", "'second'")
    assert superpos("key", "update", "acme", key_id, "--no-default-task", **command).code == 0
    check_problem(ask(keyed, key, "x"), 422, "invalid_request", "no task")
    for words in ([], ["--default-task", "a", "--no-default-task"]):
        assert "either" in superpos("key", "update", "acme", key_id, *words, **command).refusal()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/classify/topic", {"inputs": "x"}),
        ("/classify", {"inputs": "x", "tasks": ["topic"]}),
        ("/tei/topic", {"inputs": "x"}),
        ("/tei/topic/predict", {"inputs": "x"}),
        ("/v1/classify", {"model": "topic", "input": "x"}),
        ("/v1/moderations", {"model": "topic/sports", "input": "x"}),
        ("/v2/models/topic/infer", {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["x"]}]}),
    ],
)
def test_every_answer_of_one_task_states_its_version_in_headers(
    keyed: RunningServer, path: str, body: dict[str, object]
) -> None:
    answer = keyed.client.post(path, json=body, headers=bearer(ADMIN_KEY)).raise_for_status()
    known = keyed.client.get("/tasks/topic/versions/1", headers=bearer(ADMIN_KEY)).json()
    stated = {name: answer.headers[f"X-Superpos-{name}"] for name in ("Task", "Version", "Adapter")}
    assert stated == {"Task": "topic", "Version": "1", "Adapter": known["adapter"]}


def test_an_answer_of_several_tasks_names_no_single_version(keyed: RunningServer) -> None:
    body = {"inputs": "x", "tasks": ["topic", "sentiment"]}
    answer = keyed.client.post("/classify", json=body, headers=bearer(ADMIN_KEY)).raise_for_status()
    assert not [name for name in answer.headers if name.lower().startswith("x-superpos-")]
