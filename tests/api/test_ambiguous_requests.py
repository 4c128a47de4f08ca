"""Requests that proxies may read differently are answered like every other error, and are logged under their id."""

import json
from collections.abc import Callable
from io import StringIO

import pytest
from support.http import exchange
from support.server import RunningServer
from support.tenancy import ADMIN_KEY
from support.waiting import eventually

HOST = b"Host: localhost\r\n"
TWO_LENGTHS = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
AMBIGUOUS = {
    "two lengths": (b"POST /classify/sentiment HTTP/1.1\r\n" + HOST + TWO_LENGTHS, "Content-Length and Transfer-Enc"),
    "a target without a host": (b"GET http:///tasks HTTP/1.1\r\n" + HOST + b"\r\n", "must name a host"),
    "a target with a user": (b"GET http://user@localhost/tasks HTTP/1.1\r\n" + HOST + b"\r\n", "must name a host"),
    "a target with half a bracket": (b"GET http://u@[::1/tasks HTTP/1.1\r\n" + HOST + b"\r\n", "must name a host"),
}


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., RunningServer]) -> RunningServer:
    """A server that checks keys and therefore no `Host`."""
    return serve_module(bundled=False, require_keys=True, admin_key=ADMIN_KEY)


def answered(url: str, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of the one response to a request, after which the server closes."""
    head, _, body = exchange(url, request, half_close=False).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert b"HTTP/1.1" not in body, "a second response: the rest was read as another request"
    return int(first.split()[1]), headers, body


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_an_ambiguous_request_gets_a_problem_with_its_id_and_a_log_entry(
    server: RunningServer, logged: StringIO, name: str
) -> None:
    request, mention = AMBIGUOUS[name]
    status, headers, body = answered(server.url, request)
    assert (status, headers["content-type"], headers["connection"]) == (400, "application/problem+json", "close")
    problem = json.loads(body)
    assert (problem["code"], problem["request_id"]) == ("malformed_request", headers["x-request-id"])
    assert mention in problem["detail"]

    def entries() -> list[tuple[object, object, object]]:
        found = [json.loads(line) for line in logged.getvalue().splitlines()]
        mine = [each for each in found if each.get("request_id") == problem["request_id"]]
        return [(each["status"], each["client"], each["code"]) for each in mine]

    eventually(lambda: entries() == [(400, "127.0.0.1", "malformed_request")])


@pytest.mark.parametrize("host", ["[::1", "[x]", "a]b", "localhost:99999", "%zz", "\xff", "ho st", ""])
def test_an_odd_host_is_no_error_of_the_server(server: RunningServer, host: str) -> None:
    for path in ("/nope", "/tasks", "/healthz/live"):
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode("latin-1")
        status, _, body = answered(server.url, request)
        assert status < 500, (path, body)
