"""The parts of HTTP that proxies use: request targets, half-closed connections, HEAD, and JSON without doubt."""

import json
import time

import pytest
from fastapi import FastAPI
from support.http import check_problem, exchange, http_request
from support.server import RunningServer

JSON = {"Content-Type": "application/json"}
BODY = b'{"inputs": "a gripping film"}'


@pytest.fixture
def server(shared_server: RunningServer) -> RunningServer:
    return shared_server


def _get(target: str, *fields: str) -> bytes:
    return "\r\n".join([f"GET {target} HTTP/1.1", *fields, "Connection: close", "", ""]).encode()


def _split(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return int(status.split()[1]), {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}, body


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://localhost:8080/tasks/sentiment", 200),
        ("HTTP://LOCALHOST/tasks/sentiment?", 200),
        ("http://localhost/tasks/sentiment?x=1", 422),
        ("https://localhost/tasks/%73entiment", 200),
        ("http://localhost/..%2f..", 404),
        ("http://localhost", 200),
        ("http://attacker.example/tasks", 421),
        ("http:///tasks", 400),
        ("http://localhost@attacker.example/tasks", 400),
    ],
)
def test_an_absolute_target_is_read_as_its_path_on_its_host(server: RunningServer, target: str, status: int) -> None:
    answer = exchange(server.url, _get(target, "Host: localhost"), half_close=False)
    assert _split(answer)[0] == status, answer


def test_the_targets_host_replaces_the_field(server: RunningServer) -> None:
    answer = exchange(server.url, _get("http://localhost/tasks", "Host: attacker.example"), half_close=False)
    assert _split(answer)[0] == 200


@pytest.mark.parametrize("first", ["Content-Length: 4", "Transfer-Encoding: chunked"])
def test_a_request_with_two_lengths_is_refused_and_no_other_is_read_after_it(server: RunningServer, first: str) -> None:
    framing = sorted(["Content-Length: 4", "Transfer-Encoding: chunked"], key=lambda field: field != first)
    head = ["POST /classify/sentiment HTTP/1.1", "Host: localhost", "Content-Type: application/json", *framing]
    request = "\r\n".join([*head, "", "0", "", "GET /smuggled HTTP/1.1", "Host: localhost", "", ""]).encode()
    answer = exchange(server.url, request, half_close=False)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert _split(answer)[0] == 400


def test_options_of_the_whole_server_are_answered(server: RunningServer) -> None:
    request = b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    status, fields, body = _split(exchange(server.url, request, half_close=False))
    assert (status, body) == (204, b"")
    assert "HEAD" in fields["allow"]


def test_a_half_closed_client_is_answered(server: RunningServer) -> None:
    started = time.monotonic()
    interim, _, final = exchange(server.url, http_request(BODY)).rpartition(b"HTTP/1.1 200 OK\r\n")
    assert interim in (b"", b"HTTP/1.1 100 \r\n\r\n")  # any number of 100s may precede a response
    assert json.loads(_split(b"HTTP/1.1 200 OK\r\n" + final)[2])["predictions"]
    assert time.monotonic() - started < 4, "closed by the keep-alive timeout, not at the end of the response"


def test_pipelined_requests_of_a_half_closed_client_are_all_answered(server: RunningServer) -> None:
    answer = exchange(server.url, http_request(BODY) * 3)
    assert answer.count(b"HTTP/1.1 200 OK") == 3


def test_a_half_closed_http_1_0_client_gets_nothing_that_it_does_not_know(server: RunningServer) -> None:
    request = b"GET /tasks HTTP/1.0\r\nHost: localhost\r\n\r\n"
    assert exchange(server.url, request).startswith(b"HTTP/1.1 200 OK")


def test_a_half_closed_client_that_sent_half_a_head_is_refused(server: RunningServer) -> None:
    answer = exchange(server.url, b"GET /tasks HTTP/1.1\r\nHost: loc")
    assert _split(answer)[0] == 400
    assert exchange(server.url, b"") == b""


@pytest.mark.slow
def test_head_is_answered_wherever_get_is(server: RunningServer) -> None:
    assert isinstance(server.app, FastAPI)
    paths = [path for path, operations in server.app.openapi()["paths"].items() if "get" in operations]
    assert len(paths) > 20
    for path in [*paths, "/docs", "/openapi.json", "/nothing"]:
        url = path.format(
            job="0" * 24,
            task="sentiment",
            ref="sentiment",
            model="sentiment",
            version=1,
            alias="production",
            name="superpos.json",
            tenant="default",
        )
        got, head = server.client.get(url), server.client.head(url)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        for field in ("Content-Type", "ETag", "Allow", "Cache-Control"):
            assert head.headers.get(field) == got.headers.get(field), f"{field} of {path}"
    tag = server.client.head("/tasks/sentiment/versions/1").headers["ETag"]
    assert server.client.head("/tasks/sentiment/versions/1", headers={"If-None-Match": tag}).status_code == 304
    post = server.client.head("/classify/sentiment")
    assert (post.status_code, post.headers["Allow"]) == (405, "POST")
    assert server.client.post("/tasks", json={}).headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    ("path", "body", "mention"),
    [
        ("/classify/sentiment", b'{"inputs": "x", "inputs": "y"}', "'inputs' 2 times"),
        ("/classify/sentiment", b'{"inputs": {"sentence": "x", "sentence": "y"}}', "'sentence' 2 times"),
        ("/classify/sentiment", b'{"inputs": "x", "timeout_ms": NaN}', "NaN"),
        ("/tasks/sentiment/rollback", b'{"alias": "canary", "alias": "production"}', "'alias' 2 times"),
        ("/v1/classify", b'{"model": "pair", "model": "sentiment", "input": "x"}', "'model' 2 times"),
        ("/tei/sentiment/predict", b'{"inputs": "x", "inputs": "y", "\\u0069nputs": "z"}', "'inputs' 3 times"),
        ("/v2/models/sentiment/infer", b'{"inputs": [], "id": "1", "id": "2"}', "'id' 2 times"),
    ],
)
def test_json_that_two_readers_read_differently_is_refused(
    server: RunningServer, path: str, body: bytes, mention: str
) -> None:
    refused = server.client.post(path, content=body, headers=JSON)
    assert refused.status_code == 400
    assert mention in refused.text
    if not path.startswith(("/v", "/tei")):
        check_problem(refused, 400, "malformed_body", mention)
