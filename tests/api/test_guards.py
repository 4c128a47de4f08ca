"""A guard that the client shows: every write evaluates it or refuses it with 412, and never ignores it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from fastapi import FastAPI
from support.adapters import make_adapter
from support.http import check_problem
from support.server import RunningServer

from adapters.files import to_files
from backbone import Backbone

BOGUS = '"9-bogus"'
TASK = "/tasks/sentiment"


def _with_task(server: RunningServer, backbone: Backbone) -> RunningServer:
    """Publish a task of three versions, production at the last, a shadow."""
    for seed in range(3):
        server.upload("sentiment", make_adapter(backbone, seed=seed))
    server.client.put(f"{TASK}/traffic", json={"shadow": 2})
    return server


@pytest.fixture
def server(serve: Callable[..., RunningServer], tiny: Backbone) -> RunningServer:
    return _with_task(serve(), tiny)


@pytest.fixture(scope="module")
def unchanged_server(serve_module: Callable[..., RunningServer], tiny: Backbone) -> RunningServer:
    """One server for the writes that are refused."""
    return _with_task(serve_module(), tiny)


def _state(server: RunningServer) -> object:
    return [server.client.get(path).json() for path in ("/tasks", f"{TASK}/traffic", "/admin/tenants")]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("If-Match", BOGUS),
        ("If-None-Match", "production"),
        ("If-Unmodified-Since", "Mon, 05 Jan 2015 00:00:00 GMT"),
    ],
)
@pytest.mark.slow
def test_no_write_ignores_a_guard(unchanged_server: RunningServer, tiny: Backbone, name: str, value: str) -> None:
    server = unchanged_server
    bodies = {
        "PUT /tasks/{task}/traffic": {"shadow": 1},
        "PUT /tasks/{task}/aliases/{alias}": {"version": 1},
        "POST /tasks/{task}/rollback": {},
        "POST /tasks/{task}/promote": {"version": 1, "force": True},
        "POST /admin/tenants": {"name": "acme"},
        "PATCH /admin/tenants/{tenant}": {"weight": 3},
        "POST /admin/tenants/{tenant}/keys": {"role": "infer"},
        "POST /classify": {"tasks": ["sentiment"], "inputs": "x"},
        "POST /v1/classify": {"model": "sentiment", "input": "x"},
    }
    filled = {"task": "sentiment", "ref": "sentiment", "model": "sentiment", "alias": "production", "version": "1"}
    files = [("files", (file, data)) for file, data in to_files(make_adapter(tiny, seed=4)).items()]
    before = _state(server)
    assert isinstance(server.app, FastAPI)
    for path, operations in server.app.openapi()["paths"].items():
        for method in sorted({"post", "put", "patch", "delete"} & set(operations)):
            body = bodies.get(f"{method.upper()} {path}", {"inputs": "x"})
            content = {"files": files} if path.endswith("/versions") else {} if method == "delete" else {"json": body}
            url = path.format(**filled, tenant="default", key="none", job="0" * 24)
            response = server.client.request(method, url, headers={name: value}, **content)
            assert response.status_code == 412, f"{method} {path}: {response.text}"
            if path.startswith(("/tasks", "/admin")):
                check_problem(response, 412, "precondition_failed", name)
    assert _state(server) == before


def test_a_refused_upload_names_a_way_out(unchanged_server: RunningServer, tiny: Backbone) -> None:
    server = unchanged_server
    files = [("files", (file, data)) for file, data in to_files(make_adapter(tiny, seed=4)).items()]
    upload = server.client.post(f"{TASK}/versions", files=files, headers={"If-Match": BOGUS})
    check_problem(upload, 412, "precondition_failed", BOGUS, "PUT /tasks/<task>/aliases/<alias> evaluates If-Match")
    check_problem(server.client.get(TASK, headers={"If-Match": BOGUS}), 412, "precondition_failed", "If-None-Match")


def _tag(server: RunningServer, path: str) -> str:
    return server.client.get(path).headers["ETag"]


def _production(server: RunningServer) -> str:
    return _tag(server, f"{TASK}/aliases/production")


Write = Callable[[RunningServer, str], httpx2.Response]
WRITES: dict[str, tuple[Callable[[RunningServer], str], Write]] = {
    "roll back": (
        _production,
        lambda server, tag: server.client.post(f"{TASK}/rollback", json={}, headers={"If-Match": tag}),
    ),
    "promote": (
        _production,
        lambda server, tag: server.client.post(
            f"{TASK}/promote", json={"version": 1, "force": True}, headers={"If-Match": tag}
        ),
    ),
    "set traffic": (
        lambda server: _tag(server, f"{TASK}/traffic"),
        lambda server, tag: server.client.put(f"{TASK}/traffic", json={"shadow": 1}, headers={"If-Match": tag}),
    ),
    "end traffic": (
        lambda server: _tag(server, f"{TASK}/traffic"),
        lambda server, tag: server.client.delete(f"{TASK}/traffic", headers={"If-Match": tag}),
    ),
}


@pytest.mark.parametrize(("read", "write"), WRITES.values(), ids=WRITES)
@pytest.mark.slow
def test_of_guarded_writes_with_one_tag_one_wins(
    server: RunningServer, read: Callable[[RunningServer], str], write: Write
) -> None:
    tag = read(server)
    with ThreadPoolExecutor(4) as pool:
        statuses = sorted(response.status_code for response in pool.map(lambda _: write(server, tag), range(6)))
    assert statuses[0] in (200, 204)
    assert statuses[1:] == [412] * 5
    assert read(server) != tag
    assert write(server, f"{BOGUS}, {tag}").status_code == 412


def test_a_version_is_deleted_only_under_its_digest(server: RunningServer) -> None:
    path = f"{TASK}/versions/1"
    weak = _tag(server, path)
    check_problem(server.client.delete(path, headers={"If-Match": weak}), 412, "precondition_failed", weak[2:])
    check_problem(server.client.delete(path, headers={"If-Match": BOGUS}), 412, "precondition_failed", BOGUS)
    assert server.client.delete(path, headers={"If-Match": weak[2:]}).status_code == 204
