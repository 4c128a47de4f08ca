"""Names that nobody knows: a form field, query parameter or header that no one reads is refused, on every route."""

import pytest
from fastapi import FastAPI
from support.adapters import make_adapter
from support.http import check_problem
from support.server import RunningServer

from adapters.files import to_files
from backbone import Backbone

Parts = list[tuple[str, tuple[str | None, bytes]]]


@pytest.fixture
def server(shared_server: RunningServer) -> RunningServer:
    return shared_server


@pytest.fixture(scope="module")
def parts(tiny: Backbone) -> Parts:
    """An adapter's files as parts of a form."""
    return [("files", (name, data)) for name, data in to_files(make_adapter(tiny, seed=5)).items()]


def _production(server: RunningServer) -> int:
    return int(server.client.get("/tasks/sentiment").json()["aliases"]["production"])


@pytest.mark.parametrize(
    ("field", "mention"),
    [
        ("aliases", "body.aliases: unknown form field, did you mean 'alias'?"),
        ("Alias", "did you mean 'alias'?"),
        ("sha_256", "did you mean 'sha256'?"),
        ("note", "expected alias, files, sha256"),
    ],
)
def test_a_form_field_that_nobody_knows_is_refused_and_nothing_moves(
    server: RunningServer, parts: Parts, field: str, mention: str
) -> None:
    form = [*parts, (field, (None, b"canary"))]
    refused = server.client.post("/tasks/sentiment/versions", files=form)
    check_problem(refused, 422, "invalid_request", mention, "got 'canary'")
    assert _production(server) == 1
    assert len(server.client.get("/tasks/sentiment").json()["versions"]) == 1


@pytest.mark.parametrize(
    ("method", "path", "mention"),
    [
        ("GET", "/usage?since=2026-01-01", "query.since: unknown query parameter; expected from, task, tenant, to"),
        ("GET", "/usage?form=2026-01-01", "did you mean 'from'?"),
        ("GET", "/tasks/sentiment/history?limits=1", "did you mean 'limit'?"),
        ("GET", "/tasks/sentiment/history?limit=1&limit=2", "query.limit: query parameter given 2 times"),
        ("GET", "/admin/audit?SINCE=1", "did you mean 'since'?"),
        ("GET", "/healthz/ready?verbose=1", "this route reads none"),
        ("GET", "/metrics?name[]=up", "this route reads none"),
        ("POST", "/classify/sentiment?top_k=1", "'top_k' is a member of the JSON body"),
    ],
)
def test_a_query_parameter_that_nobody_knows_is_refused(
    server: RunningServer, method: str, path: str, mention: str
) -> None:
    refused = server.client.request(method, path, json={"inputs": "x"} if method == "POST" else None)
    check_problem(refused, 422, "invalid_request", mention)


@pytest.mark.parametrize("path", ["/v1/models?limit=1", "/tei/sentiment/info?raw=1", "/v2/models/sentiment?x=1"])
def test_a_compatible_api_refuses_it_in_its_own_form(server: RunningServer, path: str) -> None:
    refused = server.client.get(path)
    assert refused.status_code == 422
    assert "unknown query parameter" in str(refused.json()["error"])


@pytest.mark.parametrize(
    ("path", "header", "mention"),
    [
        ("/predict", "X-Superpos-Taks", "did you mean 'x-superpos-task'?"),
        ("/tei/sentiment/predict", "X-Superpos-Task", "this route reads none"),
    ],
)
def test_a_header_of_ours_that_the_route_does_not_read_is_refused(
    server: RunningServer, path: str, header: str, mention: str
) -> None:
    refused = server.client.post(path, json={"inputs": "x"}, headers={header: "sentiment"})
    assert refused.status_code == 422
    assert mention in refused.json()["error"]


def test_a_body_of_a_route_that_reads_none_is_refused(server: RunningServer) -> None:
    for path in ("/tasks/sentiment/aliases/production", "/tasks/sentiment/traffic"):
        refused = server.client.request("DELETE", path, json={"expected": 7})
        check_problem(refused, 422, "invalid_request", path, "has a body")
    assert _production(server) == 1


@pytest.mark.slow
def test_no_route_can_leave_the_check_out(server: RunningServer) -> None:
    assert isinstance(server.app, FastAPI)
    paths = server.app.openapi()["paths"]
    assert len(paths) > 30
    answered = 0
    for path, operations in paths.items():
        for method in operations:
            filled = path.replace("{version}", "1").replace("{", "").replace("}", "")
            body = {} if method in ("post", "put", "patch") else None
            response = server.client.request(method, f"{filled}?nobody-knows-this=1", json=body)
            if response.status_code == 415:  # the upload, which the tests above send
                continue
            answered += 1
            assert response.status_code == 422, f"{method} {path}: {response.text}"
            assert "nobody-knows-this" in response.text
    assert answered > 35
