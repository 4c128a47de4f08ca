"""What every compatibility face refuses, each in its own protocol's words, and that all ask for the same keys."""

from collections.abc import Callable

import httpx2
import openai
import pytest
from huggingface_hub import InferenceClient
from support.adapters import make_adapter
from support.http import tensors
from support.server import RunningServer
from support.waiting import eventually

from adapters.files import to_files
from backbone import Backbone

Serve = Callable[..., RunningServer]


@pytest.fixture
def server(shared_server: RunningServer) -> RunningServer:
    """One for the module: no test here changes it."""
    return shared_server


_PREDICT, _CLASSIFY, _INFER = "/tei/sentiment/predict", "/v1/classify", "/v2/models/sentiment/infer"


def _message(response: httpx2.Response) -> str:
    """The text of an error, found where its protocol has it; nothing else may be in the body."""
    body = response.json()
    assert response.headers["Content-Type"] == "application/json"
    path = response.request.url.path
    if path.startswith("/v1"):
        assert set(body["error"]) == {"message", "type", "param", "code"}
        assert body["error"]["code"] == response.status_code
        return body["error"]["message"]
    assert set(body) == ({"error"} if path.startswith("/v2") else {"error", "error_type"})
    return body["error"]


@pytest.mark.parametrize("path", [_PREDICT, _CLASSIFY, _INFER])
def test_every_refusal_of_a_face_has_its_protocols_body(server: RunningServer, path: str) -> None:
    def post(content: bytes, **headers: str) -> httpx2.Response:
        return server.client.post(path, content=content, headers={"Content-Type": "application/json", **headers})

    refusals = {
        400: post(b"{"),
        413: post(b" " * 3_000_000),
        415: post(b"{}", **{"Content-Type": "text/plain"}),
        421: post(b"{}", Host="evil.example"),
        422: post(b"{}"),
        405: server.client.put(path, json={}),
        404: server.client.get(path + "/nothing/here"),
    }
    assert {status: response.status_code for status, response in refusals.items()} == {s: s for s in refusals}
    assert all(_message(response) for response in refusals.values())
    assert all("X-Request-ID" in response.headers for response in refusals.values())


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tei/nothing/predict", {"inputs": "x"}),
        ("/v1/classify", {"model": "nothing", "input": "x"}),
        ("/v2/models/nothing/infer", {"inputs": tensors([{"sentence": "x"}])}),
    ],
)
def test_an_unknown_task_is_not_found_by_every_face(server: RunningServer, path: str, body: object) -> None:
    response = server.client.post(path, json=body)
    assert response.status_code == 404
    assert "'nothing'" in _message(response)


def test_teis_error_types_follow_the_status(server: RunningServer) -> None:
    response = server.client.post("/tei/nothing/predict", json={"inputs": "x"})
    assert response.json()["error_type"] == "Validation"
    slow = server.client.post(_INFER, json={"inputs": tensors([{"sentence": "x"}] * 64), "parameters": {"timeout": 1}})
    assert slow.status_code == 504
    assert "no answer within 0.001 s" in slow.json()["error"]


def test_more_rows_than_a_request_may_have_are_refused_by_every_face(server: RunningServer) -> None:
    rows = server.settings.max_rows_per_request + 1
    for path, body in (
        (_PREDICT, {"inputs": [["x"]] * rows}),
        (_CLASSIFY, {"model": "sentiment", "input": ["x"] * rows}),
        (_INFER, {"inputs": tensors([{"sentence": "x"}] * rows)}),
    ):
        response = server.client.post(path, json=body)
        assert response.status_code == 422
        assert "257" in _message(response)


@pytest.mark.slow
def test_a_face_asks_for_the_same_keys_and_says_so_in_its_own_words(serve: Serve, tiny: Backbone) -> None:
    key = f"sp_root_{'k' * 40}"
    server = serve(require_keys=True, admin_key=key)
    server.registry.publish("default", "sentiment", to_files(make_adapter(tiny)), actor="test")
    bearer = {"Authorization": f"Bearer {key}"}
    eventually(lambda: server.client.get("/tasks/sentiment", headers=bearer).is_success)
    for path in (_PREDICT, _CLASSIFY, _INFER):
        refused = server.client.post(path, json={})
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"] == "Bearer"
        assert "no key" in _message(refused)
    for path in ("/health", "/v2", "/v2/health/ready", "/tei/sentiment/health", "/tei/nothing/health"):
        assert server.client.get(path, headers={"Host": "any.gateway"}).status_code == 200
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key) as client:
        assert [card.id for card in client.models.list()] == ["sentiment"]
    answer = InferenceClient(f"{server.url}/tei/sentiment", api_key=key).text_classification("a gripping film")
    assert len(answer) == 2
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="sp_x_y", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()
