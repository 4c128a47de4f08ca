"""Limits by the look of a path: size and role come from the matched route, before a byte of the body is read."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from fastapi import FastAPI
from support.http import check_problem
from support.server import RunningServer
from support.tenancy import ADMIN_KEY, Keyring, bearer

MEGABYTE = 1_000_000
SMALL, ROWS, UPLOAD = 65_536, 2 << 20, 8 << 20
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=b"}
FILL = {
    "ref": "x",
    "task": "x",
    "model": "x",
    "alias": "canary",
    "version": "1",
    "name": "x",
    "tenant": "x",
    "key": "x",
}


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., RunningServer]) -> RunningServer:
    return serve_module(require_keys=True, admin_key=ADMIN_KEY)


@pytest.fixture(scope="module")
def classify_key(server: RunningServer) -> str:
    return Keyring(server).key("default", "classify")


@contextmanager
def sent(server: RunningServer, method: str, path: str, length: int, **fields: str) -> Iterator[bytes]:
    """Send a request without the body that it announces; the answer, which must come all the same."""
    url = server.client.base_url
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    with socket.create_connection((url.host, url.port or 80), timeout=5) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        yield connection.recv(65_536)


def operations(server: RunningServer) -> Iterator[tuple[str, str, bool]]:
    """Yield the method and path of every route that reads a body, and whether it reads files."""
    assert isinstance(server.app, FastAPI)
    for path, methods in server.app.openapi()["paths"].items():
        for method, operation in methods.items():
            if "requestBody" in operation:
                yield method.upper(), path.format(**FILL), "multipart/form-data" in operation["requestBody"]["content"]


@pytest.mark.slow
def test_whoever_may_not_use_a_route_is_refused_before_a_byte_of_its_body(
    server: RunningServer, classify_key: str
) -> None:
    found = list(operations(server))
    assert len(found) > 12
    for method, path, has_files in found:
        kind = (FORM if has_files else JSON)["Content-Type"]
        for key in (None, "sp_nobody_" + "0" * 43, classify_key):
            fields = {"Content_Type": kind} | ({} if key is None else bearer(key))
            with sent(server, method, path, UPLOAD, **fields) as answer:
                status = int(answer.split()[1])
            if key != classify_key:
                assert status == 401, (method, path, answer)
            elif path.startswith(("/tasks", "/admin")):
                assert status == 403, (method, path, answer)
            else:
                assert status == 413, (method, path, answer)  # of its declared size


@pytest.mark.slow
def test_a_body_of_another_kind_is_refused_before_a_byte_of_it(server: RunningServer) -> None:
    for method, path, _ in operations(server):
        with sent(server, method, path, 100, Content_Type="text/plain", **bearer(ADMIN_KEY)) as answer:
            assert answer.split()[1] == b"415", (method, path, answer)


@pytest.mark.parametrize(
    ("method", "path", "limit"),
    [
        ("POST", "/classify/versions", ROWS),
        ("POST", "/tei/versions", ROWS),
        ("POST", "/v2/models/versions/infer", ROWS),
        ("PUT", "/tasks/x/aliases/versions", SMALL),
        ("PATCH", "/admin/tenants/versions", SMALL),
        ("POST", "/admin/tenants", SMALL),
        ("POST", "/tasks/versions/rollback", SMALL),
        ("POST", "/tasks/x/versions", UPLOAD),
    ],
)
def test_the_matched_route_sets_the_limit(server: RunningServer, method: str, path: str, limit: int) -> None:
    kind = FORM if limit == UPLOAD else JSON
    body = b"[" * (limit + 1)
    refused = server.client.request(method, path, content=body, headers=kind | bearer(ADMIN_KEY))
    assert (refused.status_code, f"at most {limit}" in refused.text) == (413, True), refused.text
    parsed = server.client.request(method, path, content=body[:-1], headers=kind | bearer(ADMIN_KEY))
    assert parsed.status_code in {400, 422}, parsed.text


@pytest.mark.parametrize(
    "path", ["/anything/versions", "/versions", "/classify/x/versions", "/v1/versions", "/docs/versions"]
)
def test_a_path_without_a_route_reads_nothing(server: RunningServer, path: str) -> None:
    with sent(server, "POST", path, 7 * MEGABYTE, **FORM) as answer:
        assert answer.split()[1] == b"404", answer
    check_problem(server.client.post("/tasks", content=b"x" * MEGABYTE), 405, "method_not_allowed")
